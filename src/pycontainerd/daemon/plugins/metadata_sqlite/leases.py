"""Leases in SQLite, and how other stores put new resources under the lease of a request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pycontainerd.daemon.core import filters, leases
from pycontainerd.daemon.core import labels as label
from pycontainerd.daemon.core.leases import Lease, Resource
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.plugins.metadata_sqlite.columns import dump_map, load_map
from pycontainerd.lib.errdefs import AlreadyExists, NotFound, Unknown
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, Transaction


class SqliteLeaseManager:
    """Implements core.leases.LeaseManager."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, scope: Scope, lease: Lease) -> Lease:
        if not lease.id:
            raise Unknown("lease id must be provided")
        created = replace(lease, labels=label.stored(lease.labels), created_nanos=now_nanos())

        def change(tx: Transaction) -> None:
            tx.ensure_namespace(scope.namespace)
            if not tx.execute(
                "INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?)",
                scope.namespace,
                created.id,
                dump_map(created.labels),
                created.created_nanos,
            ):
                raise AlreadyExists(f"lease {quoted(lease.id)}: already exists")

        self._database.write(change)
        return created

    def delete(self, scope: Scope, id: str) -> None:
        def change(tx: Transaction) -> None:
            if not tx.execute("DELETE FROM leases WHERE namespace=? AND id=?", scope.namespace, id):
                raise NotFound(f"lease {quoted(id)}: not found")
            tx.mark_dirty("")

        self._database.write(change)

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Lease]:
        matches = filters.parse_request(filter_texts)
        rows = self._database.read(
            lambda tx: tx.rows(
                "SELECT id, labels, created FROM leases WHERE namespace=? ORDER BY id", scope.namespace
            )
        )
        found = [Lease(id, load_map(labels), created) for id, labels, created in rows]
        return [lease for lease in found if matches(leases.adaptor(lease))]

    def add_resource(self, scope: Scope, id: str, resource: Resource) -> None:
        def change(tx: Transaction) -> None:
            _require_lease(tx, scope, id)
            leases.require_valid_resource(resource)
            if resource.type.endswith("/"):
                raise Unknown("bucket name required")
            _insert_resource(tx, scope.namespace, id, resource)

        self._database.write(change)

    def delete_resource(self, scope: Scope, id: str, resource: Resource) -> None:
        def change(tx: Transaction) -> None:
            _require_lease(tx, scope, id)
            leases.require_valid_resource(resource)
            remove_leased(tx, replace(scope, lease=id), resource)
            tx.mark_dirty("")

        self._database.write(change)

    def list_resources(self, scope: Scope, id: str) -> Sequence[Resource]:
        def query(tx: Transaction) -> list[Resource]:
            _require_lease(tx, scope, id)
            rows = tx.rows(
                "SELECT type, id FROM lease_resources WHERE namespace=? AND lease=? ORDER BY type, id",
                scope.namespace,
                id,
            )
            return [Resource(kind, resource_id) for kind, resource_id in rows]

        return self._database.read(query)


def add_leased(tx: Transaction, scope: Scope, resource: Resource) -> bool:
    """Puts a new resource under the request's lease, if it has one; NotFound when that lease is gone."""
    if not scope.lease:
        return False
    if not tx.row("SELECT 1 FROM leases WHERE namespace=? AND id=?", scope.namespace, scope.lease):
        raise NotFound("lease does not exist: not found")
    _insert_resource(tx, scope.namespace, scope.lease, resource)
    return True


def remove_leased(tx: Transaction, scope: Scope, resource: Resource) -> None:
    """Takes a resource off the request's lease, if it has one."""
    if scope.lease:
        tx.execute(
            "DELETE FROM lease_resources WHERE namespace=? AND lease=? AND type=? AND id=?",
            scope.namespace,
            scope.lease,
            resource.type,
            resource.id,
        )


def _require_lease(tx: Transaction, scope: Scope, id: str) -> None:
    if not tx.row("SELECT 1 FROM leases WHERE namespace=? AND id=?", scope.namespace, id):
        raise NotFound(f"lease {quoted(id)}: not found")


def _insert_resource(tx: Transaction, namespace: str, lease: str, resource: Resource) -> None:
    tx.execute(
        "INSERT OR IGNORE INTO lease_resources VALUES (?, ?, ?, ?)",
        namespace,
        lease,
        resource.type,
        resource.id,
    )
