"""Who may see which blob: content of one namespace at a time, over the shared local store.

With the shared policy a namespace that names a digest another one already has gets it without sending the bytes.

Spec: containerd docs/content-flow.md, content_sharing_policy
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import content, filters
from pycontainerd.daemon.core import labels as label
from pycontainerd.daemon.core.content import Info, Status
from pycontainerd.daemon.core.growing import Growth
from pycontainerd.daemon.core.leases import Resource
from pycontainerd.daemon.core.locks import SharedLock
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.plugins.metadata_sqlite.columns import dump_map, load_map
from pycontainerd.daemon.plugins.metadata_sqlite.leases import add_leased, remove_leased
from pycontainerd.lib.errdefs import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, Transaction

_SELECT: Final = "SELECT digest, size, labels, created, updated FROM blobs WHERE namespace=?"
_STALE_AFTER_NANOS: Final = 24 * 3600 * 1_000_000_000
_COPY_CHUNK: Final = 1 << 20


class SqliteContentStore:
    """Implements core.content.ContentStore."""

    def __init__(self, database: Database, backend: content.Backend, *, shared: bool = True) -> None:
        self._database = database
        self._backend = backend
        self._shared = shared
        # Commits share it; the sweep holds it, so no blob is swept between its rename and its row.
        self.sweep_lock = SharedLock()
        self._writers: dict[
            tuple[str, str], NamespacedWriter
        ] = {}  # (namespace, expected digest) -> who writes it
        self._writers_lock = threading.Lock()

    def info(self, scope: Scope, digest: str) -> Info:
        row = self._database.read(lambda tx: _blob_row(tx, scope, digest))
        return _info(row)

    def update(self, scope: Scope, info: Info, paths: Sequence[str]) -> Info:
        def change(tx: Transaction) -> Info:
            current = _info(_blob_row(tx, scope, info.digest))
            updated = replace(_updated(current, info, paths), updated_nanos=now_nanos())
            tx.execute(
                "UPDATE blobs SET labels=?, updated=? WHERE namespace=? AND digest=?",
                dump_map(updated.labels),
                updated.updated_nanos,
                scope.namespace,
                info.digest,
            )
            return updated

        return self._database.write(change)

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Info]:
        matches = filters.parse_all(filter_texts)
        rows = self._database.read(lambda tx: tx.rows(_SELECT + " ORDER BY digest", scope.namespace))
        return [info for info in map(_info, rows) if matches(content.adaptor(info))]

    def delete(self, scope: Scope, digest: str) -> None:
        def change(tx: Transaction) -> None:
            _blob_row(tx, scope, digest)
            tx.execute("DELETE FROM blobs WHERE namespace=? AND digest=?", scope.namespace, digest)
            remove_leased(tx, scope, Resource("content", digest))
            tx.mark_dirty("content")

        self._database.write(change)

    def open_blob(self, scope: Scope, digest: str) -> content.Blob:
        self.info(scope, digest)
        return self._backend.open_blob(digest)

    def follow(self, scope: Scope, digest: str) -> content.Following | None:
        with self._writers_lock:
            writer = self._writers.get((scope.namespace, digest))
            return None if writer is None else writer.follow()

    def status(self, scope: Scope, ref: str) -> Status:
        row = self._database.read(
            lambda tx: tx.row(
                "SELECT backend_ref FROM ingests WHERE namespace=? AND ref=?", scope.namespace, ref
            )
        )
        if row is None:
            raise NotFound(f"reference {ref}: not found")
        return replace(self._backend.status(row[0]), ref=ref)

    def list_statuses(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Status]:
        matches = filters.parse_all(filter_texts)
        rows = self._database.read(
            lambda tx: tx.rows(
                "SELECT ref, backend_ref FROM ingests WHERE namespace=? ORDER BY ref", scope.namespace
            )
        )
        found: list[Status] = []
        for ref, backend_ref in rows:
            try:
                status = replace(self._backend.status(backend_ref), ref=ref)
            except NotFound:
                continue  # shared content: nothing was written
            if matches(content.status_adaptor(status)):
                found.append(status)
        return found

    def abort(self, scope: Scope, ref: str) -> None:
        def change(tx: Transaction) -> tuple[str, str]:
            row = tx.row(
                "SELECT backend_ref, expected FROM ingests WHERE namespace=? AND ref=?", scope.namespace, ref
            )
            if row is None:
                raise NotFound(f"reference {ref}: not found")
            tx.execute("DELETE FROM ingests WHERE namespace=? AND ref=?", scope.namespace, ref)
            remove_leased(tx, scope, Resource("ingests", ref))
            return row[0], row[1]

        backend_ref, expected = self._database.write(change)
        if not expected:
            self._backend.abort(backend_ref)

    def writer(self, scope: Scope, ref: str, total_bytes: int = 0, expected: str = "") -> content.Writer:
        if not ref:
            raise InvalidArgument("ref must not be empty: invalid argument")
        with self.sweep_lock.shared():
            exists, shared, backend_ref = self._database.write(
                lambda tx: self._reserve(tx, scope, ref, total_bytes, expected)
            )
            if exists:
                raise AlreadyExists(f"content {expected}: already exists")
            if shared is not None:
                return NamespacedWriter(self, scope, ref, backend_ref, None, shared)
            # The digest was already checked against what this namespace may see.
            backend = self._backend.writer(backend_ref, total_bytes)
            writer = NamespacedWriter(self, scope, ref, backend_ref, backend, Info(expected, total_bytes))
            if expected:
                with self._writers_lock:
                    self._writers[scope.namespace, expected] = writer
            return writer

    def forget_writer(self, scope: Scope, writer: NamespacedWriter, expected: str) -> None:
        """Nobody can follow this writer any more; called by it."""
        with self._writers_lock:
            if self._writers.get((scope.namespace, expected)) is writer:
                del self._writers[scope.namespace, expected]

    def _reserve(
        self, tx: Transaction, scope: Scope, ref: str, total_bytes: int, expected: str
    ) -> tuple[bool, Info | None, str]:
        """Makes the ingest's row: (namespace has it already, blob to share, backend ref)."""
        shared: Info | None = None
        if expected:
            if tx.row(_SELECT + " AND digest=?", scope.namespace, expected):
                # The lease holds it even though there is nothing to write.
                add_leased(tx, scope, Resource("content", expected))
                return True, None, ""
            if self._shared:
                with suppress(NotFound, InvalidArgument):
                    found = self._backend.info(expected)
                    shared = found if total_bytes in (0, found.size_bytes) else None
        tx.ensure_namespace(scope.namespace)
        leased = add_leased(tx, scope, Resource("ingests", ref))
        row = tx.row("SELECT backend_ref FROM ingests WHERE namespace=? AND ref=?", scope.namespace, ref)
        backend_ref = row[0] if row else f"{scope.namespace}/{tx.next_number('ingests')}/{ref}"
        tx.execute(
            "INSERT INTO ingests VALUES (?, ?, ?, ?, ?) ON CONFLICT(namespace, ref) DO UPDATE "
            "SET expected=excluded.expected, expires=coalesce(excluded.expires, expires)",
            scope.namespace,
            ref,
            backend_ref,
            expected if shared else "",
            None if leased else now_nanos() + _STALE_AFTER_NANOS,
        )
        return False, shared, backend_ref

    def backend_writer(self, backend_ref: str, source: Info) -> content.BackendWriter:
        """A private copy of a shared blob, once somebody really writes to the ref."""
        writer = self._backend.writer(backend_ref, source.size_bytes)
        blob = self._backend.open_blob(source.digest)
        try:
            offset = 0
            while data := blob.read(offset, _COPY_CHUNK):
                writer.write(data)
                offset += len(data)
        except BaseException:
            writer.close()
            raise
        finally:
            blob.close()
        return writer

    def insert_blob(self, scope: Scope, ref: str, info: Info) -> None:
        """The row of a committed blob, in place of its ingest's; AlreadyExists after the ingest is gone."""

        def change(tx: Transaction) -> bool:
            tx.execute("DELETE FROM ingests WHERE namespace=? AND ref=?", scope.namespace, ref)
            remove_leased(tx, scope, Resource("ingests", ref))
            tx.ensure_namespace(scope.namespace)
            now = now_nanos()
            inserted = tx.execute(
                "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?)",
                scope.namespace,
                info.digest,
                info.size_bytes,
                dump_map(label.stored(info.labels)),
                now,
                now,
            )
            add_leased(tx, scope, Resource("content", info.digest))
            return bool(inserted)

        if not self._database.write(change):
            raise AlreadyExists(f"content {info.digest}: already exists")


