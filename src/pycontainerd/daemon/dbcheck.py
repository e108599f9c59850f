"""`pycontainerd db check`: the metadata of a root against its disk, and with --repair back in agreement.

It takes the root's lock, so no daemon runs meanwhile. A database that SQLite itself finds damaged is read row by row
into a new one; the old file stays beside it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon import config as settings
from pycontainerd.daemon import sockets
from pycontainerd.daemon.plugins.metadata_sqlite import schema
from pycontainerd.daemon.plugins.metadata_sqlite.check import Checker, integrity
from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
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
    aside = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    lost = _salvage(path, f"{path}.new")
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.rename(path + suffix, aside + suffix)
    os.rename(f"{path}.new", path)
    print(f"database: read into a new one, {lost} tables not to their end; the old one is {aside}")
    return 0


def _salvage(path: str, target: str) -> int:
    """Copies every row that can be read; how many tables could not be read to their end."""
    if os.path.exists(target):
        os.unlink(target)
    Database(target).close()
    lost = 0
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(target)) as new:
        # Rows may refer to what could not be read: the checks that follow say so.
        new.execute("PRAGMA foreign_keys=0")
        for table, statement in schema.TABLES.items():
            if statement.split()[1] != "TABLE" or table == "settings":
                continue
            try:
                for row in old.execute(f"SELECT * FROM {table}"):  # noqa: S608 -- names of the schema
                    new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row)  # noqa: S608
            except sqlite3.DatabaseError as e:
                lost += 1
                print(f"database: {table}: {e}")
        new.execute(
            "DELETE FROM lease_resources WHERE (namespace, lease) NOT IN (SELECT namespace, id FROM leases)"
        )
        for table in ("images", "containers", "blobs", "ingests", "snapshots", "leases", "sandboxes"):
            new.execute(f"INSERT OR IGNORE INTO namespaces (name) SELECT DISTINCT namespace FROM {table}")  # noqa: S608
        new.commit()
        if left := integrity(new):
            raise DataLoss(f"{path} cannot be read into a sound database: {left[0]}: data loss")
    return lost


def _check_rows(path: str, config: Config, targets: str, *, repair: bool, verify: bool) -> int:
    """Rows and files; how many problems are left."""
    snapshotters = {
        uri.rpartition(".")[2]: config.plugins[uri]["root_path"] or f"{config.root}/{uri}"
        for uri in (settings.OVERLAYFS, settings.NATIVE)
    }
    # Opened by the daemon's own code first: an older schema is brought up to date.
    Database(path).close()
    left = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=1")
        connection.execute("BEGIN IMMEDIATE")
        checker = Checker(connection, f"{config.root}/{_CONTENT}", snapshotters, targets, verify=verify)
        for problem in checker.problems():
            mended = repair and problem.mend is not None
            print(f"{problem.text}{' (repaired)' if mended else ''}")
            sys.stdout.flush()
            if mended and problem.mend is not None:
                problem.mend()
            else:
                left += 1
        connection.execute("COMMIT")
    return left
