"""The restart monitor, on our daemon and on the real one: labels that Debian's ctr sets, and the tasks that come of them."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.patience import seconds
from support.programs import containerd_since_1_7
from support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(180)]

INTERVAL = '[plugins."io.containerd.internal.v1.restart"]\n  interval = "1s"\n'
LABEL = "containerd.io/restart."


@pytest.fixture(params=["ours", "real"])
def stack(request: pytest.FixtureRequest, busybox: str) -> Iterator[Stack]:
    root = Path(tempfile.mkdtemp(prefix="rm", dir="/tmp"))
    found = Stack(root / "d", kind=request.param, extra=INTERVAL).start()
    found.ctr("image", "pull", "--plain-http", busybox)
    yield found
    for name in found.ctr("containers", "ls", "-q").stdout.split():
        found.ctr("containers", "label", name, f"{LABEL}status=")
    time.sleep(1.5)  # one that is being restarted just now
    found.clean()
    shutil.rmtree(root)  # noqa: TID251 - the test's own folder


def create(stack: Stack, busybox: str, name: str, *command: str, **labels: str) -> None:
    said = [f"--label={LABEL}{key.replace('_', '-')}={value}" for key, value in labels.items()]
    stack.ctr("containers", "create", *said, busybox, name, *command)


def until(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + seconds(30)
    while not fact():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def status(stack: Stack, name: str) -> str:
    rows = [line.split() for line in stack.ctr("tasks", "ls").stdout.splitlines()]
    return next((row[2] for row in rows if row[0] == name), "")


def count(stack: Stack, name: str) -> int:
    record = json.loads(stack.ctr("containers", "info", name).stdout)
    return int(record["Labels"].get(f"{LABEL}count", "0"))


def test_what_is_to_run_is_run_and_again_when_it_ends(stack: Stack, busybox: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    create(stack, busybox, "says", "echo", "up", status="running", loguri=f"file://{out}")
    create(stack, busybox, "runs", "sleep", "1000", status="running")
    until(lambda: status(stack, "runs") == "RUNNING", "the container is started")
    until(lambda: out.exists() and out.read_text().startswith("up\nup\n"), "it is started again and again")
    pid = stack.ctr("tasks", "ls").stdout
    assert status(stack, "runs") == "RUNNING"
    stack.ctr("tasks", "kill", "-s", "KILL", "runs")
    until(lambda: "RUNNING" in (now := stack.ctr("tasks", "ls").stdout) and now != pid, "another one runs")
    # What is to be stopped is stopped, and its task is gone.
    stack.ctr("containers", "label", "runs", f"{LABEL}status=stopped")
    until(lambda: status(stack, "runs") == "", "it is stopped")
    assert Path(stack.log).read_text().count("level=error") < 50


@pytest.mark.parametrize("stack", ["ours", *(["real"] if containerd_since_1_7() else [])], indirect=True)
def test_a_policy_says_when_and_how_often(stack: Stack, busybox: str) -> None:
    """Debian 12's containerd knows no policies yet: what is to run is run."""
    create(stack, busybox, "fails", "false", status="running", policy="on-failure:2")
    create(stack, busybox, "works", "true", status="running", policy="on-failure")
    create(stack, busybox, "never", "sleep", "100", status="running", policy="no")
    create(
        stack,
        busybox,
        "stopped",
        "sleep",
        "100",
        status="running",
        policy="unless-stopped",
        explicitly_stopped="true",
    )
    for name in ("fails", "works"):
        # A failure is what is waited for: the first task is somebody else's to start.
        stack.ctr("tasks", "start", "-d", name)
    until(lambda: count(stack, "fails") == 2, "it is tried twice")
    time.sleep(3)
    assert {name: count(stack, name) for name in ("fails", "works", "never", "stopped")} == {
        "fails": 2,
        "works": 0,
        "never": 0,
        "stopped": 0,
    }
    assert {name: status(stack, name) for name in ("never", "stopped", "works")} == {
        "never": "",
        "stopped": "",
        "works": "STOPPED",
    }


def test_after_a_restart_of_the_daemon_what_is_to_run_runs(stack: Stack, busybox: str) -> None:
    create(stack, busybox, "r-2", "sleep", "100", status="running")
    until(lambda: status(stack, "r-2") == "RUNNING", "the container is started")
    before = stack.ctr("tasks", "ls").stdout
    stack.stop()
    stack.start()
    assert stack.ctr("tasks", "ls").stdout == before
    stack.ctr("tasks", "kill", "-s", "KILL", "r-2")
    until(lambda: "RUNNING" in (now := stack.ctr("tasks", "ls").stdout) and now != before, "another one runs")
