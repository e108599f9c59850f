"""podman's `--runtime` on runc and on pyrunc: the same tests, so that podman can't tell them apart (S081, S101)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from support.podman import Podman
from support.screen import Screen

IMAGE = "busybox"


@pytest.fixture(scope="module", params=["runc", "pyrunc"])
def podman(request):
    folder = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    made = Podman(folder, request.param)
    yield made
    made.close()
    shutil.rmtree(folder)  # noqa: TID251 - a folder of the test's own


@pytest.fixture
def sleeper(podman):
    """The name of a container that sleeps, with limits."""
    podman.detached(
        "--name", "sleeper", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", IMAGE, "sleep", "100"
    )
    yield "sleeper"
    podman("rm", "-f", "-t", "0", "sleeper")


def wait_state(podman, name, wanted):
    deadline = time.monotonic() + 10
    while (found := podman.inspect(name)["State"]["Status"]) != wanted:
        assert time.monotonic() < deadline, f"{name} is {found}, not {wanted}"
        time.sleep(0.05)


def test_run_gives_output_errors_and_status(podman):
    done = podman.run(IMAGE, "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 42)


def test_stdin_reaches_the_container_to_its_end(podman):
    text = "".join(f"line {number}\n" for number in range(5000))
    assert podman.run("-i", IMAGE, "cat", stdin=text).stdout == text


def test_network_host_shares_the_callers(podman):
    def links(*words):
        return re.findall(
            r"^\s*(\w+):", podman("run", "--rm", *words, IMAGE, "cat", "/proc/net/dev").stdout, re.MULTILINE
        )

    assert links("--network", "host") == re.findall(
        r"^\s*(\w+):", podman.machine("cat", "/proc/net/dev").stdout, re.MULTILINE
    )
    assert "lo" in links("--network", "none")


@contextlib.contextmanager
def on_screen(podman, *words):
    """podman on a terminal of its own."""
    screen = Screen(podman.argv(*words), podman.environment)
    try:
        yield screen
    finally:
        screen.process.kill()
        screen.process.wait()
        screen.close()


def inner(process):
    """The host's pid of what nsenter runs: a signal to nsenter doesn't reach it."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def test_terminal_has_a_size_and_takes_what_is_typed(podman):
    with on_screen(podman, "run", "--rm", "-it", "--network", "none", IMAGE, "sh") as screen:
        screen.type("tty; stty size; echo e''nd\n")
        assert "33 77" in screen.wait_for(r"end\r")
        assert "/dev/pts/0" in screen.text
        screen.resize(40, 100)
        os.kill(inner(screen.process), signal.SIGWINCH)
        screen.type("sleep 0.5; stty size\n")
        screen.wait_for("40 100")
        screen.type("exit 7\n")
        assert screen.process.wait(20) == 7


def test_terminal_without_one_at_the_caller(podman):
    assert podman.run("-t", IMAGE, "tty").stdout == "/dev/pts/0\r\n"


def test_exec_gives_output_and_status(podman, sleeper):
    done = podman("exec", sleeper, "sh", "-c", "echo in; exit 4")
    assert (done.stdout, done.returncode) == ("in\n", 4)


def test_exec_takes_user_environment_folder_and_stdin(podman, sleeper):
    flags = ["-i", "--user", "web", "--workdir", "/tmp", "--env", "A=b"]
    done = podman("exec", *flags, sleeper, "sh", "-c", "id -u; pwd; echo $A; cat", stdin="typed\n")
    assert done.stdout == "1000\n/tmp\nb\ntyped\n", done


def test_exec_on_a_terminal(podman, sleeper):
    with on_screen(podman, "exec", "-it", sleeper, "sh") as screen:
        screen.type("tty; stty size; exit 5\n")
        screen.wait_for(r"/dev/pts/\d+\r\n33 77")
        assert screen.process.wait(20) == 5


def test_exec_in_the_background(podman, sleeper):
    podman.ok("exec", "-d", sleeper, "sh", "-c", "echo done > /tmp/mark; sleep 50")
    deadline = time.monotonic() + 10
    while (done := podman("exec", sleeper, "cat", "/tmp/mark")).stdout != "done\n":
        assert time.monotonic() < deadline, done
        time.sleep(0.05)
    assert "sleep 50" in podman.ok("top", sleeper, "args")


def test_exec_of_what_is_not_there(podman, sleeper):
    done = podman("exec", sleeper, "nosuch")
    assert done.returncode == 127
    assert 'exec: "nosuch": executable file not found in $PATH' in done.stderr
    done = podman("exec", sleeper, "/etc")
    assert done.returncode == 126 or says_that_it_is_a_folder(podman, done)


