"""Many containers at once, many in a row, many events to who reads them late: nothing lost, nothing kept, nothing slow."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from pycontainerd.client import Containerd, cio, containers, spec_opts, tasks
from pycontainerd.lib.api.light import events_v1, tasks_v1, wkt
from support import leaks
from support.daemons import make_rootfs
from support.patience import seconds
from support.stack import Stack

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(300)]

RUNTIME = "io.containerd.runc.v2"
PROMPT_S = 1.0
MANY = 'topic=="/many/event"'
MEMORY_SLACK_KIB = 12 << 10  # of a daemon of some 60 MiB: what the allocator keeps of one burst


@pytest.fixture
def stack():
    root = Path(tempfile.mkdtemp(prefix="pm", dir="/tmp"))
    stack = Stack(root, kind="ours").start()
    make_rootfs(root / "rootfs")
    yield stack
    stack.clean()
    shutil.rmtree(root)  # noqa: TID251 - a folder of the test's own


@pytest.fixture
def containerd(stack):
    with Containerd(stack.address, namespace=f"many-{os.getpid()}") as containerd:
        yield containerd


def create(containerd: Containerd, stack: Stack, id: str, *args: str) -> tasks.Process:
    """A created task on a plain folder, its streams nobody's."""
    client = containerd.client
    spec = spec_opts.with_root(spec_opts.default_spec(client.namespace, id), path=f"{stack.root}/rootfs")
    spec = spec_opts.with_args(spec_opts.with_env(spec, ["PATH=/bin"]), args)
    containers.create(client, id, spec_opts.encode(spec), runtime=RUNTIME)
    return tasks.create(client, id, [], cio.Streams())


def remove(containerd: Containerd, task: tasks.Process) -> tasks.ExitStatus:
    ended = task.delete()
    containers.delete(containerd.client, task.container_id)
    return ended


def wait(containerd: Containerd, task: tasks.Process) -> int:
    reply = task.start_wait()
    containerd.client.wait(reply)
    return tasks.exit_status(reply).code


class Usage:
    """What the daemon holds: open files and memory."""

    def __init__(self, stack: Stack) -> None:
        gc.collect()
        self.fds = len(os.listdir(f"/proc/{stack.pid()}/fd"))
        status = Path(f"/proc/{stack.pid()}/status").read_text()
        self.memory_kib = int(status.partition("VmRSS:")[2].split()[0])

    def require_like(self, before: Usage) -> None:
        assert self.fds <= before.fds
        assert self.memory_kib <= before.memory_kib + MEMORY_SLACK_KIB, (before.memory_kib, self.memory_kib)


def settled(stack: Stack, before: Usage, timeout_s: float = 10) -> Usage:
    """What the daemon holds once its connections to shims that have left are closed."""
    deadline = time.monotonic() + seconds(timeout_s)
    while (now := Usage(stack)).fds > before.fds and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


def wait_for_no_shim(stack: Stack) -> None:
    """A shim answers before it leaves."""
    deadline = time.monotonic() + seconds(10)
    while shims := stack.shims():
        assert time.monotonic() < deadline, shims
        time.sleep(0.05)


def list_time_s(containerd: Containerd, wanted: int) -> float:
    """The best of five `task ls`, each of which must be whole."""
    times = []
    for _ in range(5):
        begun = time.monotonic()
        found = containerd.client.call(tasks_v1.TASKS, "List", tasks_v1.ListTasksRequest()).tasks
        times.append(time.monotonic() - begun)
        assert len(found) == wanted
    return min(times)


def crowd(containerd: Containerd, stack: Stack, count: int) -> float:
    """That many containers running at once; how long it takes to list them."""
    running = [create(containerd, stack, f"c{number}", "sleep", "1000") for number in range(count)]
    assert len({task.start() for task in running}) == count
    took = list_time_s(containerd, count)
    for task in running:
        task.kill(9)
    assert {wait(containerd, task) for task in running} == {137}
    for task in running:
        remove(containerd, task)
    return took


def test_many_containers_run_at_once_and_are_listed_promptly(stack, containerd, amount):
    count = amount(12, 200)
    crowd(containerd, stack, amount(12, 50))
    before = settled(stack, Usage(stack))
    with containerd.events('topic=="/tasks/exit"') as events:
        assert crowd(containerd, stack, count) < seconds(PROMPT_S)
        exits = Counter(next(events).message.container_id for _ in range(count))
    assert exits == {f"c{number}": 1 for number in range(count)}
    settled(stack, before).require_like(before)
    wait_for_no_shim(stack)


def test_many_containers_in_a_row_leave_the_daemon_as_it_was(stack, containerd, amount):
    def cycle(number: int) -> None:
        task = create(containerd, stack, f"r{number}", "sh", "-c", f"exit {number % 251}")
        reply = task.start_wait()
        task.start()
        containerd.client.wait(reply)
        assert tasks.exit_status(reply).code == number % 251
        assert remove(containerd, task).code == number % 251

    count, warm = amount(20, 2000), amount(10, 200)
    for number in range(warm):
        cycle(number)
    before, files = settled(stack, Usage(stack)), leaks.Snapshot()
    with containerd.events('topic=="/tasks/exit"') as events:
        for number in range(count):
            cycle(number)
        exits = [next(events).message for _ in range(count)]
    assert [(e.container_id, e.exit_status) for e in exits] == [(f"r{n}", n % 251) for n in range(count)]
    settled(stack, before).require_like(before)
    assert not leaks.Snapshot().added_since(files)
    wait_for_no_shim(stack)


def test_a_slow_subscriber_loses_no_event(stack, containerd, amount):
    count = amount(500, 5000)
    before = None
    for _ in range(2):  # what the first round makes, the second must not make again
        with (
            containerd.events(MANY) as slow,
            containerd.events(MANY) as quick,
        ):
            for number in range(count):
                event = wkt.Any(type_url="many.Event", value=f"{number:05} {'x' * 1000}".encode())
                request = events_v1.PublishRequest(topic="/many/event", event=event)
                containerd.client.call(events_v1.EVENTS, "Publish", request)
                assert int(next(quick).value.split()[0]) == number
            got = [int(next(slow).value.split()[0]) for _ in range(count)]
        assert got == list(range(count))
        if before is None:
            before = settled(stack, Usage(stack))
    settled(stack, before).require_like(before)
