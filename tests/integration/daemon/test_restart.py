"""S059-S061: containers outlive the daemon, which finds them again and reports every exit once."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import tasks_v1
from pycontainerd.lib.api.light import task_v2
from pycontainerd.lib.ttrpc.client import Client
from support.daemons import STOCK_SHIM, Daemon, kill, make_rootfs, process_running
from support.programs import ours, peer, peer_environment
from support.shims import attendant_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SHIMS = ("stock", "exec", "auto")


@pytest.fixture(params=SHIMS)
def daemon(request):
    """Our daemon with containerd's shim, with ours by exec, and with ours from the forkserver."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    make_rootfs(folder / "rootfs")
    extra = ""
    starter = request.param
    # What a test of a shim that does not answer waits for.
    timeouts = '\n[timeouts]\n"io.containerd.timeout.shim.load" = "1s"\n'
    if request.param == "stock":
        extra, starter = "  " + STOCK_SHIM.format(path=peer("containerd-shim-runc-v2")), "exec"
    if request.param == "slow":
        shim = folder / "shim"
        shim.write_text(_SLOW.format(shim=ours("containerd-shim-pyrunc-v2")))
        shim.chmod(0o755)
        extra, starter = "  " + STOCK_SHIM.format(path=shim), "exec"
        timeouts += '"io.containerd.timeout.shim.cleanup" = "2s"\n'
    with Daemon(
        folder / "d", real=False, config_extra=extra + timeouts, starter=starter, level="debug"
    ) as daemon:
        yield daemon.start()
        for line in daemon.ctr("tasks", "ls", "-q").stdout.decode().split():
            daemon.ctr("tasks", "rm", "-f", line)
    remove_tree(str(folder))


