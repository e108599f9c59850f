"""The daemon on metadata of other schema versions, damaged or on a full disk: it comes up whole, or says why it doesn't."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.daemon.plugins.metadata_sqlite import schema
from support import old_metadata
from support.daemons import Daemon
from support.programs import ours

DATA = b"abc"
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


class Root:
    """A daemon's folder with a database of a version and the one blob that it knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "root/io.containerd.metadata.v1.sqlite/meta.db"
        self.database.parent.mkdir(parents=True)

    def build(self, version: int) -> None:
        old_metadata.build(self.database, version)
        with closing(sqlite3.connect(self.database)) as connection:
            for statement in (
                "UPDATE blobs SET digest=:d",
                "UPDATE images SET digest=:d",
                "UPDATE lease_resources SET id=:d",
            ):
                connection.execute(statement, {"d": DIGEST})
            connection.execute("DELETE FROM snapshots")
            connection.execute("DELETE FROM snapshot_nodes")
            connection.execute("DELETE FROM ingests")
            connection.execute("UPDATE containers SET snapshotter='', snapshot_key=''")
            connection.commit()
        blob = self.folder / "root/io.containerd.content.v1.content/blobs/sha256" / DIGEST[7:]
        blob.parent.mkdir(parents=True)
        blob.write_bytes(DATA)

    def files(self) -> dict[str, bytes]:
        """The database's own; without the index of its log, which whoever reads that makes."""
        found = {file.name: file.read_bytes() for file in self.database.parent.iterdir()}
        return {name: data for name, data in found.items() if not name.endswith("-shm")}

    def program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The daemon's program, which is to leave by itself."""
        where = ["--root", f"{self.folder}/root", "--state", f"{self.folder}/state"]
        return subprocess.run(
            [ours("pycontainerd"), *where, "--address", f"{self.folder}/c.sock", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.fixture
def root():
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    yield Root(folder)
    remove_tree(str(folder))


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_a_daemon_goes_on_with_what_an_older_one_has_left(root, version):
    root.build(version)
    with Daemon(root.folder, real=False) as daemon:
        daemon.start()
        assert len(daemon.ctr("images", "ls", "-q").stdout.splitlines()) == 50
        assert daemon.ctr("containers", "ls", "-q").stdout.split() == [b"c1", b"c2"]
        assert daemon.ctr("content", "get", DIGEST).stdout == DATA
        assert daemon.ctr("leases", "ls", "-q").stdout.split() == [b"l1"]
        assert sorted(daemon.ctr("namespaces", "ls", "-q").stdout.decode().split()) == [
            "default",
            "empty",
            "\u00fcber",
        ]
        daemon.stop()
    assert old_metadata.read(root.database)[0] == schema.VERSION


def test_a_newer_ones_metadata_is_refused_and_not_a_byte_of_it_changes(root):
    root.build(schema.VERSION)
    with closing(sqlite3.connect(root.database)) as connection:
        connection.execute("UPDATE settings SET value=99 WHERE key='schema_version'")
        connection.commit()
    before = root.files()
    for arguments in ((), ("db", "check"), ("db", "check", "--repair")):
        done = root.program(*arguments)
        text = f"metadata database {root.database} has schema version 99, this daemon knows {schema.VERSION}"
        assert done.returncode == 1
        assert text in done.stderr
        assert "Traceback" not in done.stderr
        assert root.files() == before


def test_a_check_looks_at_an_older_one_as_the_daemon_will_and_leaves_it(root):
    root.build(1)
    before = old_metadata.read(root.database)
    assert root.program("db", "check").stdout == "the metadata agrees with the disk\n"
    assert old_metadata.read(root.database) == before
    assert root.program("db", "check", "--repair").returncode == 0
    assert old_metadata.read(root.database) == (schema.VERSION, before[1])


def test_an_older_one_that_is_damaged_is_read_into_a_new_one(root):
    root.build(1)
    with closing(sqlite3.connect(root.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name='leases'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    data = bytearray(root.database.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    root.database.write_bytes(data)
    done = root.program("db", "check", "--repair")
    assert "read into a new one, 1 tables not to their end" in done.stdout, done.stdout + done.stderr
    version, rows = old_metadata.read(root.database)
    assert version == schema.VERSION
    assert (len(rows["images"]), len(rows["containers"]), "leases" in rows) == (50, 2, False)


def test_a_damaged_one_stops_the_daemon_which_says_what_to_do(root):
    root.build(schema.VERSION)
    data = bytearray(root.database.read_bytes())
    data[:100] = bytes(100)
    root.database.write_bytes(data)
    done = root.program()
    assert done.returncode == 1
    assert f"metadata database {root.database}: file is not a database: data loss" in done.stderr
    assert "db check --repair" in done.stderr
    assert "Traceback" not in done.stderr
    assert root.database.read_bytes() == data


def test_one_that_another_program_uses_is_not_called_damaged(root):
    root.build(1)
    with closing(sqlite3.connect(root.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = root.program()
        assert done.returncode == 1
        assert f"metadata database {root.database} is in use by another program" in done.stderr


def test_a_disk_that_is_full_stops_a_migration_and_nothing_is_lost(root):
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(root.database.parent)], check=True
    )
    try:
        root.build(1)
        before = old_metadata.read(root.database)
        filler = root.database.parent / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        done = root.program()
        assert done.returncode == 1
        assert "no space left on device: resource exhausted" in done.stderr
        filler.unlink()
        assert old_metadata.read(root.database) == before
        assert root.program("db", "check", "--repair").returncode == 0
        assert old_metadata.read(root.database) == (schema.VERSION, before[1])
    finally:
        subprocess.run(["umount", str(root.database.parent)], check=True)
