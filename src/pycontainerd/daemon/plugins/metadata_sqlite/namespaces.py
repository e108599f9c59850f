"""Namespaces in SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.core import labels as label
from pycontainerd.daemon.core.namespaces import Namespace
from pycontainerd.daemon.plugins.metadata_sqlite.columns import dump_map, load_map
from pycontainerd.lib import identifiers
from pycontainerd.lib.errdefs import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unknown
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, Transaction


class SqliteNamespaceStore:
    """Implements core.namespaces.NamespaceStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Namespace:
        row = self._database.read(lambda tx: tx.row("SELECT labels FROM namespaces WHERE name=?", name))
        return Namespace(name, load_map(row[0]) if row else {})

    def list(self) -> Sequence[Namespace]:
        rows = self._database.read(lambda tx: tx.rows("SELECT name, labels FROM namespaces ORDER BY name"))
        return [Namespace(name, load_map(labels)) for name, labels in rows]

    def create(self, namespace: Namespace) -> None:
        identifiers.require_valid(namespace.name)
        label.require_valid(namespace.labels, "namespace.Labels")
        labels = dump_map(label.stored(namespace.labels))

        def change(tx: Transaction) -> None:
            if not tx.execute("INSERT OR IGNORE INTO namespaces VALUES (?, ?)", namespace.name, labels):
                raise AlreadyExists(f"namespace {quoted(namespace.name)}: already exists")

        self._database.write(change)

    def update(self, namespace: Namespace, paths: Sequence[str]) -> None:
        for path in paths:
            if not path.startswith("labels."):
                raise InvalidArgument(f"cannot update {quoted(path)} field")
        keys = [path.removeprefix("labels.") for path in paths] or namespace.labels
        try:
            label.require_valid({key: namespace.labels.get(key, "") for key in keys}, "namespace.Labels")
        except InvalidArgument as e:
            raise Unknown(str(e)) from e  # containerd gives an update's error no code

        def change(tx: Transaction) -> None:
            # As in containerd, setting a label brings the namespace into being.
            tx.ensure_namespace(namespace.name)
            row = tx.row("SELECT labels FROM namespaces WHERE name=?", namespace.name)
            labels = load_map(row[0]) if row and paths else label.stored(namespace.labels)
            for path in paths:
                labels = label.with_path(labels, namespace.labels, path)
            tx.execute("UPDATE namespaces SET labels=? WHERE name=?", dump_map(labels), namespace.name)

        self._database.write(change)

    def delete(self, name: str) -> None:
        def change(tx: Transaction) -> None:
            held = _held_by(tx, name)
            if held:
                raise FailedPrecondition(
                    f"namespace {quoted(name)} must be empty, but it still has {', '.join(held)}: "
                    "failed precondition"
                )
            tx.execute("DELETE FROM ingests WHERE namespace=?", name)
            if not tx.execute("DELETE FROM namespaces WHERE name=?", name):
                raise NotFound(f"namespace {quoted(name)}: not found")

        self._database.write(change)


def _held_by(tx: Transaction, namespace: str) -> list[str]:
    """The kinds of objects that keep a namespace from being deleted, in containerd's words and order."""
    held = [
        shown
        for shown, table in (("images", "images"), ("blobs", "blobs"), ("containers", "containers"))
        if tx.row(f"SELECT 1 FROM {table} WHERE namespace=? LIMIT 1", namespace)  # noqa: S608 -- names above
    ]
    snapshotters = tx.rows(
        "SELECT DISTINCT snapshotter FROM snapshots WHERE namespace=? ORDER BY snapshotter", namespace
    )
    return held + [f"snapshots on {quoted(name)} snapshotter" for (name,) in snapshotters]
