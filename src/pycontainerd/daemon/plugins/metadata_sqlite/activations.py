"""Activations of mounts in SQLite: what the mount manager knows of them.

Spec: containerd core/mount/manager (what is kept, and error texts)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core.activations import Activation, ActiveMount
from pycontainerd.daemon.core.scope import Scope, now_nanos
from pycontainerd.daemon.core.snapshots import Mount
from pycontainerd.daemon.plugins.metadata_sqlite.columns import dump_map, load_map
from pycontainerd.lib.errdefs import AlreadyExists, NotFound, Unknown
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, Transaction

RESOURCE: Final = "mounts"  # what is marked dirty, for the collector
_SEQUENCE: Final = "activations"
_SELECT: Final = "SELECT name, active, system, labels FROM activations WHERE namespace=?"


class SqliteActivations:
    """Rows without `active` are being mounted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, scope: Scope, name: str, labels: Mapping[str, str]) -> int:
        """Takes the name; the number of the folder to mount in. AlreadyExists, Unknown for no name."""
        if not name:
            raise Unknown("bucket name required")

        def change(tx: Transaction) -> int:
            # A row that was left half way, because the disk was full then, is nobody's: its folder will be swept.
            tx.execute(
                "DELETE FROM activations WHERE namespace=? AND name=? AND active IS NULL",
                scope.namespace,
                name,
            )
            if tx.row("SELECT 1 FROM activations WHERE namespace=? AND name=?", scope.namespace, name):
                raise AlreadyExists(f"mount {quoted(name)}: already exists")
            number = tx.next_number(_SEQUENCE)
            now = now_nanos()
            tx.execute(
                "INSERT INTO activations VALUES (?, ?, ?, ?, ?, NULL, '[]', ?, ?)",
                *(scope.namespace, name, number, scope.lease, dump_map(labels), now, now),
            )
            return number

        return self._database.write(change)

    def finish(self, scope: Scope, done: Activation) -> None:
        """Says what was mounted. From now on it is collected when nothing holds it."""
        active = [[one.mount.type, one.mount_point, one.mounted_nanos] for one in done.active]
        system = [[m.type, m.source, m.target, list(m.options)] for m in done.system]

        def change(tx: Transaction) -> None:
            tx.execute(
                "UPDATE activations SET active=?, system=?, updated=? WHERE namespace=? AND name=?",
                *(json.dumps(active), json.dumps(system), now_nanos(), scope.namespace, done.name),
            )

        self._database.write(change)

    def remove(self, scope: Scope, name: str) -> int:
        """Forgets it; the number of its folder, which is garbage now. NotFound."""

        def change(tx: Transaction) -> int:
            row = tx.row(
                "DELETE FROM activations WHERE namespace=? AND name=? RETURNING number", scope.namespace, name
            )
            if row is None:
                raise NotFound(f"missing mount {quoted(name)} bucket: not found")
            tx.mark_dirty(RESOURCE)
            return int(row[0])

        return self._database.write(change)

    def get(self, scope: Scope, name: str) -> Activation:
        """NotFound."""
        row = self._database.read(lambda tx: tx.row(_SELECT + " AND name=?", scope.namespace, name))
        if row is None:
            raise NotFound(f"mount {quoted(name)} not found")
        return _from_row(row)

    def list(self, scope: Scope) -> Sequence[Activation]:
        """By name."""
        rows = self._database.read(lambda tx: tx.rows(_SELECT + " ORDER BY name", scope.namespace))
        return [_from_row(row) for row in rows]

    def everywhere(self) -> Sequence[tuple[Scope, str, Sequence[ActiveMount] | None]]:
        """(whose, name, what was mounted or None) of every activation."""
        rows = self._database.read(lambda tx: tx.rows("SELECT namespace, name, active FROM activations"))
        return [
            (Scope(namespace), name, None if active is None else read_active(active))
            for namespace, name, active in rows
        ]

    def numbers(self) -> set[int]:
        """Of the folders that are some activation's."""
        rows = self._database.read(lambda tx: tx.rows("SELECT number FROM activations"))
        return {row[0] for row in rows}


def read_active(text: str) -> list[ActiveMount]:
    """What a row's `active` says was mounted."""
    return [ActiveMount(Mount(kind, ""), point, mounted) for kind, point, mounted in json.loads(text)]


def _from_row(row: tuple[Any, ...]) -> Activation:
    name, active, system, labels = row
    mounts = [
        Mount(kind, source, tuple(options), target) for kind, source, target, options in json.loads(system)
    ]
    return Activation(name, read_active(active or "[]"), mounts, load_map(labels))
