"""Properties of config.json and flags that no other test's story needs: one short test each.

Spec: runtime-spec config.md, config-linux.md; runc's command line
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import time

import pytest

from support.runtime import ours_only


@ours_only("domainname")
def test_domainname(runtime, bundle):
    bundle.spec["domainname"] = "here.example"
    assert runtime.run(bundle.args("cat", "/proc/sys/kernel/domainname").build()).out == "here.example\n"


def test_an_apparmor_profile_without_apparmor_is_an_error(runtime, bundle):
    if os.path.isdir("/sys/kernel/security/apparmor"):
        pytest.skip("has AppArmor")
    bundle.process["apparmorProfile"] = "some-profile"
    done = runtime.run(bundle.args("true").build())
    assert done.code == 1
    assert "apparmor" in done.err


def test_a_device_has_owner_and_mode(runtime, bundle):
    device = {
        "path": "/dev/mine",
        "type": "c",
        "major": 1,
        "minor": 7,
        "fileMode": 0o640,
        "uid": 1000,
        "gid": 33,
    }
    bundle.linux["devices"] = [device]
    done = runtime.run(bundle.args("stat", "-c", "%t:%T %a %u:%g %F", "/dev/mine").build())
    assert done.out == "1:7 640 1000:33 character special file\n"


@pytest.mark.parametrize(("kind", "shown"), [("p", "fifo"), ("b", "block special file")])
def test_other_kinds_of_devices(runtime, bundle, kind, shown):
    bundle.linux["devices"] = [
        {"path": "/dev/mine", "type": kind, "major": 7, "minor": 200, "fileMode": 0o600}
    ]
    assert runtime.run(bundle.args("stat", "-c", "%F", "/dev/mine").build()).out == shown + "\n"


def root_tags(runtime, bundle, propagation):
    bundle.linux["rootfsPropagation"] = propagation
    lines = runtime.run(bundle.args("cat", "/proc/self/mountinfo").build()).out.splitlines()
    (root,) = [line for line in lines if line.split()[4] == "/"]
    return " ".join(root.split(" - ")[0].split()[6:])


@pytest.mark.parametrize("propagation", ["rslave", "rprivate", "private", "slave"])
def test_a_rootfs_that_does_not_spread(runtime, bundle, propagation):
    assert "shared:" not in root_tags(runtime, bundle, propagation)


@ours_only("rootfsPropagation is the root's own")
@pytest.mark.parametrize("propagation", ["rshared", "shared"])
def test_a_rootfs_that_spreads(runtime, bundle, propagation):
    assert "shared:" in root_tags(runtime, bundle, propagation)


def test_the_default_errno_of_a_filter(runtime, bundle):
    """The calls of busybox's mkdir are all there are, but for the one that makes the folder; and those of a runtime before it.

    Go's stops its own threads by signals when the machine is slow, and starts others.
    """
    allowed = (
        "execve brk mmap munmap mprotect arch_prctl set_tid_address set_robust_list rseq prlimit64 readlink readlinkat getrandom "
        "uname getuid geteuid prctl write writev close exit_group exit umask stat newfstatat openat open read fstat ioctl fcntl "
        "access faccessat tgkill nanosleep clock_nanosleep sched_yield madvise epoll_pwait futex rt_sigaction rt_sigprocmask sigaltstack getpid gettid poll "
        "rt_sigreturn clone clone3 mincore sched_getaffinity"
    )
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 95,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": allowed.split(), "action": "SCMP_ACT_ALLOW"}],
    }
    assert "not supported" in runtime.run(bundle.args("mkdir", "/dev/x").build()).err


@ours_only("personality")
@pytest.mark.parametrize(("domain", "machine"), [("LINUX", "x86_64"), ("LINUX32", "i686")])
def test_personality(runtime, bundle, domain, machine):
    if os.uname().machine != "x86_64":
        pytest.skip("needs x86_64")
    bundle.linux["personality"] = {"domain": domain}
    assert runtime.run(bundle.args("/bin/busybox", "uname", "-m").build()).out == machine + "\n"


@ours_only("personality")
def test_a_flag_of_personality_is_refused(runtime, bundle):
    """The specification knows none, so what was asked for can't be given."""
    bundle.linux["personality"] = {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}
    done = runtime.run(bundle.args("true").build())
    assert done.code == 1
    assert "linux.personality.flags: no flag is defined" in done.err
    bundle.linux["personality"]["flags"] = []
    assert runtime.run(bundle.args("true").build()).code == 0


@ours_only("time namespaces")
def test_monotonic_time_has_an_offset(runtime, bundle):
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 1000, "nanosecs": 5}}
    assert runtime.run(bundle.args("cat", "/proc/self/timens_offsets").build()).out.split()[:3] == [
        "monotonic",
        "1000",
        "5",
    ]


def test_no_new_keyring_keeps_the_callers(runtime, bundle):
    bundle.linux["maskedPaths"] = []
    # Keyrings of other containers are in sight, also of one that has just ended: the kernel collects them later.
    id = bundle.path.parent.name
    path = str(bundle.args("cat", "/proc/keys").build())
    assert f"_ses.{id}" in runtime.ok("run", "--bundle", path, id).out
    assert f"_ses.{id}b" not in runtime.ok("run", "--no-new-keyring", "--bundle", path, f"{id}b").out


