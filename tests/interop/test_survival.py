"""A container survives the death of the daemon (S059-S061): it goes on, answers again, and its exit is reported once."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo line $i; sleep 0.1; done; exit 23"


class Output:
    """What a container has printed into its log file so far."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return self.path.read_text().count("line ") if self.path.exists() else 0


@pytest.fixture
def running(our_stack, busybox, tmp_path):
    """A detached container that prints: (stack, its output). A client would end with the daemon; a log file stays."""
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    log = tmp_path / "out.log"
    our_stack.ctr("run", "-d", "--log-uri", f"file://{log}", busybox, "printer", "sh", "-c", SCRIPT)
    output = Output(log)
    wait_until(lambda: len(output) > 3)
    yield our_stack, output
    our_stack.ctr("tasks", "rm", "-f", "printer", check=False)
    our_stack.ctr("containers", "rm", "printer", check=False)


def wait_until(condition, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class Events:
    """`ctr events`, collected."""

    def __init__(self, stack) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            stack.command("ctr", "events"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=stack.environment,
        )
        self.thread = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.thread.start()
        time.sleep(0.5)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join(timeout=5)
        self.process.stdout.close()

    def count(self, topic: str) -> int:
        return sum(topic in line for line in self.lines)


def test_container_outlives_a_killed_daemon_and_its_exit_is_reported_once(running):
    stack, lines = running
    task = int(stack.ctr("tasks", "ls").stdout.partition("printer")[2].split()[0])
    stack.stop(signal.SIGKILL)
    time.sleep(0.5)
    before = len(lines)
    os.kill(task, 0)
    stack.start()
    wait_until(lambda: len(lines) > before + 3)
    assert "RUNNING" in stack.ctr("tasks", "ls").stdout
    done = stack.ctr(
        "tasks", "exec", "--exec-id", "e", "printer", "sh", "-c", "echo again; exit 5", check=False
    )
    assert (done.stdout, done.returncode) == ("again\n", 5)
    events = Events(stack)
    stack.ctr("tasks", "exec", "--exec-id", "end", "printer", "touch", "/tmp/end")
    wait_until(lambda: any('"id":"printer"' in line for line in events.lines if "/tasks/exit" in line))
    time.sleep(0.5)
    exits = [line for line in events.lines if "/tasks/exit" in line and '"id":"printer"' in line]
    events.close()
    assert len(exits) == 1, events.lines
    assert '"exit_status":23' in exits[0]
    removed = stack.ctr("tasks", "rm", "printer")
    assert "exit code 23" in removed.stderr


def test_exit_while_the_daemon_is_down_is_known_after_restart(running):
    stack, _ = running
    stack.ctr("tasks", "exec", "--exec-id", "late", "-d", "printer", "sh", "-c", "sleep 1; touch /tmp/end")
    stack.stop(signal.SIGKILL)
    time.sleep(2.5)
    stack.start()
    assert "STOPPED" in stack.ctr("tasks", "ls").stdout
    removed = stack.ctr("tasks", "rm", "printer")
    assert "exit code 23" in removed.stderr


def test_a_killed_shim_is_cleaned_up_and_the_task_stops_with_137(running):
    stack, _ = running
    # One that another test's daemon was killed under may still be waiting to send its events.
    wait_until(lambda: len(stack.shims()) == 1, timeout_s=20)
    (shim,) = stack.shims()
    events = Events(stack)
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: "printer" not in stack.ctr("tasks", "ls", "-q").stdout.split())
    wait_until(lambda: events.count("/tasks/exit"))
    time.sleep(0.3)
    exits = [line for line in events.lines if "/tasks/exit" in line]
    events.close()
    assert len(exits) == 1, exits
    assert '"exit_status":137' in exits[0]
    assert not os.path.exists(f"{stack.root}/s/io.containerd.runtime.v2.task/default/printer")
