"""exec: another process in a running container.

Spec: runtime-spec config.md#process
"""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def running(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    return runtime


def test_exec_passes_output_and_exit_code_through(running):
    done = running("exec", "c", "sh", "-c", "echo hi; exit 5")
    assert (done.code, done.out) == (5, "hi\n")


def test_a_killed_process_is_128_plus_signal(running):
    assert running("exec", "c", "sh", "-c", "kill -9 $$").code == 137


def test_exec_is_in_all_namespaces_and_cgroups_of_the_container(running):
    script = "for n in ipc mnt net pid uts; do readlink /proc/$0/ns/$n; done; cat /proc/$0/cgroup"
    assert (
        running.ok("exec", "c", "sh", "-c", script, "self").out
        == running.ok("exec", "c", "sh", "-c", script, "1").out
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/etc"], 'exec: "/etc": permission denied'),
    ],
)
def test_a_missing_program_exits_255_with_runcs_words(running, words, text):
    done = running("exec", "c", *words)
    assert done.code == 255
    assert f"exec failed: unable to start container process: {text}" in done.err.replace('\\"', '"')


def test_user_groups_cwd_and_env(running):
    done = running.ok(
        "exec",
        "--user",
        "1000:1001",
        "--additional-gids",
        "3000",
        "--cwd",
        "/tmp",
        "--env",
        "A=b",
        "c",
        "sh",
        "-c",
        "id -u; id -g; id -G; pwd; echo $A",
    )
    lines = done.out.split("\n")
    assert lines[:2] == ["1000", "1001"]
    assert "3000" in lines[2].split()
    assert lines[3:5] == ["/tmp", "b"]


@pytest.mark.parametrize(
    "user", ["abc", "+1", "1 ", "1_0", "0x1", "4294967295", "4294967297", "1:", ":1", ""]
)
def test_an_odd_user_is_never_root(running, user):
    """R14."""
    done = (
        running("exec", "--user", user, "c", "id", "-u")
        if user
        else running("exec", "--user", "-1", "c", "id", "-u")
    )
    assert done.code != 0 or done.out.strip() == "1", done
    assert done.out.strip() != "0"


def test_process_json(running, short_tmp):
    process = {
        "args": ["sh", "-c", "id -u; pwd; grep NoNewPrivs /proc/self/status"],
        "cwd": "/etc",
        "env": ["PATH=/bin"],
        "user": {"uid": 5, "gid": 5},
        "noNewPrivileges": True,
    }
    (short_tmp / "p.json").write_text(json.dumps(process))
    done = running.ok("exec", "--process", str(short_tmp / "p.json"), "c")
    assert done.out.split() == ["5", "/etc", "NoNewPrivs:", "1"]


def test_detached_exec_writes_its_pid(running, short_tmp):
    pid_file = short_tmp / "exec.pid"
    running.detached("exec", "--detach", "--pid-file", str(pid_file), "c", "sleep", "100")
    assert int(pid_file.read_text()) in json.loads(running.ok("ps", "--format", "json", "c").out)


def test_cap_adds_a_capability(running):
    plain = running.ok("exec", "c", "grep", "CapEff", "/proc/self/status").out.split()[1]
    more = running.ok(
        "exec", "--cap", "CAP_SYS_ADMIN", "c", "grep", "CapEff", "/proc/self/status"
    ).out.split()[1]
    assert int(more, 16) == int(plain, 16) | 1 << 21


def test_exec_in_a_stopped_container_fails(runtime, bundle):
    runtime.ok("run", "--keep", "--bundle", str(bundle.args("true").build()), "c")
    done = runtime("exec", "c", "true")
    assert done.code == 255
    assert "cannot exec in a stopped container" in done.err


def test_exec_in_a_paused_container_fails_unless_told_to(running):
    running.ok("pause", "c")
    done = running("exec", "c", "true")
    assert done.code == 255
    assert "cannot exec in a paused container" in done.err
    running.ok("resume", "c")


@pytest.mark.requires("userns")
def test_exec_in_a_user_namespace(runtime, bundle):
    runtime.start_detached(bundle.with_userns().args("sleep", "100").build())
    done = runtime.ok("exec", "c", "sh", "-c", "id -u; cat /proc/self/uid_map")
    assert done.out.split() == ["0", "0", "100000", "65536"]


def test_exec_uses_the_containers_seccomp_filter(runtime, bundle):
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    runtime.start_detached(bundle.args("sleep", "100").build())
    done = runtime("exec", "c", "mkdir", "/dev/x")
    assert done.code == 1
    assert "not supported" in done.err


def test_no_such_container(runtime):
    done = runtime("exec", "nope", "true")
    assert done.code == 255
    assert "exec failed: container does not exist" in done.err
