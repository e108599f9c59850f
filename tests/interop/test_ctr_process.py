"""pyctr as the parent of a process: terminals, signals, stdin, attach, interrupted pulls, on both daemons."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import termios
import time

import pytest

from support.fake_registry import fake_registry
from support.screen import Screen

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]


@pytest.fixture(params=["our", "real"])
def stack(request: pytest.FixtureRequest, busybox: str):
    """Our daemon, then Debian's, with the busybox image."""
    daemon = request.getfixturevalue(f"{request.param}_stack")
    if busybox not in daemon.ctr("image", "ls", "-q").stdout:
        daemon.ctr("image", "pull", busybox)
    yield daemon
    daemon.ctr("task", "rm", "-f", "p1", check=False)
    daemon.ctr("container", "rm", "p1", check=False)


def test_s013_a_terminal_with_its_size_and_status(stack, busybox: str) -> None:
    screen = Screen(stack.command("pyctr", "run", "--rm", "-t", busybox, "p1", "sh"), stack.environment)
    try:
        screen.wait_for("# ")
        before = termios.tcgetattr(screen.slave_fd)
        screen.type("stty size; tty; echo $TERM\r")
        screen.wait_for(r"33 77\r\n.*/dev/pts/\d+\r\nxterm")
        screen.resize(44, 99)
        screen.process.send_signal(signal.SIGWINCH)
        time.sleep(0.3)
        screen.type("stty size\r")
        screen.wait_for("44 99")
        screen.type("exit 3\r")
        assert screen.process.wait(20) == 3
        assert termios.tcgetattr(screen.slave_fd)[3] != before[3]  # raw while it ran, put back afterwards
    finally:
        screen.close()


def test_ctrl_c_on_a_terminal_goes_to_the_container(stack, busybox: str) -> None:
    screen = Screen(stack.command("pyctr", "run", "--rm", "-t", busybox, "p1", "sh"), stack.environment)
    try:
        screen.wait_for("# ")
        screen.type("sleep 60; echo st=$?\r")
        time.sleep(0.3)
        screen.type("\x03")
        screen.wait_for("(?s)# .*# ", 10)
        screen.type("exit 4\r")
        assert screen.process.wait(20) == 4
    finally:
        screen.close()


def test_a_terminal_that_is_not_there_is_refused(stack, busybox: str) -> None:
    done = stack.pyctr("run", "--rm", "-t", busybox, "p1", "sh", check=False)
    assert (done.returncode, done.stderr) == (1, "ctr: provided file is not a console\n")
    assert stack.ctr("container", "ls", "-q").stdout == ""


def test_signals_are_passed_on(stack, busybox: str) -> None:
    script = "trap 'echo got; exit 5' TERM; echo ready; while true; do sleep 0.05; done"
    argv = stack.command("pyctr", "run", "--rm", busybox, "p1", "sh", "-c", script)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=stack.environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "got\n"
        assert process.wait(20) == 5
    assert stack.ctr("container", "ls", "-q").stdout == ""


def test_stdin_reaches_its_end(stack, busybox: str) -> None:
    data = "0123456789" * 40_000
    done = subprocess.run(
        stack.command("pyctr", "run", "--rm", busybox, "p1", "wc", "-c"), input=data, capture_output=True, text=True, timeout=30, env=stack.environment, check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, str(len(data)))


def test_much_output_arrives_whole(stack, busybox: str) -> None:
    done = stack.pyctr("run", "--rm", busybox, "p1", "seq", "1", "200000")
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 200_001))


def test_attach_follows_to_the_end(stack, busybox: str) -> None:
    stack.pyctr("run", "-d", busybox, "p1", "sh", "-c", "sleep 1; echo late; exit 6")
    done = stack.pyctr("task", "attach", "p1", check=False)
    assert (done.returncode, done.stdout) == (6, "late\n")


def test_attach_to_what_has_ended(stack, busybox: str) -> None:
    stack.pyctr("run", "-d", busybox, "p2", "sh", "-c", "exit 6")
    deadline = time.monotonic() + 10
    while "STOPPED" not in stack.ctr("task", "ls").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = stack.pyctr("task", "attach", "p2", check=False)
    assert (done.returncode, done.stdout) == (6, "")


@contextlib.contextmanager
def _stalled_registry():
    with fake_registry() as fake:
        layer = b"x" * 1000
        digest = fake.add_blob(layer)
        config = fake.add_blob(
            b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
        )
        fake.add_document("v1", {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": len(fake.blobs[config])},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 1000}],
        })  # fmt: skip

        def rule(request):
            if request.path.endswith(digest):
                time.sleep(3)

        fake.rule = rule
        yield fake


def test_an_interrupted_pull_leaves_nothing(stack) -> None:
    with _stalled_registry() as fake:
        argv = stack.command("pyctr", "-n", "stall", "image", "pull", f"{fake.address}/a/b:v1")
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=stack.environment, text=True
        ) as process:
            deadline = time.monotonic() + 10
            while not any("blobs" in request.path for request in fake.requests):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        assert process.returncode == 130, (out, err)
    for command in (["leases", "ls", "-q"], ["image", "ls", "-q"]):
        assert stack.ctr("-n", "stall", *command).stdout == ""
    assert len(stack.ctr("-n", "stall", "content", "active").stdout.splitlines()) == 1
    deadline = time.monotonic() + 5
    while stack.ctr("-n", "stall", "content", "ls", "-q").stdout:
        assert time.monotonic() < deadline, "content of the interrupted pull is still there"
        time.sleep(0.1)


def test_wrong_bytes_are_never_visible(stack) -> None:
    with _stalled_registry() as fake:
        fake.rule = lambda request: (
            (200, {}, b"y" * 1000) if fake.blobs.get(request.path.rpartition("/")[2]) == b"x" * 1000 else None
        )
        done = stack.pyctr("-n", "lies", "image", "pull", f"{fake.address}/a/b:v1", check=False)
    assert done.returncode == 1
    assert "unexpected commit digest" in done.stderr
    assert stack.ctr("-n", "lies", "image", "ls", "-q").stdout == ""
    assert len(stack.ctr("-n", "lies", "content", "active").stdout.splitlines()) == 1
