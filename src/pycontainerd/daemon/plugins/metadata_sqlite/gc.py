"""The collector: marks in one read, sweeps rows in one write, then lets the backends follow.

Spec: containerd docs/garbage-collection.md
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pycontainerd.daemon.core import gc
from pycontainerd.daemon.core.gc import Node, Resource
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.plugins.metadata_sqlite import activations
from pycontainerd.daemon.plugins.metadata_sqlite.columns import load_map
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pycontainerd.daemon.core import content
    from pycontainerd.daemon.plugins.metadata_sqlite.content import SqliteContentStore
    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, Transaction
    from pycontainerd.daemon.plugins.metadata_sqlite.snapshots import SqliteSnapshots


class Collector:
    """Blocking; one collection at a time."""

    def __init__(
        self,
        database: Database,
        content_store: SqliteContentStore,
        backend: content.Backend,
        snapshotters: Sequence[SqliteSnapshots],
        on_removed: Callable[[list[Node]], None],
        sweep_mounts: Callable[[], bool] | None = None,
    ) -> None:
        """`sweep_mounts` takes away the mounts of activations that are gone; False when some are left for the next time."""
        self._database = database
        self._content = content_store
        self._backend = backend
        self._snapshotters = {s.name: s for s in snapshotters}
        self._on_removed = on_removed
        self._sweep_mounts = sweep_mounts
        self._lock = threading.Lock()
        # A crash may have left anything.
        self._dirty: set[str] = {"content", activations.RESOURCE, *self._snapshotters}
        database.on_commit(self._note)

    def collect(self) -> None:
        """Removes everything unreachable; returns when rows, blobs and directories are gone."""
        with self._lock, trace.span("gc.collect"):
            with trace.span("gc.sweep"):
                removed = self._database.write(self._sweep_rows)
            # Not marked in the write itself: the collector's own work is no reason for another collection.
            dirty, self._dirty = self._dirty | {_backend_of(node) for node in removed}, set()
            self._on_removed(removed)
            if activations.RESOURCE in dirty and self._sweep_mounts is not None:
                with trace.span("gc.mounts"):
                    # First: they may be mounts of snapshots.
                    if not self._sweep_mounts():
                        self._dirty.add(activations.RESOURCE)
            for name in sorted(dirty & self._snapshotters.keys()):
                with trace.span("gc.snapshots", snapshotter=name):
                    self._snapshotters[name].sweep()
            if "content" in dirty:
                with trace.span("gc.content"):
                    self._sweep_content()

    def _note(self, dirty: set[str]) -> None:
        self._dirty |= dirty  # on the writer thread only; a lost race leaves work to the next collection

    def _sweep_rows(self, tx: Transaction) -> list[Node]:
        """Marks and sweeps in one write: nothing can become reachable in between."""
        graph = _Graph(tx, now_nanos())
        marked = gc.mark(graph.roots(), graph.references)
        removed = [node for node in graph.all_nodes() if node not in marked]
        for node in removed:
            _remove_row(tx, node)
        return removed

    def _sweep_content(self) -> None:
        with self._content.sweep_lock.exclusive():
            digests, refs = self._database.read(_known_content)
            for info in self._backend.walk():
                if info.digest not in digests:
                    self._delete(self._backend.delete, info.digest)
            for ref in list(self._backend.refs()):
                if ref not in refs:
                    self._delete(self._backend.abort, ref)

    def _delete(self, delete: Callable[[str], None], key: str) -> None:
        try:
            delete(key)
        except NotFound:
            return  # aborted meanwhile


class _Graph:
    """All collectable rows and their labels, read once."""

    def __init__(self, tx: Transaction, now: int) -> None:
        self._now = now
        self._blobs = {
            (namespace, digest): load_map(labels)
            for namespace, digest, labels in tx.rows("SELECT namespace, digest, labels FROM blobs")
        }
        self._snapshots = {
            (namespace, f"{snapshotter}/{key}"): (snapshotter, parent, load_map(labels))
            for namespace, snapshotter, key, parent, labels in tx.rows(
                "SELECT namespace, snapshotter, key, parent, labels FROM snapshots"
            )
        }
        self._ingests = {
            (namespace, ref): (expected, expires)
            for namespace, ref, expected, expires in tx.rows(
                "SELECT namespace, ref, expected, expires FROM ingests"
            )
        }
        self._images = {
            (namespace, name): (digest, load_map(labels))
            for namespace, name, digest, labels in tx.rows(
                "SELECT namespace, name, digest, labels FROM images"
            )
        }
        self._containers = {
            (namespace, id): (snapshotter, snapshot_key, load_map(labels))
            for namespace, id, snapshotter, snapshot_key, labels in tx.rows(
                "SELECT namespace, id, snapshotter, snapshot_key, labels FROM containers"
            )
        }
        self._sandboxes = tx.rows("SELECT namespace, labels FROM sandboxes")
        self._leases = {
            (namespace, id): load_map(labels)
            for namespace, id, labels in tx.rows("SELECT namespace, id, labels FROM leases")
        }
        self._leased: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for namespace, lease, kind, id in tx.rows("SELECT namespace, lease, type, id FROM lease_resources"):
            self._leased[namespace, lease].append((kind, id))
        # One that is being mounted isn't known yet: nothing can hold it before it is.
        self._mounts = {
            (namespace, name): (lease, load_map(labels))
            for namespace, name, lease, labels in tx.rows(
                "SELECT namespace, name, lease, labels FROM activations WHERE active IS NOT NULL"
            )
        }
        self._back = self._back_edges()

    def _back_edges(self) -> Mapping[Node, list[Node]]:
        """What is kept by what its own labels name."""
        back: dict[Node, list[Node]] = defaultdict(list)

        def add(resource: Resource, namespace: str, key: str, labels: Mapping[str, str]) -> None:
            for holder in gc.label_back_edges(namespace, labels):
                back[holder].append(Node(resource, namespace, key))

        for (namespace, digest), labels in self._blobs.items():
            add(Resource.CONTENT, namespace, digest, labels)
        for (namespace, key), (_, _, labels) in self._snapshots.items():
            add(Resource.SNAPSHOT, namespace, key, labels)
        for (namespace, name), (_, labels) in self._images.items():
            add(Resource.IMAGE, namespace, name, labels)
        for (namespace, name), (_, labels) in self._mounts.items():
            add(Resource.MOUNT, namespace, name, labels)
        return back

    def all_nodes(self) -> Iterator[Node]:
        """Everything that may be removed; containers only when asked to be, images when they expire."""
        yield from (Node(Resource.LEASE, namespace, id) for namespace, id in self._leases)
        yield from (Node(Resource.SNAPSHOT, namespace, key) for namespace, key in self._snapshots)
        yield from (Node(Resource.INGEST, namespace, ref) for namespace, ref in self._ingests)
        yield from (Node(Resource.CONTENT, namespace, digest) for namespace, digest in self._blobs)
        yield from (Node(Resource.IMAGE, namespace, name) for namespace, name in self._images)
        yield from (Node(Resource.MOUNT, namespace, name) for namespace, name in self._mounts)

    def roots(self) -> Iterator[Node]:
        now = self._now
        leases = {key for key, labels in self._leases.items() if not gc.has_expired(labels, now)}
        for namespace, id in leases:
            yield from self._lease_nodes(namespace, id, flat=gc.LABEL_FLAT in self._leases[namespace, id])
        for (namespace, name), (lease, _) in self._mounts.items():
            if (namespace, lease) in leases:
                yield Node(Resource.MOUNT, namespace, name)
        for (namespace, name), (_, labels) in self._images.items():
            if not gc.has_expired(labels, now):
                yield Node(Resource.IMAGE, namespace, name)
        yield from self._labelled_roots()
        yield from (Node(Resource.CONTAINER, namespace, id) for namespace, id in self._containers)
        for namespace, labels in self._sandboxes:
            yield from gc.label_edges(namespace, load_map(labels))

    def _labelled_roots(self) -> Iterator[Node]:
        """What holds itself: ingests that are not stale, and objects with gc.root or an expiry ahead."""
        now = self._now
        for (namespace, ref), (_, expires) in self._ingests.items():
            if expires is not None and expires > now:
                yield Node(Resource.INGEST, namespace, ref)
        for (namespace, digest), labels in self._blobs.items():
            if _is_root(labels, now):
                yield Node(Resource.CONTENT, namespace, digest)
        for (namespace, key), (_, _, labels) in self._snapshots.items():
            if _is_root(labels, now):
                yield Node(Resource.SNAPSHOT, namespace, key)

    def references(self, node: Node) -> Iterator[Node]:
        yield from self._back.get(node, ())
        match node.resource:
            case Resource.CONTENT:
                labels = self._blobs.get((node.namespace, node.key), {})
                yield from gc.label_edges(node.namespace, labels)
                yield from self._conditional_edges(node.namespace, labels)
            case Resource.SNAPSHOT | Resource.SNAPSHOT_FLAT:
                yield from self._snapshot_edges(node)
            case Resource.IMAGE | Resource.IMAGE_FLAT:
                yield from self._image_edges(node)
            case Resource.INGEST:
                expected, _ = self._ingests.get((node.namespace, node.key), ("", None))
                if expected:
                    yield Node(Resource.CONTENT, node.namespace, expected)
            case Resource.CONTAINER:
                yield from self._container_edges(node)
            case Resource.CONTENT_FLAT | Resource.LEASE | Resource.MOUNT:
                return

    def _image_edges(self, node: Node) -> Iterator[Node]:
        flat = node.resource is Resource.IMAGE_FLAT
        digest, labels = self._images.get((node.namespace, node.key), ("", {}))
        if digest:
            yield Node(Resource.CONTENT_FLAT if flat else Resource.CONTENT, node.namespace, digest)
        if not flat:
            yield from gc.label_edges(node.namespace, labels)
            yield from self._conditional_edges(node.namespace, labels)

    def _conditional_edges(self, namespace: str, labels: Mapping[str, str]) -> Iterator[Node]:
        for condition in gc.label_conditions(namespace, labels):
            _, _, its_labels = self._snapshots.get((namespace, condition.node.key), ("", "", {}))
            if condition.holds(its_labels, self._now):
                yield condition.node

    def _container_edges(self, node: Node) -> Iterator[Node]:
        found = self._containers.get((node.namespace, node.key))
        if found is None:
            return
        snapshotter, snapshot_key, labels = found
        if snapshotter:
            yield Node(Resource.SNAPSHOT, node.namespace, f"{snapshotter}/{snapshot_key}")
        yield from gc.label_edges(node.namespace, labels)

    def _snapshot_edges(self, node: Node) -> Iterator[Node]:
        found = self._snapshots.get((node.namespace, node.key))
        if found is None:
            return
        snapshotter, parent, labels = found
        if parent:
            yield node._replace(key=f"{snapshotter}/{parent}")
        if node.resource is Resource.SNAPSHOT:
            yield from gc.label_edges(node.namespace, labels)

    def _lease_nodes(self, namespace: str, id: str, *, flat: bool) -> Iterator[Node]:
        yield Node(Resource.LEASE, namespace, id)
        for kind, resource in self._leased.get((namespace, id), ()):
            if kind == "content":
                yield Node(Resource.CONTENT_FLAT if flat else Resource.CONTENT, namespace, resource)
            elif kind == "ingests":
                yield Node(Resource.INGEST, namespace, resource)
            elif kind == "images":
                yield Node(Resource.IMAGE_FLAT if flat else Resource.IMAGE, namespace, resource)
            else:
                snapshotter = kind.removeprefix("snapshots/")
                resource_kind = Resource.SNAPSHOT_FLAT if flat else Resource.SNAPSHOT
                yield Node(resource_kind, namespace, f"{snapshotter}/{resource}")


def _is_root(labels: dict[str, str], now: int) -> bool:
    """gc.root keeps an object whatever its value; gc.expire in the future keeps it until then."""
    if gc.LABEL_ROOT in labels:
        return True
    return gc.LABEL_EXPIRE in labels and not gc.has_expired(labels, now)


def _backend_of(node: Node) -> str:
    """Which backend has something to clean up when a node goes."""
    match node.resource:
        case Resource.CONTENT | Resource.INGEST:
            return "content"
        case Resource.SNAPSHOT:
            return node.key.partition("/")[0]
        case Resource.MOUNT:
            return activations.RESOURCE
        case _:
            return ""


def _remove_row(tx: Transaction, node: Node) -> None:
    match node.resource:
        case Resource.CONTENT:
            tx.execute("DELETE FROM blobs WHERE namespace=? AND digest=?", node.namespace, node.key)
        case Resource.SNAPSHOT:
            snapshotter, _, key = node.key.partition("/")
            tx.execute(
                "DELETE FROM snapshots WHERE namespace=? AND snapshotter=? AND key=?",
                node.namespace,
                snapshotter,
                key,
            )
        case Resource.INGEST:
            tx.execute("DELETE FROM ingests WHERE namespace=? AND ref=?", node.namespace, node.key)
        case Resource.LEASE:
            tx.execute("DELETE FROM leases WHERE namespace=? AND id=?", node.namespace, node.key)
        case Resource.IMAGE:
            tx.execute("DELETE FROM images WHERE namespace=? AND name=?", node.namespace, node.key)
        case Resource.MOUNT:
            tx.execute("DELETE FROM activations WHERE namespace=? AND name=?", node.namespace, node.key)
        case Resource.CONTENT_FLAT | Resource.SNAPSHOT_FLAT | Resource.IMAGE_FLAT | Resource.CONTAINER:
            raise AssertionError(f"{node.resource.value} nodes are never listed")


def _known_content(tx: Transaction) -> tuple[set[Any], set[Any]]:
    """(digests any namespace has or an ingest is about to share, backend refs of all ingests)."""
    digests = {row[0] for row in tx.rows("SELECT DISTINCT digest FROM blobs")}
    ingests = tx.rows("SELECT expected, backend_ref FROM ingests")
    return digests | {row[0] for row in ingests if row[0]}, {row[1] for row in ingests}