class NamespacedWriter:
    """Implements core.content.Writer; without a backend writer it stands for a blob that is shared as it is."""

    def __init__(
        self,
        store: SqliteContentStore,
        scope: Scope,
        ref: str,
        backend_ref: str,
        writer: content.BackendWriter | None,
        shared: Info,
    ) -> None:
        self._store = store
        self._scope = scope
        self._ref = ref
        self._backend_ref = backend_ref
        self._writer = writer
        self._shared = shared
        self._started = now_nanos()
        self._growth = Growth(shared.digest)
        if writer is not None:
            self._growth.advance(writer.status().offset_bytes)

    def status(self) -> Status:
        if self._writer is not None:
            return replace(self._writer.status(), ref=self._ref)
        size = self._shared.size_bytes
        return Status(self._ref, size, size, self._shared.digest, self._started, self._started)

    def digest(self) -> str:
        return self._writer.digest() if self._writer is not None else self._shared.digest

    def write(self, data: bytes | memoryview) -> None:
        if self._writer is None:
            if not data:
                return
            self._writer = self._store.backend_writer(self._backend_ref, self._shared)
        self._writer.write(data)
        self._growth.advance(self._writer.status().offset_bytes)

    def follow(self) -> FollowedIngest | None:
        """What is being written; None when it no longer is. The caller closes it."""
        if self._writer is None:
            return None
        try:
            return FollowedIngest(self._writer.open_data(), self._growth)
        except (FileNotFoundError, FailedPrecondition):
            return None  # committed or left just now

    def truncate(self) -> None:
        # Who reads along has read what is thrown away now.
        self._growth.give_up()
        self._growth = Growth(self._shared.digest)
        if self._writer is None:
            self._writer = self._store.backend_writer(self._backend_ref, self._shared)
        self._writer.truncate()

    def commit(self, size_bytes: int, expected: str, labels: Mapping[str, str]) -> None:
        label.require_valid(labels, "info.Labels")
        with self._store.sweep_lock.shared():
            size, actual = self._commit_backend(size_bytes, expected)
            self._store.insert_blob(self._scope, self._ref, Info(actual, size, labels))
        if actual == self._shared.digest:
            self._growth.complete()

    def close(self) -> None:
        self._store.forget_writer(self._scope, self, self._shared.digest)
        self._growth.give_up()
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> NamespacedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _commit_backend(self, size_bytes: int, expected: str) -> tuple[int, str]:
        have = self.status().offset_bytes
        if size_bytes not in (0, have):
            self.close()
            raise FailedPrecondition(
                f"{quoted(self._ref)} failed size validation: {have} != {size_bytes}: failed precondition"
            )
        if self._writer is None:
            if expected and expected != self._shared.digest:
                raise FailedPrecondition(f"{quoted(self._ref)} unexpected digest: failed precondition")
            return have, self._shared.digest
        with suppress(AlreadyExists):  # another namespace was first; ours gets its own row
            self._writer.commit(have, expected, {})
        return have, self._writer.digest()