def says_that_it_is_a_folder(podman, done):
    """What runc does when it was made by Go 1.21 or newer; podman, which knows other words, then has no status for it."""
    return podman.runtime == "runc" and 'exec: "/etc": is a directory' in done.stderr


def test_limits_are_in_the_cgroup(podman, sleeper):
    path = podman.ok("exec", sleeper, "cat", "/proc/self/cgroup").splitlines()[-1].split(":")[2]
    for controller, names, wanted in (
        ("memory", ("memory.limit_in_bytes", "memory.max"), {"67108864"}),
        ("cpu", ("cpu.cfs_quota_us", "cpu.max"), {"50000", "50000 100000"}),
        ("pids", ("pids.max",), {"50"}),
    ):
        found = [
            podman.machine.cgroup_value(path, controller, name)
            for name in names
            if (Path("/sys/fs/cgroup") / controller / path.lstrip("/") / name).exists()
            or (Path("/sys/fs/cgroup") / path.lstrip("/") / name).exists()
        ]
        assert set(found) <= wanted, (controller, found)
        assert found, controller


def test_update_changes_a_limit(podman, sleeper):
    podman.ok("update", "--cpus", "0.25", sleeper)
    path = podman.ok("exec", sleeper, "cat", "/proc/self/cgroup").splitlines()[-1].split(":")[2]
    name = "cpu.cfs_quota_us" if Path("/sys/fs/cgroup/cpu").is_dir() else "cpu.max"
    assert podman.machine.cgroup_value(path, "cpu", name).split()[0] == "25000"


def test_stats_and_top(podman, sleeper):
    assert "64" in podman.ok(
        "stats", "--no-stream", "--format", "{{.MemLimit}}", sleeper
    ) or "67.11MB" in podman.ok("stats", "--no-stream", "--format", "{{.MemLimit}}", sleeper)
    assert podman.ok("top", sleeper, "pid", "args").split("\n")[1].split() == ["1", "sleep", "100"]


def test_pause_and_unpause(podman, sleeper):
    podman.ok("pause", sleeper)
    assert podman.inspect(sleeper)["State"]["Status"] == "paused"
    podman.ok("unpause", sleeper)
    assert podman.inspect(sleeper)["State"]["Status"] == "running"
    assert podman.ok("exec", sleeper, "echo", "again") == "again\n"


@pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("15", 143), ("USR1", 138)])
def test_kill_gives_the_signals_status(podman, sleeper, signal, code):
    # As PID 1 of its own namespace sleep would ignore what it does not handle.
    podman.ok("rm", "-f", "-t", "0", sleeper)
    podman.detached("--name", sleeper, "--pid", "host", IMAGE, "sleep", "100")
    podman.ok("kill", "--signal", signal, sleeper)
    assert podman.ok("wait", sleeper).strip() == str(code)
    wait_state(podman, sleeper, "exited")
    podman.ok("rm", sleeper)


def test_stop_waits_and_then_kills(podman, sleeper):
    podman.ok("stop", "-t", "1", sleeper)
    assert podman.inspect(sleeper)["State"]["ExitCode"] == 137


def test_a_stopped_container_starts_again(podman):
    podman.ok("create", "--name", "twice", "--network", "none", IMAGE, "sh", "-c", "echo x >> /f; cat /f")
    assert podman.ok("start", "-a", "twice") == "x\n"
    assert podman.ok("start", "-a", "twice") == "x\nx\n"
    assert podman.ok("logs", "twice").count("x") == 3
    podman.ok("rm", "twice")


def test_restart(podman, sleeper):
    before = podman.inspect(sleeper)["State"]["Pid"]
    podman.ok("restart", "-t", "0", sleeper)
    assert podman.inspect(sleeper)["State"]["Pid"] not in (0, before)


def test_remove_by_force_leaves_nothing(podman):
    id_ = podman.detached(IMAGE, "sh", "-c", "sleep 100 & sleep 100")
    podman.ok("rm", "-f", "-t", "0", id_)
    assert id_ not in podman.ok("ps", "-a", "-q", "--no-trunc")
    assert list(Path("/sys/fs/cgroup").glob(f"*/libpod_parent/libpod-{id_}*")) == []


