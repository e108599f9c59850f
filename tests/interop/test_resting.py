"""A forked shim at rest: its attendant has left, nothing is lost, and whatever happens brings the next one."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
from pathlib import Path

import pytest

from pycontainerd.lib.api.light import task_v2
from pycontainerd.lib.ttrpc.client import Client
from suites.shim import RUNNING, STOPPED
from support import leaks, shims

PIDS = next(path for path in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if path.is_dir())


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory):
    return shims.make_rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture
def shim(rootfs, forkserver):
    with tempfile.TemporaryDirectory(prefix="shim", dir="/tmp") as path:
        under_test = shims.RestingShim(Path(path), rootfs)
        under_test.forkserver = forkserver
        yield under_test
        under_test.close()


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def rested(shim: shims.RestingShim) -> None:
    """Waits for the rest."""
    wait_until(lambda: not shims.attendant_of(shim.pid), "the attendant stays")


def awake(shim: shims.RestingShim) -> int:
    """The attendant of a shim that was just asked for something; one that is gone again is waited for anew."""
    deadline = time.monotonic() + 10
    while not (attendant := shims.attendant_of(shim.pid)):
        assert time.monotonic() < deadline, "nobody attends"
        shim.call("State", id=shim.id)
    return attendant


def private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


def test_it_rests_and_answers_as_the_same_shim(shim) -> None:
    shim.run("/bin/sleep", "100")
    before = shim.call("Connect", id=shim.id)
    rested(shim)
    assert shim.call("State", id=shim.id).status == RUNNING
    assert shims.attendant_of(shim.pid)
    assert shim.call("Connect", id=shim.id) == before
    rested(shim)


def test_it_gives_back_what_its_attendant_took(shim) -> None:
    shim.QUIET_S = 0.5
    shim.run("/bin/sleep", "100")
    awake_kib = private_kib(shim.pid) + private_kib(shims.attendant_of(shim.pid))
    rested(shim)
    assert private_kib(shim.pid) < awake_kib / 2


def test_an_end_at_rest_is_told_once_to_everybody(shim) -> None:
    streams = shim.run("/bin/sh", "-c", "read code; exit $code")
    with Client.connect(shim.address) as second:
        request = task_v2.WaitRequest(id=shim.id).SerializeToString()
        pending = second.start(task_v2.TASK.name, "Wait", request, timeout_s=20)
        second.pump()
        shim.call("State", id=shim.id)
        rested(shim)
        streams.write(b"7\n")
        assert shim.events.wait_for("/tasks/exit").exit_status == 7
        wait_until(lambda: second.pump() or pending.done, "no answer to Wait")
        assert task_v2.WaitResponse.FromString(pending.result()).exit_status == 7
    rested(shim)
    assert shim.call("State", id=shim.id).status == STOPPED
    assert shim.call("Delete", id=shim.id).exit_status == 7
    shim.events.wait_for("/tasks/delete")
    assert shim.events.topics().count("/tasks/exit") == 1


def test_streams_go_on(shim) -> None:
    streams = shim.run("/bin/cat")
    for line in (b"one\n", b"two\n", b"three\n"):
        rested(shim)
        streams.write(line)
        assert streams.read_until(line).endswith(line)
    rested(shim)
    shim.call("CloseIO", id=shim.id, stdin=True)
    rested(shim)
    streams.close()
    assert shim.call("Wait", id=shim.id).exit_status == 0


def test_a_terminal_goes_on(shim) -> None:
    shim.run("/bin/sleep", "100")
    streams = shim.exec("t", "/bin/sh", terminal=True)
    rested(shim)
    shim.call("ResizePty", id=shim.id, exec_id="t", width=77, height=33)
    rested(shim)
    streams.write(b"stty size; echo do''ne\n")
    assert b"33 77" in streams.read_until(b"done")
    rested(shim)
    streams.write(b"exit 9\n")
    assert shim.call("Wait", id=shim.id, exec_id="t").exit_status == 9


def test_an_exec_that_was_added_can_be_started_later(shim) -> None:
    shim.run("/bin/sleep", "100")
    streams = shim.add_exec("e", "/bin/sh", "-c", "echo there; exit 5")
    rested(shim)
    shim.call("Start", id=shim.id, exec_id="e")
    assert shim.call("Wait", id=shim.id, exec_id="e").exit_status == 5
    assert streams.read_all() == b"there\n"


def test_memory_that_ran_out_at_rest_is_told(shim) -> None:
    command = "read x; dd if=/dev/zero of=/dev/null bs=200M count=2; sleep 100"
    streams = shim.run("/bin/sh", "-c", command, memory_limit=16 << 20)
    rested(shim)
    streams.write(b"now\n")
    assert shim.events.wait_for("/tasks/oom").container_id == shim.id


def test_a_signal_reaches_it(shim) -> None:
    shim.run("/bin/sleep", "100")
    rested(shim)
    os.kill(shim.pid, signal.SIGUSR1)
    wait_until(lambda: "=== END stack dump ===" in shim.log(), "no stack dump")
    rested(shim)
    os.kill(shim.pid, signal.SIGTERM)
    shim.wait_gone()
    assert not os.path.exists(shim.address.removeprefix("unix://"))


@pytest.mark.parametrize("victim", ["keeper", "attendant"])
def test_either_ones_death_is_the_shims(shim, victim: str) -> None:
    shim.run("/bin/sleep", "100")
    rested(shim)
    shim.call("State", id=shim.id)
    attendant = shims.attendant_of(shim.pid)
    os.kill(shim.pid if victim == "keeper" else attendant, signal.SIGKILL)
    shim.wait_gone()
    wait_until(lambda: not os.path.exists(f"/proc/{attendant}"), "the attendant lives on")


def test_more_descriptors_than_fit_one_message_keep_it_awake(shim) -> None:
    shim.run("/bin/sleep", "100")
    clients = []
    try:
        for _ in range(26):
            clients += [Client.connect(shim.address) for _ in range(10)]
            shim.call("State", id=shim.id)
        shim.call("State", id=shim.id)
        time.sleep(10 * shim.QUIET_S)
        assert shims.attendant_of(shim.pid)
        assert shim.call("State", id=shim.id).status == RUNNING
    finally:
        for client in clients:
            client.close()
    shim.call("State", id=shim.id)


def test_without_room_for_an_attendant_everybody_waits(shim) -> None:
    streams = shim.run("/bin/sh", "-c", "read code; exit $code")
    rested(shim)
    folder = Path(tempfile.mkdtemp(prefix="room", dir=PIDS))
    try:
        (folder / "cgroup.procs").write_text(str(shim.pid))
        (folder / "pids.max").write_text("1")
        streams.write(b"8\n")
        time.sleep(0.5)
        assert shim.is_alive()
        assert not shims.attendant_of(shim.pid)
        (folder / "pids.max").write_text("max")
        assert shim.events.wait_for("/tasks/exit").exit_status == 8
        rested(shim)
    finally:
        (folder / "pids.max").write_text("max")
        (PIDS / "cgroup.procs").write_text(str(shim.pid))  # its attendant leaves by itself
        wait_until(lambda: not (folder / "cgroup.procs").read_text(), "somebody stays")
        folder.rmdir()


def test_one_that_cannot_hand_over_goes_on(shim) -> None:
    shim.run("/bin/sleep", "100")
    rested(shim)
    attendant = awake(shim)
    soft, hard = resource.prlimit(attendant, resource.RLIMIT_NOFILE)
    resource.prlimit(attendant, resource.RLIMIT_NOFILE, (3, hard))
    time.sleep(10 * shim.QUIET_S)
    assert shims.attendant_of(shim.pid) == attendant
    assert shim.call("State", id=shim.id).status == RUNNING
    resource.prlimit(attendant, resource.RLIMIT_NOFILE, (soft, hard))
    rested(shim)


def test_the_one_in_reserve_has_the_pages_that_its_forerunner_wrote_to(shim, rootfs, forkserver) -> None:
    def in_reserve() -> set[int]:
        taken = {shims.attendant_of(each.pid) for each in (shim, other) if each.pid}
        return set(leaks.our_processes((": attends to ",))) - taken

    with tempfile.TemporaryDirectory(prefix="shim", dir="/tmp") as path:
        other = shims.ForkedShim(Path(path), rootfs, "c2")
        other.forkserver = forkserver
        try:
            shim.run("/bin/sleep", "100")
            rested(shim)
            # The one in reserve by now was forked before there was anything to learn from; it is taken by this start.
            other.run("/bin/sleep", "100")
            wait_until(in_reserve, "nobody is in reserve")
            (pid,) = in_reserve()
            wait_until(lambda: private_kib(pid) > 2000, "it has no pages of its own")
            wait_until(
                lambda: "S (sleeping)" in Path(f"/proc/{pid}/status").read_text(),
                "it doesn't wait for a request",
            )
        finally:
            other.close()
