"""`shim exec` on the stock shim and on ours. Debian's ctr 1.6 can't be asked: it panics where it makes the request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.screen import Screen

if TYPE_CHECKING:
    from pathlib import Path

    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]


@pytest.fixture(params=["our", "real"])
def stack(request: pytest.FixtureRequest, busybox: str):
    """Each daemon with its own shim; c1 runs."""
    found: Stack = request.getfixturevalue(f"{request.param}_stack")
    found.ctr("image", "pull", busybox)
    found.ctr("run", "-d", busybox, "c1", "sleep", "1000")
    yield found
    found.ctr("task", "rm", "-f", "c1")
    found.ctr("container", "rm", "c1")


def shim_exec(stack: Stack, *words: str):
    return stack.run("pyctr", "shim", "--id", "c1", "exec", *words, check=False, timeout=30)


def test_attached_it_ends_with_the_processs_status(stack: Stack) -> None:
    done = shim_exec(
        stack,
        "-a",
        "--env",
        "A=b",
        "--cwd",
        "/etc",
        "e1",
        "/bin/sh",
        "-c",
        "echo $A; pwd; echo no >&2; exit 7",
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "b\n/etc\n", "no\n")
    again = shim_exec(stack, "-a", "e1", "/bin/true")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_input_is_copied(stack: Stack) -> None:
    done = stack.run(
        "pyctr", "shim", "--id", "c1", "exec", "-a", "e1", "cat", input="in\n", check=False, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "in\n")


def test_a_process_document(stack: Stack, tmp_path: Path) -> None:
    document = {"args": ["echo", "spec"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]}
    (tmp_path / "p.json").write_text(json.dumps(document))
    done = shim_exec(stack, "-a", "--spec", f"{tmp_path}/p.json", "e1")
    assert (done.returncode, done.stdout) == (0, "spec\n")
    (tmp_path / "p.json").write_text("{")
    assert shim_exec(stack, "-a", "--spec", f"{tmp_path}/p.json", "e1").returncode == 1


def test_named_fifos(stack: Stack, tmp_path: Path) -> None:
    paths = [word for name in ("stdin", "stdout", "stderr") for word in (f"--{name}", f"{tmp_path}/{name}")]
    done = shim_exec(stack, "-a", *paths, "e1", "echo", "hi")
    assert (done.returncode, done.stdout) == (0, "hi\n")


def test_left_running(stack: Stack) -> None:
    done = shim_exec(stack, "e1", "sleep", "100")
    pid = done.stdout.removeprefix("exec running with pid ").strip()
    assert done.returncode == 0
    assert pid in stack.ctr("task", "ps", "c1").stdout


def test_a_terminal(stack: Stack) -> None:
    argv = stack.command("pyctr", "shim", "--id", "c1", "exec", "-a", "-t", "e1", "sh")
    screen = Screen(argv, stack.environment)
    try:
        screen.wait_for("# ")
        screen.type("stty size; tty\r")
        screen.wait_for(r"33 77\r\n.*/dev/pts/\d+")
        screen.type("exit 3\r")
        assert screen.process.wait(20) == 3
    finally:
        screen.close()


@pytest.mark.parametrize(
    "words", ["exec", "--id c1 exec", "--id nosuch exec e1 ls", "--id c1 exec --spec /nosuch e1"]
)
def test_errors_are_ctrs(stack: Stack, words: str) -> None:
    real, ours = (stack.run(program, "shim", *words.split(), check=False) for program in ("ctr", "pyctr"))
    if "/nosuch" not in words:  # ctr opens the FIFOs first
        assert (ours.returncode, ours.stderr) == (real.returncode, real.stderr)
    assert ours.returncode == real.returncode == 1
