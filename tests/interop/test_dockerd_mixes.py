"""All eight mixes of {containerd, shim, runc}, ours or Debian's, under a real dockerd: one smoke script for each (S007, S058)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from support.docker import Docker
from support.screen import Screen


@pytest.fixture(
    scope="module",
    params=[(daemon, shim) for daemon in ("real", "ours") for shim in ("real", "ours")],
    ids=lambda pair: f"{pair[0]}-containerd-{pair[1]}-shim",
)
def docker(request):
    folder = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    daemon, shim = request.param
    made = Docker(folder, containerd=daemon, shim=shim)
    yield made
    made.close()
    shutil.rmtree(folder)  # noqa: TID251 - a folder of the test's own


@pytest.fixture(params=["real-runc", "our-runc"])
def runtime(request, docker):
    """The flag that chooses the runtime; our shim takes the bare name for libcontainer in its own process."""
    ours = "runc" if docker.shim == "ours" else "pyrunc"
    yield f"--runtime={'stock' if request.param == 'real-runc' else ours}"
    docker.clean()


@contextlib.contextmanager
def on_screen(docker, *words):
    screen = Screen(docker.argv(*words), docker.environment)
    try:
        yield screen
    finally:
        screen.process.kill()
        screen.process.wait()
        screen.close()


def inner(process):
    """The host's pid of what nsenter runs."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def signal_until_resized(screen):
    """A newer docker gives the first size at the container's creation, which is before it listens to the signal."""
    deadline = time.monotonic() + 20
    while True:
        os.kill(inner(screen.process), signal.SIGWINCH)
        try:
            screen.wait_for("\nresized", 0.5)
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def foreground(docker, runtime):
    done = docker("run", "--rm", runtime, "busybox", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 42)
    assert docker("run", "--rm", "-i", runtime, "busybox", "cat", stdin="typed\n").stdout == "typed\n"


def terminal(docker, runtime):
    with on_screen(docker, "run", "--rm", "-it", runtime, "busybox", "sh") as screen:
        # docker tells the size after the start, and again until that is taken.
        screen.type("until stty size | grep -q 33; do sleep 0.1; done; stty size; tty; echo e''nd\n")
        assert "33 77" in screen.wait_for(r"end\r")
        assert "/dev/pts/0" in screen.text
        screen.resize(40, 100)
        screen.type("until stty size | grep -q 40; do sleep 0.1; done; echo re''sized; stty size\n")
        signal_until_resized(screen)
        screen.wait_for("40 100")
        screen.type("exit 7\n")
        assert screen.process.wait(20) == 7


def detached(docker, runtime):
    script = "echo begun; trap 'echo told; exit 9' TERM; while :; do sleep 0.1; done"
    docker.ok("run", "-d", "--name", "dd", "--memory", "64m", runtime, "busybox", "sh", "-c", script)
    wait_until(lambda: docker.ok("logs", "dd") == "begun\n")
    assert "Up" in docker.ok("ps", "--filter", "name=dd", "--format", "{{.Status}}")
    assert "trap" in docker.ok("top", "dd")
    assert "64MiB" in docker.ok("stats", "--no-stream", "--format", "{{.MemUsage}}", "dd")


def execs(docker):
    done = docker("exec", "dd", "sh", "-c", "echo in; exit 3")
    assert (done.stdout, done.returncode) == ("in\n", 3)
    done = docker(
        "exec",
        "-i",
        "-u",
        "web",
        "-w",
        "/tmp",
        "-e",
        "A=b",
        "dd",
        "sh",
        "-c",
        "id -u; pwd; echo $A; cat",
        stdin="x",
    )
    assert done.stdout == "1000\n/tmp\nb\nx"
    with on_screen(docker, "exec", "-it", "dd", "sh") as screen:
        screen.type("until stty size | grep -q 33; do sleep 0.1; done; stty size; exit 5\n")
        screen.wait_for("33 77")
        assert screen.process.wait(20) == 5
    done = docker("exec", "dd", "nosuch")
    assert done.returncode in (126, 127)  # 126 up to 20.10's command line
    assert "executable file not found in $PATH" in done.stdout + done.stderr


def pause_and_restart(docker):
    docker.ok("pause", "dd")
    assert docker.state("dd")["Status"] == "paused"
    docker.ok("unpause", "dd")
    before = docker.state("dd")["Pid"]
    docker.ok("update", "--pids-limit", "30", "dd")
    docker.ok("restart", "-t", "10", "dd")
    assert docker.state("dd")["Pid"] not in (0, before)
    wait_until(lambda: docker.ok("logs", "dd") == "begun\ntold\nbegun\n")


def stop_and_remove(docker):
    docker.ok("stop", "-t", "10", "dd")
    assert (docker.state("dd")["Status"], docker.state("dd")["ExitCode"]) == ("exited", 9)
    docker.ok("start", "dd")
    docker.ok("kill", "dd")
    assert docker.ok("wait", "dd") == "137\n"
    docker.ok("rm", "dd")
    assert docker.ok("ps", "-aq") == ""


def failures(docker, runtime):
    done = docker("run", "--rm", runtime, "busybox", "nosuch")
    assert done.returncode == 127, done
    assert 'exec: "nosuch": executable file not found in $PATH: unknown' in done.stderr
    done = docker("run", "--rm", runtime, "busybox", "/etc/passwd")
    assert done.returncode == 126, done
    assert "permission denied: unknown" in done.stderr
    done = docker(
        "run",
        "--rm",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        "--name",
        "big",
        runtime,
        "busybox",
        "tail",
        "/dev/zero",
    )
    assert done.returncode == 137, done


def test_one_smoke_script_passes_on_every_mix(docker, runtime):
    foreground(docker, runtime)
    terminal(docker, runtime)
    detached(docker, runtime)
    execs(docker)
    pause_and_restart(docker)
    stop_and_remove(docker)
    failures(docker, runtime)


def test_the_kernels_kill_for_memory_is_told(docker, runtime):
    # The real shim waits for the kill beside the exit, and forgets it when the task was deleted first: it may try again.
    for _ in range(1 if docker.shim == "ours" else 5):
        docker.clean()
        limits = ("--memory", "16m", "--memory-swap", "16m")
        docker("run", *limits, "--name", "big", runtime, "busybox", "tail", "/dev/zero")
        state = docker.state("big")
        if state["OOMKilled"]:
            break
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)


def test_the_programs_are_the_ones_that_were_asked_for(docker, runtime):
    docker.ok("run", "-d", "--name", "who", runtime, "busybox", "sleep", "100")
    pid = docker.state("who")["Pid"]
    parent = docker.machine("ps", "-o", "ppid=", "-p", str(pid)).stdout.strip()
    program = docker.machine("readlink", f"/proc/{parent}/exe").stdout
    assert ("python" in program) is (docker.shim == "ours"), program
