"""Snapshots of one namespace at a time, over a backend that knows only keys of its own.

Spec: containerd metadata snapshotter (semantics and error texts)
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import filters, snapshots
from pycontainerd.daemon.core import labels as label
from pycontainerd.daemon.core.leases import Resource
from pycontainerd.daemon.core.locks import SharedLock
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.core.snapshots import Info, Mount, Usage
from pycontainerd.daemon.plugins.metadata_sqlite.columns import dump_map, load_map
from pycontainerd.daemon.plugins.metadata_sqlite.leases import add_leased, remove_leased
from pycontainerd.lib.errdefs import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, Transaction

_COLUMNS: Final = "key, backend_key, parent, labels, created, updated"
_SELECT: Final = f"SELECT {_COLUMNS} FROM snapshots WHERE namespace=? AND snapshotter=?"  # noqa: S608
_REF_LABEL: Final = "containerd.io/snapshot.ref"
_serial: Final = itertools.count(now_nanos())


class SqliteSnapshots:
    """Implements core.snapshots.Snapshots."""

    def __init__(self, database: Database, backend: snapshots.Snapshotter) -> None:
        self._database = database
        self._backend = backend
        self.name = backend.name
        self.is_local = backend.is_local
        # Prepares share it; the sweep holds it, so that no backend snapshot is swept before it has its row.
        self.sweep_lock = SharedLock()

    def capabilities(self) -> Sequence[str]:
        """What the backend can and others can't, in containerd's words; may block."""
        return self._backend.capabilities

    def stat(self, scope: Scope, key: str) -> Info:
        row = self._database.read(lambda tx: self._require(tx, scope, key))
        return _merged(self._backend.stat(row[1]), row)

    def update(self, scope: Scope, info: Info, paths: Sequence[str]) -> Info:
        if not info.name:
            raise InvalidArgument("invalid argument")

        def change(tx: Transaction) -> Info:
            row = self._require(tx, scope, info.name)
            local = snapshots.updated(
                Info(info.name, labels=load_map(row[3]), parent=row[2], created_nanos=row[4]), info, paths
            )
            now = now_nanos()
            tx.execute(
                "UPDATE snapshots SET labels=?, updated=? WHERE namespace=? AND snapshotter=? AND key=?",
                dump_map(local.labels),
                now,
                scope.namespace,
                self.name,
                info.name,
            )
            inner = Info(row[1], labels=label.inherited(local.labels))
            backend = self._backend.update(inner, paths)
            return _merged(backend, (info.name, row[1], row[2], dump_map(local.labels), row[4], now))

        return self._database.write(change)

    def usage(self, scope: Scope, key: str) -> Usage:
        return self._backend.usage(self._backend_key(scope, key))

    def mounts(self, scope: Scope, key: str) -> Sequence[Mount]:
        return self._backend.mounts(self._backend_key(scope, key))

    def prepare(self, scope: Scope, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        return self._create(scope, key, parent, labels, readonly=False)

    def view(self, scope: Scope, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        return self._create(scope, key, parent, labels, readonly=True)

    def commit(self, scope: Scope, name: str, key: str, labels: Mapping[str, str], parent: str = "") -> None:
        label.require_valid(labels, "info.Labels")

        def change(tx: Transaction) -> None:
            if self._row(tx, scope, name) is not None:
                raise AlreadyExists(f"snapshot {quoted(name)}: already exists")
            if not tx.row(_SELECT + " LIMIT 1", scope.namespace, self.name):
                raise NotFound(f"can not find snapshotter {quoted(self.name)}: not found")
            row = self._require(tx, scope, key)
            # As in containerd, a parent that is named for a snapshot which has one is not looked at.
            rebased_on = parent if not row[2] else ""
            backend_parent = self._parent_row(tx, scope, rebased_on)[1] if rebased_on else ""
            add_leased(tx, scope, Resource(f"snapshots/{self.name}", name))
            tx.execute(
                "DELETE FROM snapshots WHERE namespace=? AND snapshotter=? AND key=?",
                scope.namespace,
                self.name,
                key,
            )
            self._insert(tx, scope, name, backend_name, row[2] or rebased_on, labels)
            remove_leased(tx, scope, Resource(f"snapshots/{self.name}", key))
            self._backend.commit(backend_name, row[1], label.inherited(labels), usage, backend_parent)

        backend_name = self._new_backend_key(scope, name)
        with self.sweep_lock.shared():
            # Measured before the write: a large tree takes long, and every other write would wait for it.
            usage = self._measure(scope, key)
            self._database.write(change)

    def remove(self, scope: Scope, key: str) -> None:
        def change(tx: Transaction) -> None:
            self._require(tx, scope, key)
            if tx.row(
                "SELECT 1 FROM snapshots WHERE namespace=? AND snapshotter=? AND parent=? LIMIT 1",
                scope.namespace,
                self.name,
                key,
            ):
                raise FailedPrecondition("cannot remove snapshot with child: failed precondition")
            tx.execute(
                "DELETE FROM snapshots WHERE namespace=? AND snapshotter=? AND key=?",
                scope.namespace,
                self.name,
                key,
            )
            remove_leased(tx, scope, Resource(f"snapshots/{self.name}", key))
            tx.mark_dirty(self.name)

        self._database.write(change)

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Info]:
        matches = filters.parse_all(filter_texts)
        rows = self._database.read(lambda tx: tx.rows(_SELECT + " ORDER BY key", scope.namespace, self.name))
        found: list[Info] = []
        for row in rows:
            try:
                info = _merged(self._backend.stat(row[1]), row)
            except NotFound:
                continue
            if matches(snapshots.adaptor(info)):
                found.append(info)
        return found

    def cleanup(self) -> None:
        """Lets the backend remove what nothing refers to."""
        self._backend.cleanup()

    def sweep(self) -> None:
        """Removes backend snapshots without a row in any namespace, children first, then their directories."""
        with self.sweep_lock.exclusive():
            rows = self._database.read(
                lambda tx: tx.rows("SELECT backend_key FROM snapshots WHERE snapshotter=?", self.name)
            )
            known = {row[0] for row in rows}
            stale = {info.name: info for info in self._backend.walk() if info.name not in known}
            while stale:
                parents = {info.parent for info in stale.values()}
                leaves = [name for name in stale if name not in parents]
                for name in leaves:
                    del stale[name]
                    self._remove_stale(name)
        self._backend.cleanup()

    def _remove_stale(self, name: str) -> None:
        try:
            self._backend.remove(name)
        except FailedPrecondition:
            return  # a child that is still referred to keeps it

    def _create(
        self, scope: Scope, key: str, parent: str, labels: Mapping[str, str], *, readonly: bool
    ) -> Sequence[Mount]:
        label.require_valid(labels, "info.Labels")
        target = labels.get(_REF_LABEL, "")
        make = self._backend.view if readonly else self._backend.prepare

        def check(tx: Transaction) -> str:
            if target and self._row(tx, scope, target) is not None:
                raise AlreadyExists(f"target snapshot {quoted(target)}: already exists")
            if self._row(tx, scope, key) is not None:
                raise AlreadyExists(f"snapshot {quoted(key)}: already exists")
            backend_parent = ""
            if parent:
                backend_parent = self._parent_row(tx, scope, parent)[1]
            return backend_parent

        def link(tx: Transaction) -> None:
            tx.ensure_namespace(scope.namespace)
            if self._row(tx, scope, key) is not None:
                raise AlreadyExists(f"snapshot {quoted(key)}: already exists")
            if parent:
                self._parent_row(tx, scope, parent)
            add_leased(tx, scope, Resource(f"snapshots/{self.name}", key))
            self._insert(tx, scope, key, backend_key, parent, labels)

        backend_key = self._new_backend_key(scope, key)
        with self.sweep_lock.shared():
            backend_parent = self._database.read(check)
            try:
                mounts = make(backend_key, backend_parent, label.inherited(labels))
            except AlreadyExists as e:
                if not target:
                    # The backend's key is new by construction; clients would misread AlreadyExists.
                    raise Unknown(f"unexpected error from snapshotter: {e}: unknown") from e
                self._adopt(scope, target, parent, backend_parent, labels)
                raise AlreadyExists(
                    f"target snapshot {quoted(target)} from snapshotter: already exists"
                ) from e
            try:
                self._database.write(link)
            except ContainerdError:
                self._backend.remove(backend_key)
                raise
        return mounts

    def _adopt(
        self, scope: Scope, target: str, parent: str, backend_parent: str, labels: Mapping[str, str]
    ) -> None:
        """A remote snapshotter has the layer already: its committed snapshot gets the name the client wanted to make.

        Spec: containerd docs/remote-snapshotter.md
        """
        for info in self._backend.walk():
            if (
                info.kind is snapshots.Kind.COMMITTED
                and info.labels.get(_REF_LABEL) == target
                and info.parent == backend_parent
            ):
                break
        else:
            raise NotFound(f"target snapshot {quoted(target)} in backend: not found")

        def link(tx: Transaction) -> None:
            tx.ensure_namespace(scope.namespace)
            if self._row(tx, scope, target) is None:
                add_leased(tx, scope, Resource(f"snapshots/{self.name}", target))
                self._insert(tx, scope, target, info.name, parent, labels)

        self._database.write(link)

    def _insert(
        self,
        tx: Transaction,
        scope: Scope,
        key: str,
        backend_key: str,
        parent: str,
        labels: Mapping[str, str],
    ) -> None:
        now = now_nanos()
        tx.execute(
            f"INSERT INTO snapshots (namespace, snapshotter, {_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",  # noqa: S608
            scope.namespace,
            self.name,
            key,
            backend_key,
            parent,
            dump_map(label.stored(labels)),
            now,
            now,
        )

    def _new_backend_key(self, scope: Scope, key: str) -> str:
        """Unique without a write: namespaces may use the same key at the same time."""
        return f"{scope.namespace}/{next(_serial)}/{key}"

    def _measure(self, scope: Scope, key: str) -> Usage | None:
        """The usage of a snapshot about to be committed; None leaves the complaint to the commit itself."""
        try:
            return self.usage(scope, key)
        except ContainerdError:
            return None

    def _backend_key(self, scope: Scope, key: str) -> str:
        row = self._database.read(lambda tx: self._require(tx, scope, key))
        return str(row[1])

    def _row(self, tx: Transaction, scope: Scope, key: str) -> Any | None:
        return tx.row(_SELECT + " AND key=?", scope.namespace, self.name, key)

    def _parent_row(self, tx: Transaction, scope: Scope, parent: str) -> Any:
        row = self._row(tx, scope, parent)
        if row is None:
            raise NotFound(f"parent snapshot {parent} does not exist: not found")
        return row

    def _require(self, tx: Transaction, scope: Scope, key: str) -> Any:
        row = self._row(tx, scope, key)
        if row is None:
            raise NotFound(f"snapshot {key} does not exist: not found")
        return row


def _merged(backend: Info, row: Any) -> Info:
    """The backend's kind with the namespace's names, labels and times."""
    key, _, parent, labels, created, updated = row
    return replace(
        backend,
        name=key,
        parent=parent,
        labels={**backend.labels, **load_map(labels)},
        created_nanos=created,
        updated_nanos=updated,
    )
