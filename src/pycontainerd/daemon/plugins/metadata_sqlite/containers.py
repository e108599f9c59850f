"""Container records in SQLite."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import containers, filters
from pycontainerd.daemon.core import labels as label
from pycontainerd.daemon.core.containers import Container
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.plugins.metadata_sqlite.columns import (
    dump_extensions,
    dump_map,
    load_extensions,
    load_map,
)
from pycontainerd.lib.errdefs import AlreadyExists, InvalidArgument, NotFound
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, Transaction

_COLUMNS: Final = (
    "id, image, runtime_name, options_type, options_value, spec_type, spec_value, snapshotter, snapshot_key, "
    "sandbox, labels, extensions, created, updated"
)
_INSERT: Final = f"REPLACE INTO containers (namespace, {_COLUMNS}) VALUES ({','.join('?' * 15)})"  # noqa: S608
_SELECT: Final = f"SELECT {_COLUMNS} FROM containers WHERE namespace=?"  # noqa: S608 -- constants


class SqliteContainerStore:
    """Implements core.containers.ContainerStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, scope: Scope, id: str) -> Container:
        row = self._database.read(lambda tx: tx.row(_SELECT + " AND id=?", scope.namespace, id))
        if row is None:
            raise NotFound(
                f"container {quoted(id)} in namespace {quoted(scope.namespace)}: not found",
                hint="`ctr containers ls` lists the namespace's containers",
            )
        return _from_row(row)

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Container]:
        matches = filters.parse_request(filter_texts)
        rows = self._database.read(lambda tx: tx.rows(_SELECT + " ORDER BY id", scope.namespace))
        return [c for c in map(_from_row, rows) if matches(containers.adaptor(c))]

    def labelled(self, key: str) -> Sequence[tuple[str, Container]]:
        """(namespace, container) of every container with that label, in all namespaces."""
        rows = self._database.read(
            lambda tx: tx.rows(
                f"SELECT namespace, {_COLUMNS} FROM containers WHERE instr(labels, ?) > 0",  # noqa: S608
                f'"{key}":',
            )
        )
        found = [(row[0], _from_row(row[1:])) for row in rows]
        return [(namespace, container) for namespace, container in found if key in container.labels]

    def create(self, scope: Scope, container: Container) -> Container:
        try:
            containers.require_valid(container)
        except InvalidArgument as e:
            raise InvalidArgument(f"create container failed validation: {e}") from e
        now = now_nanos()
        created = replace(
            container, labels=label.stored(container.labels), created_nanos=now, updated_nanos=now
        )

        def change(tx: Transaction) -> None:
            tx.ensure_namespace(scope.namespace)
            if tx.row("SELECT 1 FROM containers WHERE namespace=? AND id=?", scope.namespace, created.id):
                raise AlreadyExists(f"container {quoted(created.id)}: already exists")
            tx.execute(_INSERT, scope.namespace, *_to_row(created))

        self._database.write(change)
        return created

    def update(self, scope: Scope, container: Container, paths: Sequence[str]) -> Container:
        if not container.id:
            raise InvalidArgument("must specify a container id: invalid argument")

        def change(tx: Transaction) -> Container:
            row = tx.row(_SELECT + " AND id=?", scope.namespace, container.id)
            if row is None:
                raise NotFound(f"container {quoted(container.id)}: not found")
            wanted = containers.updated(_from_row(row), container, paths)
            try:
                containers.require_valid(wanted)
            except InvalidArgument as e:
                raise InvalidArgument(f"update failed validation: {e}") from e
            wanted = replace(wanted, updated_nanos=now_nanos())
            tx.execute(_INSERT, scope.namespace, *_to_row(wanted))
            return wanted

        return self._database.write(change)

    def delete(self, scope: Scope, id: str) -> None:
        def change(tx: Transaction) -> None:
            if not tx.execute("DELETE FROM containers WHERE namespace=? AND id=?", scope.namespace, id):
                raise NotFound(f"container {id}: not found")
            tx.mark_dirty("")

        self._database.write(change)


def _to_row(c: Container) -> tuple[Any, ...]:
    assert c.spec is not None
    options = c.runtime_options
    return (
        c.id,
        c.image,
        c.runtime_name,
        options.type_url if options else None,
        options.value if options else None,
        c.spec.type_url,
        c.spec.value,
        c.snapshotter,
        c.snapshot_key,
        c.sandbox,
        dump_map(c.labels),
        dump_extensions(c.extensions),
        c.created_nanos,
        c.updated_nanos,
    )


def _from_row(row: tuple[Any, ...]) -> Container:
    return Container(
        id=row[0],
        image=row[1],
        runtime_name=row[2],
        runtime_options=None if row[3] is None else TypedValue(row[3], row[4]),
        spec=TypedValue(row[5], row[6]),
        snapshotter=row[7],
        snapshot_key=row[8],
        sandbox=row[9],
        labels=load_map(row[10]),
        extensions=load_extensions(row[11]),
        created_nanos=row[12],
        updated_nanos=row[13],
    )
