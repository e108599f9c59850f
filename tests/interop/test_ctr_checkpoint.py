"""`container checkpoint`, `container restore` and `task checkpoint`: pyctr beside Debian's ctr, on both daemons.

No criu is at hand here: what needs it is held to the daemon's own error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support import parity

if TYPE_CHECKING:
    from pathlib import Path

    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]


@pytest.fixture(params=["our", "real"])
def stack(request: pytest.FixtureRequest, busybox: str):
    """Each daemon; c1 runs and has written a file."""
    found: Stack = request.getfixturevalue(f"{request.param}_stack")
    found.ctr("image", "pull", busybox)
    found.ctr("run", "-d", busybox, "c1", "sh", "-c", "test -e /mark || echo first >/mark; sleep 1000")
    yield found
    for name in found.ctr("container", "ls", "-q").stdout.split():
        found.ctr("task", "rm", "-f", name, check=False)
        found.ctr("container", "rm", name)
    for name in found.ctr("image", "ls", "-q", "name~=ck:").stdout.split():
        found.ctr("image", "rm", "--sync", name)
    assert found.ctr("leases", "ls", "-q").stdout == ""


def write_mark(stack: Stack) -> None:
    stack.ctr("task", "exec", "--exec-id", "e1", "c1", "sh", "-c", "echo kept >/mark")


@pytest.mark.parametrize(
    "step",
    [
        "container checkpoint", "container checkpoint c1", "container checkpoint nosuch ck:1", "container restore",
        "container restore r1", "container restore r1 nosuch:1", "container restore r1 127.0.0.1:1/a/b:c",
        "container restore r1 %B", "task checkpoint", "task checkpoint nosuch",
    ],
)  # fmt: skip
def test_errors_are_ctrs(stack: Stack, busybox: str, step: str) -> None:
    steps = [step, "container ls -q", "snapshot ls", "leases ls -q", "image ls -q"]
    parity.compare(stack, steps, {"%B": busybox}, lambda: None)


@pytest.mark.parametrize("step", ["container checkpoint --task c1 ck:1", "task checkpoint c1", "task checkpoint --exit c1", "task checkpoint --image-path %F --work-path %F c1"])  # fmt: skip
def test_without_criu_the_daemon_says_why(stack: Stack, tmp_path: Path, step: str) -> None:
    steps = [step, "task ls", "leases ls -q", "image ls -q name~=ck"]
    answers = parity.compare(stack, steps, {"%F": str(tmp_path)}, lambda: None)
    assert answers[0][0] == 1
    assert answers[0][2].startswith("ctr: ")
    assert "RUNNING" in stack.ctr("task", "ls").stdout


def test_a_checkpoint_holds_what_ctrs_does_and_the_spec(stack: Stack) -> None:
    write_mark(stack)
    kinds = {}
    for program in ("ctr", "pyctr"):
        stack.run(program, "container", "checkpoint", "--rw", "--image", "c1", f"{program}/ck:1")
        digest = stack.ctr("image", "ls", f"name=={program}/ck:1").stdout.splitlines()[1].split()[2]
        index = json.loads(stack.ctr("content", "get", digest).stdout)
        kinds[program] = [entry["mediaType"] for entry in index["manifests"]]
        kinds[program + " annotations"] = index["annotations"]
        again = stack.run(program, "container", "checkpoint", "c1", f"{program}/ck:1", check=False)
        assert (again.returncode, again.stderr) == (1, f'ctr: image "{program}/ck:1": already exists\n')
    assert kinds["pyctr annotations"] == kinds["ctr annotations"]
    ours = [kind for kind in kinds["pyctr"] if "checkpoint.config" not in kind]
    assert len(kinds["pyctr"]) == len(ours) + 1
    if not any("runtime.options" in kind for kind in kinds["ctr"]):
        assert "runtime.options" in ours.pop(0)  # ctr 1.7 leaves out what says nothing
    assert ours == kinds["ctr"]
    assert stack.ctr("task", "ls").stdout.count("RUNNING") == 1


@pytest.mark.parametrize("program", ["ctr", "pyctr"])
def test_a_container_is_made_again_with_what_it_had_written(stack: Stack, program: str) -> None:
    """Also by Debian's ctr, from our checkpoint; of its own it can't without criu."""
    write_mark(stack)
    stack.pyctr("container", "checkpoint", "--rw", "c1", "x/ck:1")
    stack.ctr("task", "rm", "-f", "c1")
    stack.ctr("container", "rm", "c1")
    stack.run(program, "container", "restore", "--rw", "r1", "x/ck:1")
    assert stack.ctr("task", "exec", "--exec-id", "e2", "r1", "cat", "/mark").stdout == "kept\n"
    stack.run(program, "container", "restore", "r2", "x/ck:1")
    assert stack.ctr("task", "exec", "--exec-id", "e3", "r2", "cat", "/mark").stdout == "first\n"
    assert stack.ctr("task", "ls").stdout.count("RUNNING") == 2


def test_a_checkpoint_without_processes_does_not_come_to_life(stack: Stack) -> None:
    stack.pyctr("container", "checkpoint", "--rw", "c1", "x/ck:1")
    done = stack.pyctr("container", "restore", "--live", "r1", "x/ck:1", check=False)
    assert (done.returncode, done.stderr) == (1, "ctr: media type not found\n")
    assert stack.ctr("container", "ls", "-q").stdout.split() == ["c1"]
    assert "r1" not in stack.ctr("snapshot", "ls").stdout


def test_a_checkpoint_can_be_pushed_and_restored_elsewhere(stack: Stack, registry: str, busybox: str) -> None:
    name = f"{registry}/saved/{stack.kind}/ck:1"
    write_mark(stack)
    stack.pyctr("container", "checkpoint", "--rw", "c1", name)
    stack.pyctr("image", "push", name)
    stack.ctr("image", "rm", "--sync", name)
    stack.pyctr("container", "restore", "--rw", "r1", name)
    assert stack.ctr("task", "exec", "--exec-id", "e2", "r1", "cat", "/mark").stdout == "kept\n"