class FollowedIngest:
    """Implements core.content.Following; owns the fd."""

    __slots__ = ("_fd", "_growth")

    def __init__(self, fd: int, growth: Growth) -> None:
        self._fd = fd
        self._growth = growth

    def fileno(self) -> int:
        return self._fd

    def wait(self, offset: int) -> int:
        return self._growth.wait(offset)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _blob_row(tx: Transaction, scope: Scope, digest: str) -> Any:
    row = tx.row(_SELECT + " AND digest=?", scope.namespace, digest)
    if row is None:
        raise NotFound(f"content digest {digest}: not found")
    return row


def _info(row: Any) -> Info:
    digest, size, labels, created, updated = row
    return Info(digest, size, load_map(labels), created, updated)


def _updated(current: Info, wanted: Info, paths: Sequence[str]) -> Info:
    """`current` with the masked labels of `wanted`; without a mask, with all of them."""
    labels: Mapping[str, str] = current.labels if paths else label.stored(wanted.labels)
    for path in paths:
        if path.startswith("labels."):
            labels = label.with_path(labels, wanted.labels, path)
        elif path == "labels":
            labels = label.stored(wanted.labels)
        else:
            raise InvalidArgument(
                f"cannot update {quoted(path)} field on content info {quoted(wanted.digest)}: "
                "invalid argument"
            )
    label.require_valid(labels, "info.Labels")
    return replace(current, labels=labels)