def test_create_preserves_fds(runtime, bundle):
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"through\n")
    os.close(write_fd)
    bundle.sh("cat <&3 > /out")
    bundle.writable().build()

    def third() -> None:
        os.dup2(read_fd, 3)

    runtime.detached(
        "create", "--preserve-fds", "1", "--bundle", str(bundle.path), "c", preexec_fn=third, close_fds=False
    )
    os.close(read_fd)
    runtime.ok("start", "c")
    runtime.wait_status("stopped")
    assert (bundle.rootfs / "out").read_text() == "through\n"


@pytest.mark.parametrize("command", ["run", "exec"])
def test_sockets_that_the_service_manager_opened_are_passed_on(runtime, bundle, short_tmp, command):
    """sd_listen_fds(3): from descriptor 3 on, for the process whose number is 1 in its own namespace."""
    script = "echo $LISTEN_FDS $LISTEN_PID; readlink /proc/self/fd/3; readlink /proc/self/fd/4"
    path = short_tmp / "file"
    path.write_text("")
    words = ["run", "--preserve-fds", "1", "--bundle", str(bundle.sh(script).build()), "c"]
    if command == "exec":
        runtime.start_detached(bundle.args("sleep", "100").build())
        words = ["exec", "--preserve-fds", "1", "c", "sh", "-c", script]
    shell = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3</dev/null 4<{path}'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *runtime.argv(*words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    # Not for exec, which is nobody's service: --preserve-fds counts from 3 there.
    expected = ["1 1", "/dev/null", str(path)] if command == "run" else ["", "/dev/null"]
    assert done.stdout.splitlines() == expected, done.stderr


def test_sockets_for_another_process_are_not_taken(runtime, bundle):
    done = runtime.run(
        bundle.sh("echo ${LISTEN_FDS-none}").build(), env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    )
    assert (done.code, done.out) == (0, "none\n"), done


def test_exec_no_new_privs(runtime, bundle):
    bundle.process["noNewPrivileges"] = False
    runtime.start_detached(bundle.args("sleep", "100").build())
    line = ("grep", "NoNewPrivs", "/proc/self/status")
    assert runtime.ok("exec", "c", *line).out.split()[1] == "0"
    assert runtime.ok("exec", "--no-new-privs", "c", *line).out.split()[1] == "1"


@pytest.mark.parametrize(
    ("flag", "module", "folder"),
    [
        ("--apparmor", "apparmor", "/sys/kernel/security/apparmor"),
        ("--process-label", "selinux", "/sys/fs/selinux/class"),
    ],
)
def test_exec_with_a_label_of_a_module_that_is_off_fails(runtime, bundle, flag, module, folder):
    if os.path.isdir(folder):
        pytest.skip("has the module")
    runtime.start_detached(bundle.args("sleep", "100").build())
    done = runtime("exec", flag, "some", "c", "true")
    assert done.code == 255
    assert module in done.err


def test_exec_ignores_a_pause_only_when_told(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    runtime.ok("pause", "c")
    done = runtime("exec", "c", "true")
    assert done.code == 255
    assert "cannot exec in a paused container" in done.err
    # It waits, frozen in the container's cgroup, until that goes on.
    waiting = subprocess.Popen(runtime.argv("exec", "--ignore-paused", "c", "sh", "-c", "exit 4"))
    time.sleep(1)
    assert waiting.poll() is None
    runtime.ok("resume", "c")
    assert waiting.wait(20) == 4


@pytest.mark.requires("cgroup_v1")
def test_exec_into_a_sub_cgroup(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    made = f"/sys/fs/cgroup/pids{bundle.cgroup}/sub"
    os.mkdir(made)
    out = runtime.ok("exec", "--cgroup", "pids:sub", "c", "grep", ":pids:", "/proc/self/cgroup").out
    assert out.endswith(f"{bundle.cgroup}/sub\n")


def test_run_without_a_subreaper_still_ends_with_the_status(runtime, bundle):
    done = runtime("run", "--no-subreaper", "--bundle", str(bundle.sh("exit 6").build()), "c")
    assert done.code == 6


def test_spec_for_the_rootless(runtime, short_tmp):
    folder = short_tmp / "r"
    folder.mkdir()
    runtime.ok("spec", "--rootless", "--bundle", str(folder))
    spec = json.loads((folder / "config.json").read_text())
    kinds = [entry["type"] for entry in spec["linux"]["namespaces"]]
    assert "user" in kinds
    assert "network" not in kinds
    assert spec["linux"]["uidMappings"][0]["containerID"] == 0
    assert "resources" not in spec["linux"]


def test_spec_does_not_overwrite(runtime, short_tmp):
    (short_tmp / "config.json").write_text("mine")
    assert runtime("spec", "--bundle", str(short_tmp)).code == 1
    assert (short_tmp / "config.json").read_text() == "mine"


def test_text_and_json_logs(runtime, short_tmp):
    for style, mark in (("text", "level=error msg="), ("json", '"level":"error"')):
        log = short_tmp / style
        assert runtime("--log", str(log), "--log-format", style, "state", "nobody").code == 1
        assert mark in log.read_text()
    assert runtime("--log-format", "xml", "state", "nobody").code == 1


def test_debug_is_more_than_the_error(runtime, bundle, short_tmp):
    log = short_tmp / "log"
    path = bundle.args("true").build()
    runtime.ok("--debug", "--log", str(log), "--log-format", "json", "run", "--bundle", str(path), "c")
    levels = {json.loads(line)["level"] for line in log.read_text().splitlines()}
    assert "debug" in levels


def test_console_socket_file_is_left_alone(runtime, bundle, short_tmp):
    path = short_tmp / "console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        bundle.process["terminal"] = True
        runtime.create(bundle.args("true").build(), "c", "--console-socket", str(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
