"""Schema versions of the metadata: older ones migrate without loss, others are refused and left as they are."""

from __future__ import annotations

import contextlib
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pycontainerd.daemon.plugins.metadata_sqlite import schema
from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
from pycontainerd.lib.errdefs import DataLoss, FailedPrecondition
from support import old_metadata
from support.programs import TOP

OLDER = range(1, schema.VERSION)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meta.db"


def contents(path: Path) -> dict[str, bytes]:
    """Every file beside a database, and itself."""
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


@pytest.mark.parametrize("version", [*OLDER, schema.VERSION])
def test_every_version_comes_up_to_date_with_all_it_holds(path: Path, version: int) -> None:
    rows = old_metadata.build(path, version)
    database = Database(str(path))
    assert database.was_clean
    database.close()
    assert old_metadata.read(path) == (schema.VERSION, rows)
    Database(str(path)).close()


@pytest.mark.parametrize("version", [*OLDER, schema.VERSION])
def test_a_migrated_database_has_the_tables_of_a_new_one(path: Path, version: int) -> None:
    """The current version, too: its tables change only together with its number."""
    old_metadata.build(path, version)
    Database(str(path)).close()
    Database(f"{path}.new").close()
    assert old_metadata.schema_of(path) == old_metadata.schema_of(f"{path}.new")


def test_every_version_has_its_migration() -> None:
    assert sorted(schema.MIGRATIONS) == list(range(2, schema.VERSION + 1)) == sorted(old_metadata.ADDED)


@pytest.mark.parametrize("was_killed", [False, True])
@pytest.mark.parametrize("version", [-1, 0, schema.VERSION + 1, 99])
def test_another_version_is_refused_and_nothing_of_it_changes(
    path: Path, version: int, was_killed: bool
) -> None:
    old_metadata.build(path, schema.VERSION)
    found = path.parent / "folder/meta.db"
    found.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE settings SET value=? WHERE key='schema_version'", (version,))
        connection.commit()
        if was_killed:  # then its last commits are still in the log
            Path(f"{found}-wal").write_bytes(Path(f"{path}-wal").read_bytes())
            found.write_bytes(path.read_bytes())
    if not was_killed:
        path.rename(found)
    before = contents(found)
    text = f"schema version {version}, this daemon knows {schema.VERSION}"
    with pytest.raises(FailedPrecondition, match=text if version > 0 else "without a schema version"):
        Database(str(found))
    after = contents(found)
    after.pop("meta.db-shm", None)  # who reads a log makes an index of it
    assert after == before


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (name)")
        connection.commit()
    before = contents(path)
    with pytest.raises(FailedPrecondition, match="a database without a schema version"):
        Database(str(path))
    assert contents(path) == before


def test_a_migration_that_fails_leaves_the_old_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two steps: what the first one made goes back with it."""
    rows = old_metadata.build(path, 1)
    steps = {**schema.MIGRATIONS, schema.VERSION: ("CREATE TABLE half (x)", "no statement")}
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with pytest.raises(DataLoss, match="syntax error"):
        Database(str(path))
    monkeypatch.undo()
    assert old_metadata.read(path) == (1, rows)
    assert {name for name in old_metadata.schema_of(path) if name in ("half", "sandboxes")} == set()


def test_what_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="unable to open database file: failed precondition"):
        Database(str(tmp_path))


OPEN = "import sys; from pycontainerd.daemon.plugins.metadata_sqlite.database import Database; Database(sys.argv[1]).close()"
CALLS = "pwrite64,fsync,fdatasync,ftruncate,unlink"


def _calls(argv: list[str], path: Path, out: Path) -> dict[str, int]:
    """How often opening a database makes each call that can change it."""
    old_metadata.build(path, 1)
    subprocess.run(["strace", "-f", "-qq", "-o", out, "-e", f"trace={CALLS}", *argv, path], check=True)
    found = re.findall(r"^\d+ +(\w+)\(", out.read_text(), re.MULTILINE)
    return {call: found.count(call) for call in CALLS.split(",")}


@pytest.mark.requires("strace")
@pytest.mark.timeout(300)
def test_killed_at_any_call_it_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    """kill -9 at each call that changes the file; what that left is whole, and the next one finishes it."""
    argv = [sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {str(TOP / 'src')!r}); {OPEN}"]
    calls = _calls(argv, tmp_path / "counted.db", tmp_path / "calls")
    assert calls["pwrite64"] > 3
    versions = set()
    for call, number in ((call, at) for call, count in calls.items() for at in range(1, count + 1)):
        target = tmp_path / f"{call}-{number}.db"
        rows = old_metadata.build(target, 1)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
        done = subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", *inject, *argv, target], check=False)
        assert done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}, (call, number)
        version, found = old_metadata.read(target)
        assert found == rows, (call, number)
        versions.add(version)
        Database(str(target)).close()
        assert old_metadata.read(target) == (schema.VERSION, rows)
    assert versions == {1, schema.VERSION}
