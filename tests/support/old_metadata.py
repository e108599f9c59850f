"""Metadata databases as daemons of each schema version have made them, in words that no later schema changes."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

VERSION_1 = """
CREATE TABLE settings (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sequences (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL DEFAULT '{}') WITHOUT ROWID;
CREATE TABLE images (
    namespace TEXT NOT NULL REFERENCES namespaces(name), name TEXT NOT NULL, media_type TEXT NOT NULL,
    digest TEXT NOT NULL, size INTEGER NOT NULL, annotations TEXT NOT NULL, labels TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (namespace, name)) WITHOUT ROWID;
CREATE TABLE containers (
    namespace TEXT NOT NULL REFERENCES namespaces(name), id TEXT NOT NULL, image TEXT NOT NULL,
    runtime_name TEXT NOT NULL, options_type TEXT, options_value BLOB, spec_type TEXT NOT NULL,
    spec_value BLOB NOT NULL, snapshotter TEXT NOT NULL, snapshot_key TEXT NOT NULL, sandbox TEXT NOT NULL,
    labels TEXT NOT NULL, extensions TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    PRIMARY KEY (namespace, id));
CREATE TABLE blobs (
    namespace TEXT NOT NULL REFERENCES namespaces(name), digest TEXT NOT NULL, size INTEGER NOT NULL,
    labels TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    PRIMARY KEY (namespace, digest)) WITHOUT ROWID;
CREATE TABLE ingests (
    namespace TEXT NOT NULL REFERENCES namespaces(name), ref TEXT NOT NULL, backend_ref TEXT NOT NULL UNIQUE,
    expected TEXT NOT NULL, expires INTEGER, PRIMARY KEY (namespace, ref));
CREATE TABLE snapshots (
    namespace TEXT NOT NULL REFERENCES namespaces(name), snapshotter TEXT NOT NULL, key TEXT NOT NULL,
    backend_key TEXT NOT NULL, parent TEXT NOT NULL, labels TEXT NOT NULL, created INTEGER NOT NULL,
    updated INTEGER NOT NULL, PRIMARY KEY (namespace, snapshotter, key)) WITHOUT ROWID;
CREATE INDEX snapshots_by_parent ON snapshots (namespace, snapshotter, parent);
CREATE TABLE leases (
    namespace TEXT NOT NULL REFERENCES namespaces(name) ON DELETE CASCADE, id TEXT NOT NULL, labels TEXT NOT NULL,
    created INTEGER NOT NULL, PRIMARY KEY (namespace, id)) WITHOUT ROWID;
CREATE TABLE lease_resources (
    namespace TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (namespace, lease, type, id),
    FOREIGN KEY (namespace, lease) REFERENCES leases(namespace, id) ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE snapshot_nodes (
    snapshotter TEXT NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL, kind INTEGER NOT NULL, parent TEXT NOT NULL,
    inodes INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0, labels TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (snapshotter, key)) WITHOUT ROWID;
CREATE INDEX snapshot_nodes_by_parent ON snapshot_nodes (snapshotter, parent);
"""
# What each version has beyond the one before it.
ADDED = {
    2: """
CREATE TABLE sandboxes (
    namespace TEXT NOT NULL REFERENCES namespaces(name) ON DELETE CASCADE, id TEXT NOT NULL,
    runtime_name TEXT NOT NULL, options_type TEXT, options_value BLOB, spec_type TEXT, spec_value BLOB,
    sandboxer TEXT NOT NULL, labels TEXT NOT NULL, extensions TEXT NOT NULL, created INTEGER NOT NULL,
    updated INTEGER NOT NULL, PRIMARY KEY (namespace, id));
""",
    3: """
CREATE TABLE activations (
    namespace TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL UNIQUE, lease TEXT NOT NULL,
    labels TEXT NOT NULL, active TEXT, system TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)) WITHOUT ROWID;
""",
}
DIGEST = f"sha256:{'a' * 64}"
# One of everything, and then some; a later version's tables stay empty where they don't exist.
ROWS: dict[str, list[tuple[Any, ...]]] = {
    "sequences": [("snapshot", 7)],
    "namespaces": [("default", '{"a":"b"}'), ("empty", "{}"), ("\u00fcber", "{}")],
    "images": [("default", f"docker.io/library/x:{n}", "m", DIGEST, 3, "{}", "{}", n, n) for n in range(50)],
    "containers": [
        ("default", "c1", "i", "io.containerd.runc.v2", "t", b"\0\xff", "s", b"{}", "native", "k", "", "{}", "{}", 1, 2),
        ("default", "c2", "", "r", None, None, "s", b"", "", "", "", "{}", "{}", 1, 2),
    ],
    "blobs": [("default", DIGEST, 3, '{"containerd.io/gc.root":"x"}', 1, 2)],
    "ingests": [("default", "r", "default/1/r", DIGEST, None)],
    "snapshots": [("default", "native", "k", "default/1/k", "", '{"containerd.io/gc.root":"x"}', 1, 2)],
    "leases": [("default", "l1", "{}", 5)],
    "lease_resources": [("default", "l1", "content", DIGEST)],
    "snapshot_nodes": [("native", "default/1/k", 1, 2, "", 3, 4, "{}", 1, 2)],
}  # fmt: skip
ADDED_ROWS: dict[int, dict[str, list[tuple[Any, ...]]]] = {
    2: {"sandboxes": [("default", "s1", "r", None, None, None, None, "shim", "{}", "{}", 1, 2)]},
    3: {"activations": [("default", "a1", 1, "", "{}", None, "[]", 1, 2)]},
}


def build(path: Path | str, version: int, *, clean: bool = True) -> dict[str, list[tuple[Any, ...]]]:
    """A database of a version, as its daemon has left it; what is in it, by table."""
    rows = dict(ROWS)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(VERSION_1)
        for number in range(2, version + 1):
            connection.executescript(ADDED.get(number, ""))
            rows |= ADDED_ROWS.get(number, {})
        for table, values in rows.items():
            places = ",".join("?" * len(values[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({places})", values)
        connection.executemany(
            "INSERT INTO settings VALUES (?,?)", [("schema_version", version), ("clean", clean)]
        )
        connection.commit()
    return {name: sorted(values, key=repr) for name, values in rows.items()}


def read(path: Path | str) -> tuple[int, dict[str, list[tuple[Any, ...]]]]:
    """The version of a database, and every row of its other tables."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    settings = dict(found.pop("settings"))
    return settings["schema_version"], {name: sorted(rows, key=repr) for name, rows in found.items() if rows}


def schema_of(path: Path | str) -> dict[str, str]:
    """The statements that made a database, without their white space."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: "".join(sql.split()) for name, sql in found}
