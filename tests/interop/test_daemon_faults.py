"""A disk that fails and a table of open files that is full: errors that say so, nothing half visible, and work goes on after."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from support import patience
from support.daemons import Daemon, process_running

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(150)]

DATA = os.urandom(1 << 20)
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
    yield path
    remove_tree(str(path))


@contextlib.contextmanager
def failing(pid: int, calls: str, error: str):
    """While strace makes these system calls of a process and all its threads fail."""
    argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid)]
    tracer = subprocess.Popen([*argv, "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"])
    try:
        deadline = time.monotonic() + patience.seconds(20)
        while any(traced_by(pid, task) != tracer.pid for task in os.listdir(f"/proc/{pid}/task")):
            assert time.monotonic() < deadline, "strace doesn't attach"
            time.sleep(0.02)
        yield
    finally:
        tracer.terminate()
        tracer.wait(20)


def traced_by(pid: int, task: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))


def ingest(daemon: Daemon, ref: str = "ref"):
    words = ("--expected-digest", DIGEST, "--expected-size", str(len(DATA)), ref)
    return daemon.ctr("content", "ingest", *words, stdin=blob(daemon))


def keep(daemon: Daemon) -> None:
    """Puts the blob there to stay: without its label it is garbage, which a collection may take at any time."""
    for _ in range(5):
        assert ingest(daemon).returncode == 0
        if daemon.ctr("content", "label", DIGEST, "containerd.io/gc.root=1").returncode == 0:
            return
    pytest.fail("the blob is collected again and again")


def blob(daemon: Daemon) -> Path:
    """A file, because ctr tries again and reads it from where it was."""
    path = daemon.folder / "blob"
    path.write_bytes(DATA)
    return path


def test_what_the_disk_does_not_take_is_an_error_and_never_visible(folder):
    """Ours alone: containerd 1.6 ends when its database can't be written."""
    with Daemon(folder / "d", real=False) as daemon:
        daemon.start()
        assert daemon.ctr("namespaces", "create", "before").returncode == 0
        with failing(daemon.pid, "fsync,fdatasync", "EIO"):
            failed = [daemon.ctr("namespaces", "create", f"lost{n}") for n in range(3)] + [ingest(daemon)]
        for done in failed:
            assert (done.returncode, b"Traceback" in done.stderr) == (1, False), done.stderr
            assert b"i/o error" in done.stderr.lower() or b"input/output error" in done.stderr, done.stderr
        assert daemon.ctr("content", "ls", "-q").stdout == b""
        assert list((folder / "d/root/io.containerd.content.v1.content/blobs").glob("*/*")) == []
        assert daemon.ctr("namespaces", "create", "after").returncode == 0
        keep(daemon)
        for _ in range(2):
            listed = daemon.ctr("namespaces", "ls", "-q").stdout.decode().split()
            assert sorted({*listed} - {"default"}) == ["after", "before"]
            assert daemon.ctr("content", "get", DIGEST).stdout == DATA
            daemon.stop(9)
            daemon.start()
        daemon.stop()


@pytest.mark.parametrize("real", [True, False], ids=["real", "ours"])
def test_a_commit_whose_file_cannot_be_put_in_its_place_is_no_commit(folder, real):
    with Daemon(folder / "d", real=real) as daemon:
        daemon.start()
        with failing(daemon.pid, "rename,renameat,renameat2", "EIO"):
            done = ingest(daemon)
            assert (done.returncode, b"Traceback" in done.stderr) == (1, False), done.stderr
            assert b"input/output error" in done.stderr.lower() or b"i/o error" in done.stderr.lower(), (
                done.stderr
            )
        assert daemon.ctr("content", "ls", "-q").stdout == b""
        keep(daemon)
        assert daemon.ctr("content", "get", DIGEST).stdout == DATA
        daemon.stop()


@contextlib.contextmanager
def room_for(pid: int, more: int):
    """While a process can open so many files more than it has open now, once nothing is left of the calls before."""
    while (now := open_files(pid)) and time.sleep(0.3) is None and open_files(pid) != now:
        pass
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files(pid) + more, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def open_files(pid: int, *, but: str = "") -> int:
    """How many files a process has open, without those that have `but` in their names."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            found += not but or but not in target
    return found


def outcome(daemon: Daemon, *words: str, **options) -> int:
    """Exit status of ctr; 1 where it still waits after a while."""
    try:
        return daemon.ctr("--connect-timeout", "2s", *words, timeout_s=8, **options).returncode
    except subprocess.TimeoutExpired:
        return 1


@pytest.mark.parametrize("real", [True, False], ids=["real", "ours"])
@pytest.mark.parametrize("more", [0, 1])
def test_without_room_for_another_open_file_calls_fail_or_wait_and_go_on_after(folder, real, more):
    with Daemon(folder / "d", real=real) as daemon:
        daemon.start()
        assert ingest(daemon, "warm").returncode == 0
        assert daemon.ctr("content", "rm", DIGEST).returncode == 0
        before = open_files(
            daemon.pid, but=".db"
        )  # of the database each thread has its own, once it needs it
        with room_for(daemon.pid, more):
            failed = [outcome(daemon, "content", "ingest", f"r{n}", stdin=blob(daemon)) for n in range(2)]
            assert process_running(daemon.pid)
        assert failed == [1, 1]
        keep(daemon)
        assert daemon.ctr("content", "get", DIGEST).stdout == DATA
        deadline = time.monotonic() + patience.seconds(20)
        while open_files(daemon.pid, but=".db") > before + 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert open_files(daemon.pid, but=".db") <= before + 3
        daemon.stop()


def test_without_room_no_shim_is_started_and_a_container_that_runs_does_not_notice(folder, busybox):
    with Daemon(folder / "d", real=False, starter="forkserver") as daemon:
        daemon.start()
        assert daemon.ctr("image", "pull", "--plain-http", busybox).returncode == 0
        assert daemon.ctr("run", "-d", busybox, "stays", "sleep", "1000").returncode == 0
        try:
            pid = int(daemon.ctr("task", "ls").stdout.split(b"\n")[1].split()[1])
            with room_for(daemon.pid, 1):
                failed = outcome(daemon, "run", "-d", busybox, "fails", "sleep", "1000")
            running = process_running(pid)
        finally:
            for name in ("fails", "stays"):
                daemon.ctr("task", "rm", "-f", name)
                daemon.ctr("container", "rm", name)
        assert (failed, running) == (1, True)
        assert daemon.ctr("run", "--rm", busybox, "again", "echo", "back").stdout == b"back\n"
        assert daemon.ctr("container", "ls", "-q").stdout == b""
        assert daemon.ctr("task", "ls", "-q").stdout == b""
        daemon.stop()
