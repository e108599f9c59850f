"""create, start, run, kill: the states of a container and what each verb says in the wrong one.

Spec: runtime-spec runtime.md#lifecycle; walkthrough S083 S087 S098 S101
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from pycontainerd.lib.linux.prctl import set_child_subreaper


def test_run_passes_output_and_exit_code_through(runtime, bundle):
    done = runtime.run(bundle.sh("echo out; echo err >&2; exit 7").build())
    assert (done.code, done.out, done.err) == (7, "out\n", "err\n")


def test_run_of_a_killed_process_exits_with_128_plus_signal(runtime, bundle):
    assert runtime.run(bundle.without_namespace("pid").sh("kill -9 $$").build()).code == 137


def test_run_leaves_nothing_behind(runtime, bundle):
    runtime.run(bundle.args("true").build())
    assert [entry for entry in runtime.root.iterdir() if entry.is_dir()] == []


def test_run_with_keep_leaves_a_stopped_container(runtime, bundle):
    runtime.ok("run", "--keep", "--bundle", str(bundle.args("true").build()), "c")
    assert runtime.state()["status"] == "stopped"


def test_stdin_reaches_the_process(runtime, bundle):
    assert runtime.run(bundle.args("cat").build(), stdin="hello").out == "hello"


def test_create_start_kill_delete(runtime, bundle):
    runtime.create(bundle.args("sleep", "100").build())
    assert runtime.state()["status"] == "created"
    runtime.ok("start", "c")
    assert runtime.state()["status"] == "running"
    runtime.ok("kill", "c", "KILL")
    runtime.wait_status("stopped")
    assert runtime.state()["pid"] == 0
    runtime.ok("delete", "c")
    assert "container does not exist" in runtime("state", "c").err


def test_a_created_container_has_not_run_its_program(runtime, bundle):
    path = bundle.writable().args("touch", "/ran").build()
    runtime.create(path)
    assert not (path / "rootfs/ran").exists()
    runtime.ok("start", "c")
    runtime.wait_status("stopped")
    assert (path / "rootfs/ran").exists()


def test_start_of_a_running_container_fails(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    done = runtime("start", "c")
    assert done.code == 1
    assert "cannot start an already running container" in done.err


def test_start_of_a_stopped_container_fails(runtime, bundle):
    runtime.create(bundle.args("sleep", "100").build())
    runtime.ok("kill", "c", "KILL")
    runtime.wait_status("stopped")
    done = runtime("start", "c")
    assert done.code == 1
    assert "cannot start a container that has stopped" in done.err


def test_create_twice_with_one_id_fails_and_keeps_the_first(runtime, bundle):
    path = bundle.args("sleep", "100").build()
    runtime.create(path)
    done = runtime("create", "--bundle", str(path), "c")
    assert done.code == 1
    assert "container with given ID already exists" in done.err
    assert runtime.state()["status"] == "created"


@pytest.mark.parametrize(("signal", "shown"), [("TERM", "15"), ("SIGUSR1", "10"), ("12", "12")])
def test_kill_takes_names_and_numbers(runtime, bundle, signal, shown):
    script = (
        f"trap 'echo got {shown} > /tmp/got; exit 0' {shown}; touch /tmp/up; while :; do sleep 0.05; done"
    )
    path = bundle.writable().sh(script).build()
    runtime.start_detached(path)
    while not (path / "rootfs/tmp/up").exists():
        pass
    runtime.ok("kill", "c", signal)
    runtime.wait_status("stopped")
    assert (path / "rootfs/tmp/got").read_text() == f"got {shown}\n"


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP", "QUIT"])
def test_a_created_container_ends_at_a_signal(runtime, bundle, signal):
    runtime.create(bundle.build())
    runtime.ok("kill", "c", signal)
    runtime.wait_status("stopped")
    runtime.ok("delete", "c")


def test_kill_of_an_unknown_signal_fails(runtime, bundle):
    runtime.create(bundle.build())
    done = runtime("kill", "c", "NOSUCH")
    assert done.code == 1
    assert "unknown signal" in done.err
    assert "NOSUCH" in done.err


def test_kill_of_a_stopped_container_fails(runtime, bundle):
    runtime.ok("run", "--keep", "--bundle", str(bundle.args("true").build()), "c")
    done = runtime("kill", "c", "TERM")
    assert done.code == 1
    assert "container not running" in done.err


def test_kill_all_reaches_every_process(runtime, bundle):
    runtime.start_detached(bundle.without_namespace("pid").sh("sleep 100 & sleep 100 & wait").build())
    while len(json.loads(runtime.ok("ps", "--format", "json", "c").out)) < 3:
        pass
    runtime.ok("kill", "--all", "c", "KILL")
    runtime.wait_status("stopped")


def test_pause_and_resume(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    runtime.ok("pause", "c")
    assert runtime.state()["status"] == "paused"
    assert runtime("pause", "c").code == 1
    runtime.ok("resume", "c")
    assert runtime.state()["status"] == "running"
    done = runtime("resume", "c")
    assert done.code == 1
    assert "container not paused" in done.err


def test_pid_file_holds_the_pid_without_a_newline(runtime, bundle, short_tmp):
    runtime.create(bundle.build(), "c", "--pid-file", str(short_tmp / "init.pid"))
    assert (short_tmp / "init.pid").read_text() == str(runtime.pid())


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/nosuch"], 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        (["/etc"], 'exec: "/etc": permission denied'),
    ],
)
def test_a_missing_program_fails_create_with_runcs_words(runtime, bundle, args, text):
    done = runtime("create", "--bundle", str(bundle.args(*args).build()), "c")
    assert done.code == 1
    assert f"runc create failed: unable to start container process: {text}" in done.err.replace('\\"', '"')
    assert runtime("state", "c").code == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s["process"].update(args=[]), "args must not be empty"),
        (lambda s: s["process"].update(cwd="x"), "Cwd must be an absolute path"),
        (lambda s: s.pop("process"), "process property must not be empty"),
        (lambda s: s.pop("root"), "root must be specified"),
        (lambda s: s["root"].update(path="nope"), "invalid rootfs: stat"),
        (lambda s: s["linux"]["namespaces"].append({"type": "pid"}), "malformed spec file: duplicated ns"),
        (lambda s: s["linux"]["namespaces"].append({"type": "foo"}), "does not exist"),
        (
            lambda s: s["process"].update(rlimits=[{"type": "RLIMIT_X", "hard": 1, "soft": 1}]),
            "wrong rlimit value",
        ),
        (lambda s: s["linux"].update(sysctl={"kernel.foo": "1"}), "is not in a separate kernel namespace"),
        (lambda s: s["linux"].update(rootfsPropagation="foo"), "rootfsPropagation=foo is not supported"),
        (lambda s: s["process"].update(selinuxLabel="x"), "selinux is disabled or not supported"),
        (lambda s: s["process"].update(env=["PATH=/bin", "X"]), "invalid environment variable: "),
        (lambda s: s["process"].update(env=["=x"]), "name can"),
        (
            lambda s: s["process"].update(rlimits=[{"type": "RLIMIT_CORE", "hard": 1, "soft": 2}]),
            "init: error setting rlimits for ready process: error setting rlimit type 4: invalid argument",
        ),
        (
            lambda s: s["linux"].setdefault("resources", {}).update(devices=[{"allow": True, "type": "c"}]),
            "device access at 0 field cannot be empty",
        ),
        (
            lambda s: (
                s["linux"]
                .setdefault("resources", {})
                .update(
                    devices=[{"allow": False, "access": "rwm"}, {"allow": True, "type": "x", "access": "r"}]
                )
            ),
            'invalid cgroup device type "x"',
        ),
        (
            lambda s: s["process"].update(capabilities={"effective": ["CAP_CHOWN"]}),
            "unable to apply caps: ",
        ),
        (
            lambda s: s["mounts"].append(
                {"destination": "/x", "type": "bind", "source": "/nosuch", "options": ["bind"]}
            ),
            'error mounting "/nosuch" to rootfs at "/x": stat /nosuch: no such file or directory',
        ),
    ],
)
def test_a_bad_config_fails_with_runcs_words_and_leaves_nothing(runtime, bundle, change, text):
    change(bundle.spec)
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert text in done.err.replace('\\"', '"')
    assert "runc run failed: " in done.err
    assert [entry for entry in runtime.root.glob("*") if entry.is_dir()] == []


def test_a_bad_word_of_seccomp_fails_and_leaves_nothing(runtime, bundle):
    rule = {"names": ["uname"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "X"}]}
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "runc run failed: string X is not a valid operator for seccomp" in done.err
    assert [entry for entry in runtime.root.glob("*") if entry.is_dir()] == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": 1}'])
def test_a_config_that_is_no_spec_fails(runtime, bundle, text):
    path = bundle.build()
    (path / "config.json").write_text(text)
    done = runtime.run(path)
    assert done.code == 1
    assert "runc run failed: " in done.err


def test_a_bundle_without_config_fails(runtime, short_tmp):
    done = runtime.run(short_tmp)
    assert done.code == 1
    assert "JSON specification file config.json not found" in done.err


def test_hostname_rlimits_oom_score_and_umask_are_set(runtime, bundle):
    bundle.spec["hostname"] = "spam"
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]
    bundle.process["oomScoreAdj"] = 321
    bundle.process["user"]["umask"] = 0o027
    done = runtime.run(
        bundle.sh("hostname; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; umask").build()
    )
    assert done.out.split() == ["spam", "77", "88", "321", "0027"]


def test_environment_is_the_configs_with_home_added(runtime, bundle):
    bundle.process["env"] = ["PATH=/bin", "A=1"]
    done = runtime.run(bundle.args("env").build(), env={"SECRET": "x"})
    assert sorted(done.out.split()) == ["A=1", "HOME=/root", "PATH=/bin"]


def test_of_a_name_that_comes_twice_the_last_one_counts(runtime, bundle):
    bundle.process["env"] = ["PATH=/bin", "A=1", "B=x", "A=2"]
    assert sorted(runtime.run(bundle.args("env").build()).out.split()) == [
        "A=2",
        "B=x",
        "HOME=/root",
        "PATH=/bin",
    ]


def test_sysctl_of_the_network_namespace_is_written(runtime, bundle):
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "111"}
    done = runtime.run(bundle.args("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni").build())
    assert done.out.split() == ["1", "111"]


def test_a_joined_network_namespace_is_joined(runtime, bundle):
    holder = subprocess.Popen(["unshare", "--net", "sleep", "100"])
    try:
        while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        wanted = os.readlink(f"/proc/{holder.pid}/ns/net")
        bundle.with_namespace("network", f"/proc/{holder.pid}/ns/net")
        assert runtime.run(bundle.args("readlink", "/proc/self/ns/net").build()).out.strip() == wanted
    finally:
        holder.kill()
        holder.wait()


def test_preserved_fds_reach_the_process(runtime, bundle):
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"through\n")
    os.close(write_fd)
    try:
        # The runtime's descriptor 3 is ours, whatever its number here.
        script = (
            f'exec {runtime.path} --root {runtime.root} run --preserve-fds 1 --bundle "$0" c 3<&{read_fd}'
        )
        path = bundle.sh("cat <&3").build()
        done = subprocess.run(
            ["bash", "-c", script, str(path)], pass_fds=[read_fd], capture_output=True, text=True, check=False
        )
        assert done.stdout == "through\n", done
    finally:
        os.close(read_fd)


@pytest.mark.requires("userns")
def test_user_namespace_maps_root(runtime, bundle):
    path = (
        bundle.with_userns()
        .sh("id -u; cat /proc/self/uid_map; touch /tmp/x; stat -c %u /tmp/x")
        .writable()
        .build()
    )
    done = runtime.run(path)
    assert done.out.split() == ["0", "0", "100000", "65536", "0"], done
    assert os.stat(path / "rootfs/tmp/x").st_uid == 100000


def test_a_signal_to_run_reaches_the_container(runtime, bundle):
    path = bundle.writable().sh("trap 'exit 9' TERM; touch /tmp/up; while :; do sleep 0.05; done").build()
    running = subprocess.Popen(runtime.argv("run", "--bundle", str(path), "c"))
    while not (path / "rootfs/tmp/up").exists():
        pass
    running.terminate()
    assert running.wait(10) == 9


@pytest.mark.requires("strace")
def test_start_succeeds_however_quickly_the_container_ends(runtime, bundle):
    """buildah's RUN of a short step: init may have run and be reaped while `start` still makes its calls."""
    set_child_subreaper(True)
    try:
        runtime.create(bundle.args("true").build())
        late = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=pidfd_open:delay_enter=1000000"]
        starting = subprocess.Popen([*late, *runtime.argv("start", "c")], stderr=subprocess.PIPE, text=True)
        assert os.waitpid(runtime.pid(), 0)[1] == 0
        assert starting.communicate(timeout=30)[1] == ""
        assert starting.returncode == 0
    finally:
        set_child_subreaper(False)
