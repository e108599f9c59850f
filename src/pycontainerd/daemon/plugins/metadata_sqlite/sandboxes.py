"""Sandbox records in SQLite.

Spec: containerd core/metadata sandbox store (semantics and error texts)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import filters, sandboxes
from pycontainerd.daemon.core import labels as label
from pycontainerd.daemon.core.sandboxes import Sandbox
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
    "id, runtime_name, options_type, options_value, spec_type, spec_value, sandboxer, labels, extensions, "
    "created, updated"
)
_INSERT: Final = f"REPLACE INTO sandboxes (namespace, {_COLUMNS}) VALUES ({','.join('?' * 12)})"  # noqa: S608
_SELECT: Final = f"SELECT {_COLUMNS} FROM sandboxes WHERE namespace=?"  # noqa: S608 -- constants


class SqliteSandboxStore:
    """Implements core.sandboxes.SandboxStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, scope: Scope, id: str) -> Sandbox:
        return self._database.read(lambda tx: _require(tx, scope, id))

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Sandbox]:
        matches = filters.parse_request(filter_texts)
        rows = self._database.read(lambda tx: tx.rows(_SELECT + " ORDER BY id", scope.namespace))
        return [found for found in map(_from_row, rows) if matches(sandboxes.adaptor(found))]

    def create(self, scope: Scope, sandbox: Sandbox) -> Sandbox:
        try:
            sandboxes.require_valid(sandbox)
        except InvalidArgument as e:
            raise InvalidArgument(f"failed to validate sandbox: {e}") from e
        now = now_nanos()
        created = replace(sandbox, labels=label.stored(sandbox.labels), created_nanos=now, updated_nanos=now)

        def change(tx: Transaction) -> None:
            tx.ensure_namespace(scope.namespace)
            if tx.row(_SELECT + " AND id=?", scope.namespace, created.id):
                raise AlreadyExists(
                    f"write error: sandbox bucket {quoted(created.id)} already exists: already exists"
                )
            tx.execute(_INSERT, scope.namespace, *_to_row(created))

        self._database.write(change)
        return created

    def update(self, scope: Scope, sandbox: Sandbox, paths: Sequence[str]) -> Sandbox:
        def change(tx: Transaction) -> Sandbox:
            wanted = sandboxes.updated(_require(tx, scope, sandbox.id), sandbox, paths)
            sandboxes.require_valid(wanted)
            wanted = replace(wanted, updated_nanos=now_nanos())
            tx.execute(_INSERT, scope.namespace, *_to_row(wanted))
            return wanted

        return self._database.write(change)

    def delete(self, scope: Scope, id: str) -> None:
        def change(tx: Transaction) -> None:
            if not tx.execute("DELETE FROM sandboxes WHERE namespace=? AND id=?", scope.namespace, id):
                raise NotFound(f"failed to delete sandbox {quoted(id)}: not found")
            tx.mark_dirty("")

        self._database.write(change)


def _require(tx: Transaction, scope: Scope, id: str) -> Sandbox:
    row = tx.row(_SELECT + " AND id=?", scope.namespace, id)
    if row is None:
        raise NotFound(f"bucket {quoted(id)} not found: not found")
    return _from_row(row)


def _to_row(sandbox: Sandbox) -> tuple[Any, ...]:
    options, spec = sandbox.runtime_options, sandbox.spec
    return (
        sandbox.id,
        sandbox.runtime_name,
        options.type_url if options else None,
        options.value if options else None,
        spec.type_url if spec else None,
        spec.value if spec else None,
        sandbox.sandboxer,
        dump_map(sandbox.labels),
        dump_extensions(sandbox.extensions),
        sandbox.created_nanos,
        sandbox.updated_nanos,
    )


def _from_row(row: tuple[Any, ...]) -> Sandbox:
    return Sandbox(
        id=row[0],
        runtime_name=row[1],
        runtime_options=None if row[2] is None else TypedValue(row[2], row[3]),
        spec=None if row[4] is None else TypedValue(row[4], row[5]),
        sandboxer=row[6],
        labels=load_map(row[7]),
        extensions=load_extensions(row[8]),
        created_nanos=row[9],
        updated_nanos=row[10],
    )
