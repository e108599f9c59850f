"""Workers that unpack layers: a forked one is confined like an executed one, and whoever dies, nothing is left behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontainerd.daemon.core.growing import Growth
from pycontainerd.daemon.plugins.layer_workers import LayerWorkers
from pycontainerd.lib import errdefs
from support import leaks, patience
from support import tarball as t

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.requires("root")

LAYER = t.file(b"a", b"first") + t.file(b"b", b"second") + t.end()
DIFF_ID = "sha256:" + hashlib.sha256(LAYER).hexdigest()
STATUS = (
    "Uid",
    "Gid",
    "Groups",
    "Cap",
    "NoNewPrivs",
    "Seccomp",
    "Umask",
    "SigBlk",
    "Cpus",
    "Mems",
    "Threads",
)
_OF_THE_C_LIBRARY = 3 << 31  # signals 32 and 33, of which posix_spawn takes care


class Growing:
    """A blob that somebody writes to while it is unpacked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._growth = Growth("sha256:" + "0" * 64)
        path.write_bytes(b"")
        self._fd = os.open(path, os.O_RDONLY)

    def grow(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(data)
        self._growth.advance(self._path.stat().st_size)

    def complete(self) -> None:
        self._growth.complete()

    def give_up(self) -> None:
        self._growth.give_up()

    def fileno(self) -> int:
        return self._fd

    def wait(self, offset: int) -> int:
        return self._growth.wait(offset)

    def close(self) -> None:
        self._growth.give_up()
        os.close(self._fd)


class Unpacking:
    """An apply under way in a thread; it stands still after the first file."""

    def __init__(self, workers: LayerWorkers, folder: Path, name: str = "x", lower: int = 1) -> None:
        self.target = folder / name
        self.target.mkdir()
        self.blob = Growing(folder / f"{name}.tar")
        self.result: Future[dict[str, object]] = Future()
        self.pid = 0
        self._others = leaks.children()
        self._thread = threading.Thread(target=self._run, args=(workers, lower))
        self._thread.start()

    def begin(self) -> Unpacking:
        """Until the first file is there."""
        self.blob.grow(LAYER[:1024])
        until((self.target / "a").exists)
        (self.pid,) = (pid for pid in leaks.children() - self._others if "\0apply\0" in command_line(pid))
        return self

    def _run(self, workers: LayerWorkers, lower: int) -> None:
        fds = [os.open(self.target, os.O_RDONLY | os.O_DIRECTORY)]
        fds += [os.dup(fds[0]) for _ in range(lower)]
        try:
            self.result.set_result(workers.apply(["--overlay"], fds, self.blob))
        except (errdefs.ContainerdError, OSError) as error:
            self.result.set_exception(error)
        finally:
            for fd in fds:
                os.close(fd)

    def finish(self) -> dict[str, object]:
        self.blob.grow(LAYER[1024:])
        self.blob.complete()
        return self.result.result(patience.seconds(20))

    def close(self) -> None:
        self.blob.close()
        self._thread.join()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience.seconds(20)
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def command_line(pid: int) -> str:
    """As ps shows it; nothing of one that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def server_of(workers: LayerWorkers) -> int:
    """The process that forks workers."""
    (pid,) = (pid for pid in leaks.children() if command_line(pid).endswith("\0serve\0"))
    return pid


@pytest.fixture
def unpacking(tmp_path) -> Iterator[Callable[..., Unpacking]]:
    with contextlib.ExitStack() as stack:

        def begin(workers: LayerWorkers, name: str = "x", **more: int) -> Unpacking:
            made = Unpacking(workers, tmp_path, name, **more)
            stack.callback(made.close)
            return made.begin()

        yield begin


@pytest.fixture
def workers() -> Iterator[LayerWorkers]:
    before = leaks.children(), leaks.open_fds()
    made = LayerWorkers()
    yield made
    made.close()
    assert (leaks.children(), leaks.open_fds()) == before


def world(pid: int) -> dict[str, object]:
    """Everything that a process is, has and may do, as far as the kernel shows it."""
    proc = Path(f"/proc/{pid}")
    status = [line for line in (proc / "status").read_text().splitlines() if line.startswith(STATUS)]
    ignored = int((proc / "status").read_text().partition("SigIgn:")[2].split()[0], 16)
    names = {int(fd): os.readlink(proc / "fd" / fd) for fd in os.listdir(proc / "fd")}
    return {
        "status": status,
        "ignored signals": ignored & ~_OF_THE_C_LIBRARY,
        "limits": (proc / "limits").read_text(),
        "namespaces": {name: os.readlink(proc / "ns" / name) for name in os.listdir(proc / "ns")},
        "folder": os.readlink(proc / "cwd"),
        "root": os.readlink(proc / "root"),
        "executable": os.readlink(proc / "exe"),
        "environment": (proc / "environ").read_text(),
        "cgroup": (proc / "cgroup").read_text(),
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "oom": (proc / "oom_score_adj").read_text(),
        "session": (os.getsid(pid), os.getpgid(pid)),
        "parent": os.getpid() if pid in leaks.children() else 0,
        "files": sorted(name for name in names.values() if name.startswith("/") and name != os.devnull),
        "streams": sorted(name.partition(":")[0] for name in names.values() if not name.startswith("/")),
    }


@pytest.fixture(params=[(), (signal.SIGHUP, signal.SIGQUIT)], ids=["as it is", "nohup"])
def ignored_signals(request) -> Iterator[None]:
    """What this process, and so the daemon, was told to ignore by who started it."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in request.param}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_forked_worker_is_what_an_executed_one_is(ignored_signals, workers, unpacking) -> None:
    executed_workers = LayerWorkers(forks=False)
    pids = unpacking(workers, "x").pid, unpacking(executed_workers, "y").pid
    # Both wait for more of their layers, on a busy machine not at the same moment.
    until(lambda: len({str(world(pid)["status"]) for pid in pids}) == 1)
    forked, executed = (world(pid) for pid in pids)
    executed["files"] = [str(name).replace("/y", "/x") for name in executed["files"]]
    # Its blob and its channel, instead of blob, answer and complaints.
    assert forked.pop("streams") == ["pipe", "socket"]
    assert executed.pop("streams") == ["pipe"] * 3
    assert "NoNewPrivs:\t1" in forked["status"]
    assert forked.pop("status") == executed.pop("status")
    assert forked == executed


def test_a_worker_may_look_neither_into_another_nor_into_what_forks_them(workers, unpacking) -> None:
    pids = [unpacking(workers).pid, server_of(workers)]
    code = (
        "import os, sys; from pycontainerd.lib.archive.worker import confine\n"
        "confine()\n"
        "for pid in sys.argv[1:]:\n"
        "    try: os.readlink(f'/proc/{pid}/exe')\n"
        "    except PermissionError: print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, pids)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["refused", "refused"]


def test_layers_beside_each_other_have_a_worker_each_from_one_process(workers, unpacking) -> None:
    first, second = unpacking(workers, "x"), unpacking(workers, "y")
    assert first.pid != second.pid
    server_of(workers)  # just one
    answers = [first.finish(), second.finish()]
    assert answers[0]["diff_id"] == answers[1]["diff_id"] == DIFF_ID
    for each in (first, second):
        assert {path.name: path.read_bytes() for path in each.target.iterdir()} == {
            "a": b"first",
            "b": b"second",
        }


def test_a_worker_that_is_killed_is_an_error_that_says_so(workers, unpacking) -> None:
    layer = unpacking(workers)
    os.kill(layer.pid, signal.SIGKILL)
    with pytest.raises(errdefs.Unknown, match=r"ended with status -9 and no answer$"):
        layer.finish()
    assert unpacking(workers, "y").finish()["size"] == len(LAYER)


def test_workers_outlive_what_forked_them_and_the_next_layer_has_a_new_one(workers, unpacking) -> None:
    layer = unpacking(workers)
    server = server_of(workers)
    os.kill(server, signal.SIGKILL)
    until(lambda: server not in leaks.children())
    assert layer.finish()["diff_id"] == DIFF_ID
    assert unpacking(workers, "y").finish()["diff_id"] == DIFF_ID
    assert server_of(workers) != server


def test_what_is_stopped_is_replaced(workers, unpacking) -> None:
    """It answers nobody; it is killed, and another one forks the worker."""
    workers.patience_s = 0.3
    unpacking(workers).finish()
    server = server_of(workers)
    os.kill(server, signal.SIGSTOP)
    assert unpacking(workers, "y").finish()["diff_id"] == DIFF_ID
    assert server not in leaks.children()


def test_a_blob_that_is_given_up_ends_its_worker(workers, unpacking) -> None:
    layer = unpacking(workers)
    layer.blob.give_up()
    with pytest.raises(errdefs.Unavailable):
        layer.result.result(patience.seconds(20))
    assert layer.pid not in leaks.children()


def test_more_lower_directories_than_a_message_takes_go_to_an_executed_worker(workers, unpacking) -> None:
    assert unpacking(workers, lower=260).finish()["diff_id"] == DIFF_ID


def test_a_layer_that_is_refused_says_why(workers, tmp_path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(t.file(b"a", b"x") + b"junk" * 200)
    with blob.open("rb") as file, open_folder(tmp_path) as fd, pytest.raises(errdefs.Unknown, match="tar"):
        workers.apply([], [fd], file.fileno())


def test_it_leaves_when_nobody_has_asked_for_a_while(workers, unpacking) -> None:
    unpacking(workers).finish()
    server = server_of(workers)
    deadline = time.monotonic() + patience.seconds(30)
    while server in leaks.children():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert unpacking(workers, "y").finish()["diff_id"] == DIFF_ID


@contextlib.contextmanager
def open_folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
