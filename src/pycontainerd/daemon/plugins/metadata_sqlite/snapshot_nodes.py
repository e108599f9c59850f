"""What a snapshotter backend remembers: keys, kinds, parents and usage of its numbered directories.

Calls made inside a write of the same database join it, so that a snapshot and its namespace's row are one commit.

Spec: containerd snapshots/storage (semantics and error texts)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import labels as label
from pycontainerd.daemon.core import snapshots
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.core.snapshots import Info, Kind, Usage
from pycontainerd.daemon.plugins.metadata_sqlite.columns import dump_map, load_map
from pycontainerd.lib.errdefs import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, Transaction

_COLUMNS: Final = "key, id, kind, parent, inodes, size, labels, created, updated"
_SELECT: Final = f"SELECT {_COLUMNS} FROM snapshot_nodes WHERE snapshotter=?"  # noqa: S608 -- constants


@dataclass(frozen=True, slots=True)
class Node:
    """A snapshot's directory: `id` is its name on disk, `parent_ids` its parents', nearest first."""

    id: str
    info: Info
    usage: Usage
    parent_ids: Sequence[str] = ()


class SnapshotNodes:
    """The nodes of one snapshotter."""

    def __init__(self, database: Database, snapshotter: str) -> None:
        self._database = database
        self._name = snapshotter

    def get(self, key: str) -> Node:
        """A node without its parents; NotFound."""
        return self._database.read(lambda tx: self._require(tx, key))

    def get_mountable(self, key: str) -> Node:
        """An active or view node with its parents; FailedPrecondition for a committed one."""

        def query(tx: Transaction) -> Node:
            node = self._require(tx, key)
            if node.info.kind is Kind.COMMITTED:
                raise FailedPrecondition(
                    f"failed to get active mount: requested snapshot {key} not active or view: "
                    "failed precondition"
                )
            return replace(node, parent_ids=self._parent_ids(tx, node.info.parent))

        return self._database.read(query)

    def walk(self) -> list[Node]:
        """All nodes, by key, without their parents."""
        return self._database.read(
            lambda tx: [_node(row) for row in tx.rows(_SELECT + " ORDER BY key", self._name)]
        )

    def without_node(self, list_names: Callable[[], set[str]]) -> set[str]:
        """Those directory names that belong to no node. Looks while no write runs: a directory is renamed to its
        number inside the write that makes its node."""

        def look(tx: Transaction) -> set[str]:
            rows = tx.rows("SELECT id FROM snapshot_nodes WHERE snapshotter=?", self._name)
            return list_names() - {str(row[0]) for row in rows}

        return self._database.write(look)

    def create(
        self, kind: Kind, key: str, parent: str, labels: Mapping[str, str], place: Callable[[Node], None]
    ) -> Node:
        """A new active or view node; `place(node)` puts its directory where it belongs, or raises to undo all."""

        def change(tx: Transaction) -> Node:
            if parent:
                row = tx.row(_SELECT + " AND key=?", self._name, parent)
                if row is None:
                    raise NotFound(
                        f"failed to create snapshot: missing parent {quoted(parent)} bucket: not found"
                    )
                if _node(row).info.kind is not Kind.COMMITTED:
                    raise InvalidArgument(
                        f"failed to create snapshot: parent {quoted(parent)} is not committed snapshot: "
                        "invalid argument"
                    )
            if tx.row("SELECT 1 FROM snapshot_nodes WHERE snapshotter=? AND key=?", self._name, key):
                raise AlreadyExists(f"failed to create snapshot: snapshot {key}: already exists")
            id = tx.next_number(f"snapshots/{self._name}")
            now = now_nanos()
            info = Info(key, kind, parent, label.stored(labels), now, now)
            node = Node(str(id), info, Usage(), self._parent_ids(tx, parent))
            self._insert(tx, node)
            place(node)
            return node

        return self._database.write(change)

    def update(self, info: Info, paths: Sequence[str]) -> Info:
        """Changes labels; NotFound, InvalidArgument."""

        def change(tx: Transaction) -> Info:
            node = self._require(tx, info.name)
            updated = replace(snapshots.updated(node.info, info, paths), updated_nanos=now_nanos())
            self._insert(tx, replace(node, info=updated))
            return updated

        return self._database.write(change)

    def commit(self, name: str, key: str, usage: Usage, labels: Mapping[str, str], parent: str = "") -> None:
        """Turns the active node `key` into the committed node `name`, on `parent` if it had none."""

        def change(tx: Transaction) -> None:
            if tx.row("SELECT 1 FROM snapshot_nodes WHERE snapshotter=? AND key=?", self._name, name):
                raise AlreadyExists(f"failed to commit snapshot: committed snapshot {name}: already exists")
            row = tx.row(_SELECT + " AND key=?", self._name, key)
            if row is None:
                raise NotFound(
                    f"failed to commit snapshot: failed to get active snapshot {quoted(key)}: not found"
                )
            node = _node(row)
            if node.info.kind is not Kind.ACTIVE:
                raise FailedPrecondition(
                    f"failed to commit snapshot: snapshot {quoted(key)} is not active: failed precondition"
                )
            below = self._require_parent(tx, node, parent)
            tx.execute("DELETE FROM snapshot_nodes WHERE snapshotter=? AND key=?", self._name, key)
            now = now_nanos()
            info = Info(name, Kind.COMMITTED, below, label.stored(labels), now, now)
            self._insert(tx, Node(node.id, info, usage))

        self._database.write(change)

    def _require_parent(self, tx: Transaction, node: Node, wanted: str) -> str:
        """What a node is committed on: its parent, or the wanted one if it has none."""
        if not wanted or node.info.parent == wanted:
            return node.info.parent
        if node.info.parent:
            raise InvalidArgument(
                f"failed to commit snapshot: cannot change parent of active snapshot {quoted(node.info.name)} "
                "on commit: invalid argument"
            )
        row = tx.row(_SELECT + " AND key=?", self._name, wanted)
        if row is None:
            raise NotFound(
                f"failed to commit snapshot: missing parent {quoted(wanted)} of snapshot "
                f"{quoted(node.info.name)}: not found"
            )
        if _node(row).info.kind is not Kind.COMMITTED:
            raise FailedPrecondition(
                f"failed to commit snapshot: parent {quoted(wanted)} is not committed: failed precondition"
            )
        return wanted

    def remove(self, key: str) -> Node:
        """The node that was; FailedPrecondition while it has children."""

        def change(tx: Transaction) -> Node:
            row = tx.row(_SELECT + " AND key=?", self._name, key)
            if row is None:
                raise NotFound(f"failed to remove: snapshot {key}: not found")
            if tx.row("SELECT 1 FROM snapshot_nodes WHERE snapshotter=? AND parent=?", self._name, key):
                raise FailedPrecondition(
                    "failed to remove: cannot remove snapshot with child: failed precondition"
                )
            tx.execute("DELETE FROM snapshot_nodes WHERE snapshotter=? AND key=?", self._name, key)
            return _node(row)

        return self._database.write(change)

    def _require(self, tx: Transaction, key: str) -> Node:
        row = tx.row(_SELECT + " AND key=?", self._name, key)
        if row is None:
            raise NotFound("snapshot does not exist: not found")
        return _node(row)

    def _parent_ids(self, tx: Transaction, parent: str) -> list[str]:
        ids: list[str] = []
        while parent:
            row = tx.row(
                "SELECT id, parent FROM snapshot_nodes WHERE snapshotter=? AND key=?", self._name, parent
            )
            if row is None:
                raise NotFound("failed to get parent chain: missing parent: not found")
            ids.append(str(row[0]))
            parent = row[1]
        return ids

    def _insert(self, tx: Transaction, node: Node) -> None:
        info = node.info
        tx.execute(
            f"REPLACE INTO snapshot_nodes (snapshotter, {_COLUMNS}) VALUES ({','.join('?' * 10)})",  # noqa: S608
            self._name,
            info.name,
            int(node.id),
            info.kind.value,
            info.parent,
            node.usage.inodes,
            node.usage.size_bytes,
            dump_map(info.labels),
            info.created_nanos,
            info.updated_nanos,
        )


def _node(row: Any) -> Node:
    key, id, kind, parent, inodes, size, labels, created, updated = row
    return Node(
        str(id), Info(key, Kind(kind), parent, load_map(labels), created, updated), Usage(inodes, size)
    )