def _run(daemon: Daemon, id: str, script: str) -> int:
    rootfs = str(daemon.folder.parent / "rootfs")
    done = daemon.ctr("run", "-d", "--rootfs", rootfs, id, "/bin/sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return _tasks(daemon)[id][0]


def _tasks(daemon: Daemon) -> dict[str, tuple[int, str]]:
    lines = daemon.ctr("tasks", "ls").stdout.decode().splitlines()[1:]
    return {id: (int(pid), status) for id, pid, status in (line.split() for line in lines)}


def _shim_pid(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _wait_until(condition, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition never held"
        time.sleep(0.05)


class _Listener:
    """Collects `ctr events` lines until closed."""

    def __init__(self, daemon: Daemon) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [peer("ctr"), "--address", daemon.address, "events"],
            stdout=subprocess.PIPE,
            text=True,
            env=peer_environment(),
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def of(self, topic: str, id: str) -> list[str]:
        return [line for line in self.lines if f" {topic} " in line and f'"container_id":"{id}"' in line]

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(iter(self._process.stdout.readline, ""))

    def __enter__(self) -> _Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def test_s059_a_container_survives_kill_9_of_the_daemon_and_is_found_again(daemon):
    pid = _run(daemon, "c1", "while true; do sleep 1; done")
    daemon.stop(signal.SIGKILL)
    assert process_running(pid)
    daemon.start()
    assert _tasks(daemon) == {"c1": (pid, "RUNNING")}
    executed = daemon.ctr("tasks", "exec", "--exec-id", "e", "c1", "/bin/echo", "again")
    assert executed.stdout == b"again\n"
    assert daemon.ctr("tasks", "kill", "-s", "9", "c1").returncode == 0
    _wait_until(lambda: _tasks(daemon)["c1"][1] == "STOPPED")
    assert daemon.ctr("tasks", "rm", "c1").returncode == 0
    assert not (daemon.folder / "state/io.containerd.runtime.v2.task/default/c1").exists()


def test_s060_an_exit_while_the_daemon_is_away_is_reported_once_with_its_code(daemon):
    # It stays until the daemon is away, however slow this machine is.
    pid = _run(daemon, "c2", "until [ -e /tmp/go ]; do sleep 0.1; done; exit 7")
    daemon.stop(signal.SIGKILL)
    (daemon.folder.parent / "rootfs/tmp/go").touch()
    _wait_until(lambda: not process_running(pid))
    daemon.start()
    with _Listener(daemon) as events:
        _wait_until(lambda: events.of("/tasks/exit", "c2"), 25)
        daemon.ctr("tasks", "rm", "c2")
        _wait_until(lambda: events.of("/tasks/delete", "c2"))
        time.sleep(1)
        exits, deletes = events.of("/tasks/exit", "c2"), events.of("/tasks/delete", "c2")
    assert [re.findall(r'"exit_status":(\d+)', line) for line in exits + deletes] == [["7"], ["7"]]


def test_an_exit_that_a_shim_reports_before_anybody_listens_is_told_once_to_who_then_does(daemon):
    pid = _run(daemon, "c2", "until [ -e /tmp/go ]; do sleep 0.1; done; exit 7")
    daemon.stop(signal.SIGKILL)
    daemon.start()
    (daemon.folder.parent / "rootfs/tmp/go").touch()
    _wait_until(lambda: not process_running(pid))
    _wait_until((daemon.folder / "state/io.containerd.runtime.v2.task/default/c2/exit-reported").exists)
    with _Listener(daemon) as events:
        _wait_until(lambda: events.of("/tasks/exit", "c2"))
        time.sleep(1)
        exits = events.of("/tasks/exit", "c2")
    assert [re.findall(r'"exit_status":(\d+)', line) for line in exits] == [["7"]]


def test_a_shim_killed_under_the_daemon_ends_its_task_with_137_once(daemon):
    pid = _run(daemon, "c3", "while true; do sleep 1; done")
    with _Listener(daemon) as events:
        time.sleep(0.5)
        kill(_shim_pid(pid))
        _wait_until(lambda: events.of("/tasks/delete", "c3"))
        _wait_until(lambda: not process_running(pid))
        time.sleep(0.5)
        exits, deletes = events.of("/tasks/exit", "c3"), events.of("/tasks/delete", "c3")
    assert [re.findall(r'"exit_status":(\d+)', line) for line in exits + deletes] == [["137"], ["137"]]
    assert _tasks(daemon) == {}
    assert not (daemon.folder / "state/io.containerd.runtime.v2.task/default/c3").exists()
    assert daemon.ctr("containers", "rm", "c3").returncode == 0


# A shim whose first `delete` hangs.
_SLOW = """#!/bin/sh
for word; do :; done
if [ "$word" = delete ] && mkdir "$0.began" 2>/dev/null; then exec sleep 100; fi
exec {shim} "$@"
"""


@pytest.mark.parametrize("daemon", ["slow"], indirect=True)
def test_a_clean_up_that_takes_too_long_is_done_again(daemon):
    pid = _run(daemon, "c4", "while true; do sleep 1; done")
    kill(_shim_pid(pid))
    _wait_until(lambda: not process_running(pid), 20)
    _wait_until(lambda: _tasks(daemon) == {})
    assert (daemon.folder.parent / "shim.began").exists()
    assert daemon.ctr("tasks", "start", "-d", "--null-io", "c4").returncode == 0


def test_a_shim_killed_while_the_daemon_is_away_is_cleaned_up_and_reported(daemon):
    pid = _run(daemon, "c4", "while true; do sleep 1; done")
    daemon.stop(signal.SIGKILL)
    kill(_shim_pid(pid))
    daemon.start()
    with _Listener(daemon) as events:
        _wait_until(lambda: events.of("/tasks/delete", "c4"), 15)
        assert len(events.of("/tasks/exit", "c4")) == 1
    assert not process_running(pid)
    assert _tasks(daemon) == {}


@contextlib.contextmanager
def _stopped(shim: int) -> Iterator[None]:
    """A shim that takes what it is asked and does not answer: as slow as can be."""
    # First itself, so that no attendant comes after the one that is stopped next.
    os.kill(shim, signal.SIGSTOP)
    attendant = attendant_of(shim)
    if attendant:
        os.kill(attendant, signal.SIGSTOP)
    yield
    for each in (attendant, shim):
        with contextlib.suppress(ProcessLookupError):  # the test has killed it
            if each:
                os.kill(each, signal.SIGCONT)


def test_a_shim_that_is_slow_to_answer_is_not_taken_for_dead(daemon):
    pid = _run(daemon, "c5", "while true; do sleep 1; done")
    daemon.stop(signal.SIGKILL)
    with _stopped(_shim_pid(pid)):
        daemon.start()
        assert _tasks(daemon) == {"c5": (0, "UNKNOWN")}
    assert _tasks(daemon) == {"c5": (pid, "RUNNING")}
    executed = daemon.ctr("tasks", "exec", "--exec-id", "e", "c5", "/bin/echo", "again")
    assert executed.stdout == b"again\n"


def test_a_shim_that_never_answers_is_cleaned_up_once_it_is_killed(daemon):
    pid = _run(daemon, "c5", "while true; do sleep 1; done")
    shim = _shim_pid(pid)
    daemon.stop(signal.SIGKILL)
    with _stopped(shim):
        daemon.start()
        with _Listener(daemon) as events:
            time.sleep(0.5)
            kill(shim)
            _wait_until(lambda: events.of("/tasks/delete", "c5"))
            _wait_until(lambda: not process_running(pid))
            assert len(events.of("/tasks/exit", "c5")) == 1
    assert _tasks(daemon) == {}
    assert _run(daemon, "c6", "while true; do sleep 1; done")


@pytest.mark.parametrize("answers", ["at once", "late"])
def test_a_shim_whose_task_was_deleted_while_the_daemon_died_ends(daemon, answers):
    shim = _shim_pid(_run(daemon, "c4", "while true; do sleep 1; done"))
    bundle = daemon.folder / "state/io.containerd.runtime.v2.task/default/c4"
    text = next(
        (bundle / name).read_text() for name in ("bootstrap.json", "address") if (bundle / name).exists()
    )
    address = re.findall(r"unix://[^\"]+", text)[0]
    daemon.stop(signal.SIGKILL)
    # As far as a daemon gets that dies between the two calls of a deletion.
    with Client.connect(address) as client:
        for method, request in (
            ("Kill", task_v2.KillRequest(id="c4", signal=9)),
            ("Wait", task_v2.WaitRequest(id="c4")),
            ("Delete", task_v2.DeleteRequest(id="c4")),
        ):
            client.call(task_v2.TASK.name, method, request.SerializeToString(), timeout_s=10)
    assert process_running(shim)
    with _stopped(shim) if answers == "late" else contextlib.nullcontext():
        daemon.start()
    _wait_until(lambda: not process_running(shim))
    _wait_until(lambda: not bundle.exists())
    assert _tasks(daemon) == {}


def test_sigterm_leaves_containers_running(daemon):
    pid = _run(daemon, "c5", "while true; do sleep 1; done")
    assert daemon.stop(signal.SIGTERM) == 0
    assert process_running(pid)
    assert not Path(daemon.address).exists()
    daemon.start()
    assert _tasks(daemon)["c5"] == (pid, "RUNNING")


def test_a_failed_create_leaves_nothing_behind(daemon):
    rootfs = str(daemon.folder.parent / "rootfs")
    done = daemon.ctr("run", "-d", "--rootfs", rootfs, "c6", "/no/such/program")
    assert done.returncode == 1
    assert b"no such file or directory" in done.stderr
    assert _tasks(daemon) == {}
    assert not (daemon.folder / "state/io.containerd.runtime.v2.task/default/c6").exists()
    assert not (daemon.folder / "root/io.containerd.runtime.v2.task/default/c6").exists()
    assert daemon.ctr("containers", "rm", "c6").returncode == 0


def test_s066_s067_the_shim_shows_the_classic_command_line(daemon):
    pid = _run(daemon, "c7", "while true; do sleep 1; done")
    argv = Path(f"/proc/{_shim_pid(pid)}/cmdline").read_bytes().split(b"\0")[:-1]
    expected = ["-namespace", "default", "-id", "c7", "-address", daemon.address]
    # -debug: the daemon of this test logs at that level.
    assert [a.decode() for a in argv[1:] if a != b"-debug"] == expected
    assert re.search(rb"containerd-shim-(py)?runc-v2$", argv[0])


def test_s010_s041_s071_s077_bundle_and_log_are_where_tools_look(daemon):
    _run(daemon, "c8", "while true; do sleep 1; done")
    bundle = daemon.folder / "state/io.containerd.runtime.v2.task/default/c8"
    assert {"config.json", "rootfs", "work", "log", "bootstrap.json", "shim-binary-path"} <= {
        p.name for p in bundle.iterdir()
    }
    assert (bundle / "log").is_fifo()
    assert (bundle / "work").readlink() == daemon.folder / "root/io.containerd.runtime.v2.task/default/c8"
    assert oct(bundle.stat().st_mode) == "0o40700"
    # S071: the shim's debug lines arrive in the daemon's log.
    log = daemon.log()
    assert "starting signal loop" in log
    # S010: the tasks service prepares everything, then the shim is started.
    marks = [
        "method=/containerd.services.tasks.v1.Tasks/Create",
        'msg="starting shim"',
        "starting signal loop",
    ]
    assert sorted(marks, key=log.index) == marks


def _forkserver_of(daemon: Daemon) -> int:
    """The daemon's child that is the forkserver; 0 when it has none."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            is_one = b"pycontainerd-forkserver" in (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == daemon.pid and is_one:
            return int(entry.name)
    return 0


@pytest.mark.parametrize("daemon", ["auto"], indirect=True)
def test_a_container_survives_kill_9_of_the_forkserver_and_the_next_one_starts(daemon):
    server = _forkserver_of(daemon)
    assert server
    pid = _run(daemon, "f1", "while true; do sleep 1; done")
    kill(server)
    assert process_running(pid)
    second = _run(daemon, "f2", "while true; do sleep 1; done")
    assert process_running(second)
    assert daemon.ctr("tasks", "exec", "--exec-id", "e", "f1", "/bin/echo", "still").stdout == b"still\n"
    assert _forkserver_of(daemon) not in (0, server)


def test_the_daemon_stops_at_once_while_clients_listen_and_wait(daemon):
    _run(daemon, "w1", "while true; do sleep 1; done")
    with _Listener(daemon):
        time.sleep(0.3)
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 3
    daemon.start()


def test_a_client_that_goes_away_during_create_leaves_no_shim(daemon):
    rootfs = str(daemon.folder.parent / "rootfs")
    assert (
        daemon.ctr("containers", "create", "--rootfs", rootfs, "gone", "/bin/sleep", "1000").returncode == 0
    )
    request = tasks_v1.CreateTaskRequest(container_id="gone")
    outcomes = set()
    with daemon.channel() as channel:
        create = channel.unary_unary(
            "/containerd.services.tasks.v1.Tasks/Create",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=tasks_v1.CreateTaskResponse.FromString,
        )
        for timeout_ms in (1, 3, 6, 10, 15, 20):
            try:
                create(request, timeout=timeout_ms / 1000, metadata=[("containerd-namespace", "default")])
            except grpc.RpcError as error:
                outcomes.add(error.code().name)
            else:
                break  # fast enough to be done in time
    assert "DEADLINE_EXCEEDED" in outcomes
    daemon.ctr("tasks", "rm", "-f", "gone")
    _wait_until(lambda: _tasks(daemon) == {})
    bundle = daemon.folder / "state/io.containerd.runtime.v2.task/default/gone"
    _wait_until(lambda: not bundle.exists())
    _wait_until(lambda: not _processes_naming(daemon.address))


def _processes_naming(address: str) -> list[str]:
    """Command lines of shims that belong to a daemon."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if address in line and "containerd-shim" in line.split(" ")[0]:
                    found.append(line)
    return found
