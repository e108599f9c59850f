"""A full disk: the real daemon's words, nothing visible that is not whole, and work goes on once there is room."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from support.daemons import Daemon

BIG = os.urandom(12 << 20)
DIGEST = "sha256:" + hashlib.sha256(BIG).hexdigest()


@contextlib.contextmanager
def small_disk(folder: Path):
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
    yield path
    remove_tree(str(path))


def _ingest(daemon: Daemon, blob: Path):
    return daemon.ctr(
        "content", "ingest", "--expected-digest", DIGEST, "--expected-size", str(len(BIG)), "ref", stdin=blob
    )


def test_an_ingest_on_a_full_disk_fails_as_on_the_real_daemon_and_can_be_resumed(folder):
    blob = folder / "blob"
    blob.write_bytes(BIG)
    errors = []
    for name, real in (("r", True), ("o", False)):
        with small_disk(folder / name / "root"), Daemon(folder / name, real=real) as daemon:
            daemon.start()
            done = _ingest(daemon, blob)
            assert done.returncode == 1
            errors.append(done.stderr.decode().replace(str(folder / name), "/D").rpartition("/data")[2])
            assert daemon.ctr("content", "ls", "-q").stdout == b""
            assert b"ref" in daemon.ctr("content", "active").stdout
            subprocess.run(["mount", "-o", "remount,size=40m", folder / name / "root"], check=True)
            assert _ingest(daemon, blob).returncode == 0
            assert daemon.ctr("content", "ls", "-q").stdout.decode() == DIGEST + "\n"
            daemon.stop()
    assert errors[0] == errors[1]
    assert "no space left on device" in errors[1]


def test_metadata_on_a_full_disk_says_so_and_recovers(folder):
    with small_disk(folder / "o" / "root"), Daemon(folder / "o", real=False) as daemon:
        daemon.start()
        filler = folder / "o" / "root" / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as f:
            for _ in range(1 << 16):
                f.write(b"x" * 4096)
                f.flush()
        failures = [daemon.ctr("namespaces", "create", f"n{n}", "label=" + "x" * 4000) for n in range(40)]
        refused = [done for done in failures if done.returncode]
        assert refused
        assert all(b"no space left on device" in done.stderr for done in refused)
        filler.unlink()
        assert daemon.ctr("namespaces", "create", "after").returncode == 0
        listed = daemon.ctr("namespaces", "ls", "-q").stdout.decode().split()
        told = {f"n{n}" for n, done in enumerate(failures) if done.returncode == 0} | {"after"}
        assert set(listed) == told
        daemon.stop()
