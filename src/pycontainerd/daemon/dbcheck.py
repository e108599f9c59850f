"""`pycontainerd db check`: the metadata of a root against its disk, and with --repair back in agreement.

It takes the root's lock, so no daemon runs meanwhile. A database that SQLite itself finds damaged is read row by row
into a new one; the old file stays beside it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon import config as settings
from pycontainerd.daemon import sockets
from pycontainerd.daemon.core import files
from pycontainerd.daemon.plugins.metadata_sqlite import schema
from pycontainerd.daemon.plugins.metadata_sqlite.check import Checker, integrity
from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, migrate, refuse_others
from pycontainerd.lib.errdefs import AlreadyExists, DataLoss, NotFound

if TYPE_CHECKING:
    from pycontainerd.daemon.config import Config

_CONTENT: Final = "io.containerd.content.v1.content"
_MOUNTS: Final = "io.containerd.mount-manager.v1.sqlite"
_METADATA: Final = "io.containerd.metadata.v1.sqlite"


def run(config: Config, *, repair: bool, verify: bool) -> int:
    """Prints what is wrong, one line each; 0 when nothing is, or all of it was repaired. AlreadyExists beside a daemon."""
    path = f"{config.root}/{_METADATA}/meta.db"
    if not os.path.exists(path):
        raise NotFound(f"{path} is not there", hint="name the daemon's folder with --root, or its --config")
    with ExitStack() as locks:
        locks.callback(os.close, sockets.lock_folder(config.root, "--root"))
        refuse_others(path)
        targets = _locked_targets(config, locks)
        left = _check_file(path, repair=repair)
        if not left:
            left = _check_rows(path, config, targets, repair=repair, verify=verify)
    print(f"{left} problem{'' if left == 1 else 's'} left" if left else "the metadata agrees with the disk")
    return 1 if left else 0


def _locked_targets(config: Config, locks: ExitStack) -> str:
    """The folder of the mounts of activations; "" where there is none, or where a daemon of another root has it."""
    targets = f"{config.state}/{_MOUNTS}/t"
    if not os.path.isdir(targets):
        return ""
    try:
        locks.callback(os.close, sockets.lock_folder(config.state, "--state"))
    except AlreadyExists:
        return ""
    return targets


def _check_file(path: str, *, repair: bool) -> int:
    """The database itself; how many problems are left."""
    with closing(sqlite3.connect(path)) as connection:
        found = integrity(connection)
    for text in found:
        print(f"database: {text}")
    if not found or not repair:
        return len(found)
    lost = _salvage(path, f"{path}.new")
    aside = _name_aside(path)
    _exchange(path, f"{path}.new", aside)
    print(f"database: read into a new one, {lost} tables not to their end; the old one is {aside}")
    return 0


def _name_aside(path: str) -> str:
    """A name with the time that nothing has: not what a repair that was killed a moment ago has put there, either."""
    name = aside = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    number = 1
    while any(os.path.exists(aside + suffix) for suffix in ("", "-wal", "-shm")):
        number += 1
        aside = f"{name}-{number}"
    return aside


def _exchange(path: str, new: str, aside: str) -> None:
    """Puts a new database in the place of the old one, which stays aside; at no moment is there none."""
    os.link(path, aside)
    for suffix in ("-wal", "-shm"):  # they are the old one's: the new one must not be read with them
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    os.rename(new, path)
    files.sync_dir(os.path.dirname(path))


def _salvage(path: str, target: str) -> int:
    """Copies every row that can be read; how many tables could not be read to their end. Raises DataLoss if none can."""
    for suffix in ("", "-wal", "-shm"):  # of a repair that was killed
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target + suffix)
    lost = 0
    with closing(sqlite3.connect(path)) as old:
        columns = _columns(old, path)
        Database(target).close()
        with closing(sqlite3.connect(target)) as new:
            # Rows may refer to what could not be read: the checks that follow say so.
            new.execute("PRAGMA foreign_keys=0")
            for table in columns:
                lost += _copy(old, new, table, columns[table])
            _drop_dangling(new)
            new.commit()
            if left := integrity(new):
                raise DataLoss(f"{path} cannot be read into a sound database: {left[0]}: data loss")
    return lost


def _columns(old: sqlite3.Connection, path: str) -> dict[str, str]:
    """The tables to copy and their columns, as the old database has them: an older one has fewer."""
    try:
        found = {
            table: ",".join(row[1] for row in old.execute(f"PRAGMA table_info({table})"))
            for table, statement in schema.TABLES.items()
            if statement.split()[1] == "TABLE" and table != "settings"
        }
    except sqlite3.DatabaseError as e:
        raise DataLoss(
            f"nothing can be read of {path}: {e}: data loss",
            hint="put a copy of the file back, or move it away to start with nothing: what is on the disk is then removed",
        ) from e
    return {table: columns for table, columns in found.items() if columns}


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, columns: str) -> bool:
    """Copies a table's rows as far as they can be read; whether that is not to the end."""
    places = ",".join("?" * (columns.count(",") + 1))
    try:
        for row in old.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608 -- names of the schema
            new.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})", row)  # noqa: S608
    except sqlite3.DatabaseError as e:
        print(f"database: {table}: {e}")
        return True
    return False


def _drop_dangling(new: sqlite3.Connection) -> None:
    """What would refer to a lease or a namespace that could not be read."""
    new.execute(
        "DELETE FROM lease_resources WHERE (namespace, lease) NOT IN (SELECT namespace, id FROM leases)"
    )
    for table in ("images", "containers", "blobs", "ingests", "snapshots", "leases", "sandboxes"):
        new.execute(f"INSERT OR IGNORE INTO namespaces (name) SELECT DISTINCT namespace FROM {table}")  # noqa: S608


def _check_rows(path: str, config: Config, targets: str, *, repair: bool, verify: bool) -> int:
    """Rows and files; how many problems are left."""
    snapshotters = {
        uri.rpartition(".")[2]: config.plugins[uri]["root_path"] or f"{config.root}/{uri}"
        for uri in (settings.OVERLAYFS, settings.NATIVE)
    }
    left = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=1")
        connection.execute("BEGIN IMMEDIATE")
        migrate(
            connection
        )  # an older one is looked at as the daemon will have it, and left as it is without --repair
        checker = Checker(connection, f"{config.root}/{_CONTENT}", snapshotters, targets, verify=verify)
        for problem in checker.problems():
            mended = repair and problem.mend is not None
            print(f"{problem.text}{' (repaired)' if mended else ''}")
            sys.stdout.flush()
            if mended and problem.mend is not None:
                problem.mend()
            else:
                left += 1
        connection.execute("COMMIT" if repair else "ROLLBACK")
    return left