def test_memory_limit_kills(podman):
    done = podman(
        "run", "--name", "big", "--network", "none", "--memory", "16m", "--memory-swap", "16m", IMAGE, "tail", "/dev/zero"
    )  # fmt: skip
    assert done.returncode == 137, done
    podman.ok("rm", "big")
    podman.machine("rm", "-f", "/oom")  # conmon 2.1.6 leaves its mark in the folder it stands in


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/nosuch", 127, 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("/etc", 126, "permission denied"),
    ],
)
def test_what_cannot_be_run_says_so_in_words_that_podman_knows(podman, command, code, text):
    done = podman.run(IMAGE, command)
    assert done.returncode == code, done
    if command == "/etc" and says_that_it_is_a_folder(podman, done):
        return
    assert text in done.stderr
    kind = "permission denied" if code == 126 else "attempted to invoke a command that was not found"
    assert f"OCI {kind}" in done.stderr or f"OCI runtime {kind}" in done.stderr


def test_a_folder_that_is_not_there_is_named(podman):
    done = podman.run("--workdir", "/etc/passwd", IMAGE, "true")
    assert done.returncode != 0
    assert "/etc/passwd" in done.stderr


def test_security_flags(podman):
    flags = [
        "--read-only",
        "--cap-drop",
        "all",
        "--cap-add",
        "NET_RAW",
        "--security-opt",
        "no-new-privileges",
    ]
    script = "grep -E '^(CapEff|CapInh|NoNewPrivs|Seccomp):' /proc/self/status; touch /x"
    done = podman.run(*flags, IMAGE, "sh", "-c", script)
    assert done.stdout.split() == [
        *("CapInh:", "0" * 16, "CapEff:", "0000000000002000"),
        *("NoNewPrivs:", "1", "Seccomp:", "2"),
    ], done
    assert "Read-only file system" in done.stderr


def test_mounts_devices_and_names(podman):
    shared = podman.machine.folder / "shared"
    shared.mkdir(exist_ok=True)
    (shared / "f").write_text("host\n")
    flags = [
        *(
            "-v",
            f"{shared}:/v:ro",
            "--tmpfs",
            "/t:size=1m,mode=700",
            "--hostname",
            "named",
            "--device",
            "/dev/null:/dev/mine",
        ),
        *(
            "--user",
            "1000:33",
            "--ulimit",
            "nofile=100:100",
            "--ulimit",
            "nproc=100:100",
            "--sysctl",
            "kernel.msgmax=8000",
            "--env",
            "E=f",
        ),
    ]
    script = "cat /v/f; (echo > /v/f) 2>&1; df /t | tail -1; hostname; stat -c %t:%T /dev/mine; id -u; ulimit -n; cat /proc/sys/kernel/msgmax; echo $E"
    done = podman.run(*flags, IMAGE, "sh", "-c", script)
    lines = done.stdout.splitlines()
    assert lines[:1] == ["host"], done
    assert "Read-only file system" in lines[1]
    assert lines[2].split()[1] == "1024"
    assert lines[3:] == ["named", "1:3", "1000", "100", "8000", "f"]


def test_privileged(podman):
    done = podman.run(
        "--privileged",
        IMAGE,
        "sh",
        "-c",
        "grep -E '^(CapEff|Seccomp):' /proc/self/status; ls /dev/mem /dev/kmsg",
    )
    assert done.stdout.split()[3] == "0"
    assert int(done.stdout.split()[1], 16) & 1 << 21  # CAP_SYS_ADMIN


def test_user_namespace(podman):
    done = podman.run(
        "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", IMAGE, "cat", "/proc/self/uid_map"
    )
    assert done.stdout.split() == ["0", "100000", "65536"], done


def test_namespaces_of_another_container(podman, sleeper):
    done = podman(
        "run", "--rm", *("--pid", f"container:{sleeper}", "--network", f"container:{sleeper}"), IMAGE, "ps"
    )
    assert "sleep 100" in done.stdout, done


def test_health_checks_are_execs(podman):
    podman.detached(
        "--name",
        "healthy",
        "--health-cmd",
        "test -e /etc/passwd",
        "--health-interval",
        "disable",
        IMAGE,
        "sleep",
        "100",
    )
    assert podman("healthcheck", "run", "healthy").returncode == 0
    podman.ok("rm", "-f", "-t", "0", "healthy")


def test_a_second_engine_process_finds_what_the_first_started(podman, sleeper):
    root = podman.machine(
        "sh", "-c", f"ls -d /run/{podman.runtime}/* /run/runc/* 2>/dev/null; true"
    ).stdout.split()
    assert any(podman.inspect(sleeper)["Id"] in path for path in root), root
