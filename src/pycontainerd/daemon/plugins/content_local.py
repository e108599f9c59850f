"""Blobs and ingests as files, in containerd's layout.

    blobs/<algorithm>/<hex>            0444, complete and verified
    ingest/<sha256 of ref>/            one write in progress
        ref  data  startedat  updatedat  total

A blob is fsynced, its size and digest checked, then renamed into place and the directory fsynced: what does not verify
is never visible, what is visible is on disk.

Spec: containerd content/local (file formats), image-spec descriptor.md#digests
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import files
from pycontainerd.daemon.core.content import Info, Status
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.lib import digest as digests
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unknown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

_CHUNK: Final = 1 << 20
_LOCK_PATIENCE_S: Final = 0.5


class LocalContentStore:
    """Implements core.content.Backend under one directory."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._locks: dict[str, int] = {}
        self._locks_changed = threading.Condition()
        files.make_dir(root, 0o755)
        files.make_dir(f"{root}/ingest", 0o755)
        files.make_dir(f"{root}/blobs/sha256", 0o755)
        os.chmod(f"{root}/blobs", 0o755)

    def info(self, digest: str) -> Info:
        try:
            status = os.stat(self._blob_path(digest))
        except FileNotFoundError as e:
            raise NotFound(f"content {digest}: not found") from e
        return Info(digest, status.st_size, {}, status.st_mtime_ns, status.st_mtime_ns)

    def walk(self) -> Iterator[Info]:
        for algorithm in sorted(os.listdir(f"{self._root}/blobs")):
            if algorithm not in digests.ENCODED_LENGTH:
                continue
            for encoded in sorted(os.listdir(f"{self._root}/blobs/{algorithm}")):
                digest = f"{algorithm}:{encoded}"
                if not digests.is_valid(digest):
                    continue
                try:
                    yield self.info(digest)
                except NotFound:
                    continue  # removed while we walked

    def delete(self, digest: str) -> None:
        try:
            os.unlink(self._blob_path(digest))
        except FileNotFoundError as e:
            raise NotFound(f"content {digest}: not found") from e

    def open_blob(self, digest: str) -> LocalBlob:
        path = self._blob_path(digest)
        try:
            return LocalBlob(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError as e:
            raise NotFound(f"blob {digest} expected at {path}: blob not found: not found") from e

    def status(self, ref: str) -> Status:
        path = self._ingest_path(ref)
        try:
            data = os.stat(f"{path}/data")
            found = files.read_limited(f"{path}/ref").decode()
            started = _read_time(f"{path}/startedat")
            # The file is written when a writer is closed: meanwhile the data's own time is the later one.
            updated = max(_read_time(f"{path}/updatedat"), data.st_mtime_ns)
        except FileNotFoundError as e:
            raise NotFound(f"stat {path}/data: no such file or directory: not found") from e
        return Status(found, data.st_size, _read_total(path), "", started, updated)

    def refs(self) -> Iterator[str]:
        for name in sorted(os.listdir(f"{self._root}/ingest")):
            try:
                yield files.read_limited(f"{self._root}/ingest/{name}/ref").decode()
            except FileNotFoundError:
                continue  # half-made before a crash: the next writer of the ref starts it anew

    def writer(self, ref: str, total_bytes: int = 0, expected: str = "") -> LocalWriter:
        if not ref:
            raise InvalidArgument("ref must not be empty: invalid argument")
        self._acquire(ref)
        try:
            if expected and os.path.exists(self._blob_path(expected)):
                raise AlreadyExists(f"content {expected}: already exists")
            path = self._ingest_path(ref)
            try:
                return _resume(self, path, ref, total_bytes)
            except (FileNotFoundError, NotFound, ValueError):
                files.remove_tree(path)  # a bad ingest is started again
                return _begin(self, path, ref, total_bytes)
        except OSError as e:
            self.release(ref)
            raise disk_error("create ingest", self._ingest_path(ref), e) from e
        except BaseException:
            self.release(ref)
            raise

    def abort(self, ref: str) -> None:
        path = self._ingest_path(ref)
        if not os.path.isdir(path):
            raise NotFound(f'ingest ref "{ref}": not found')
        files.remove_tree(path)

    def release(self, ref: str) -> None:
        """Unlocks a ref; called by its writer."""
        with self._locks_changed:
            self._locks.pop(ref, None)
            self._locks_changed.notify_all()

    def blob_path_for(self, digest: str) -> str:
        """Where a verified blob goes; the algorithm's directory is made."""
        path = self._blob_path(digest)
        files.make_dir(os.path.dirname(path), 0o755)
        return path

    def _acquire(self, ref: str) -> None:
        with self._locks_changed:
            if not self._locks_changed.wait_for(lambda: ref not in self._locks, _LOCK_PATIENCE_S):
                since = self._locks[ref]
                held_s = (now_nanos() - since) / 1e9
                shown = files.format_go_time(since).decode()
                raise Unavailable(f"ref {ref} locked for {held_s:.9f}s (since {shown}): unavailable")
            self._locks[ref] = now_nanos()

    def _blob_path(self, digest: str) -> str:
        try:
            parsed = digests.parse(digest)
        except InvalidArgument as e:
            raise InvalidArgument(f"cannot calculate blob path from invalid digest: {e}") from e
        return f"{self._root}/blobs/{parsed.algorithm}/{parsed.encoded}"

    def _ingest_path(self, ref: str) -> str:
        return f"{self._root}/ingest/{hashlib.sha256(ref.encode()).hexdigest()}"


class LocalBlob:
    """An open blob file."""

    __slots__ = ("_fd", "size_bytes")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size_bytes = os.fstat(fd).st_size

    def fileno(self) -> int:
        """Borrowed; valid until close."""
        return self._fd

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes only at the end."""
        return os.pread(self._fd, length, offset)

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> LocalBlob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LocalWriter:
    """Implements core.content.Writer; owns the ref's lock and the data file's fd."""

    __slots__ = ("_fd", "_hash", "_offset", "_path", "_ref", "_started", "_store", "_total", "_updated")

    def __init__(
        self, store: LocalContentStore, path: str, ref: str, fd: int, state: Any, status: Status
    ) -> None:
        self._store = store
        self._path = path
        self._ref = ref
        self._fd = fd
        self._hash = state
        self._offset = status.offset_bytes
        self._total = status.total_bytes
        self._started = status.started_nanos
        self._updated = status.updated_nanos

    def status(self) -> Status:
        return Status(self._ref, self._offset, self._total, "", self._started, self._updated)

    def digest(self) -> str:
        return str(digests.from_hash(self._hash))

    def open_data(self) -> int:
        self._require_open("read from")
        return os.open(f"{self._path}/data", os.O_RDONLY | os.O_CLOEXEC)

    def write(self, data: bytes | memoryview) -> None:
        self._require_open("write to")
        rest = memoryview(data)
        while rest:
            try:
                count = os.write(self._fd, rest)
            except OSError as e:
                raise disk_error("write", f"{self._path}/data", e) from e
            self._hash.update(rest[:count])
            self._offset += count
            rest = rest[count:]
        self._updated = now_nanos()

    def truncate(self) -> None:
        self._require_open("truncate")
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.ftruncate(self._fd, 0)
        self._hash = digests.new_hash()
        self._offset = 0

    def commit(self, size_bytes: int, expected: str, labels: Mapping[str, str]) -> None:
        del labels  # kept by the metadata store
        self._require_open("commit on")
        fd, self._fd = self._fd, -1
        try:
            with trace.span("content.commit", ref=self._ref, size=self._offset):
                self._publish(fd, size_bytes, expected)
        finally:
            self._store.release(self._ref)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            os.close(fd)
            files.write_atomic(f"{self._path}/updatedat", files.format_go_time(self._updated))
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT):
                raise
        finally:
            self._store.release(self._ref)

    def __enter__(self) -> LocalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _publish(self, fd: int, size_bytes: int, expected: str) -> None:
        try:
            os.fsync(fd)
            actual_size = os.fstat(fd).st_size
            if size_bytes > 0 and size_bytes != actual_size:
                raise FailedPrecondition(
                    f"unexpected commit size {actual_size}, expected {size_bytes}: failed precondition"
                )
            actual = self.digest()
            if expected and expected != actual:
                raise FailedPrecondition(
                    f"unexpected commit digest {actual}, expected {expected}: failed precondition"
                )
            os.fchmod(fd, 0o444)
        except OSError as e:
            raise disk_error("sync", f"{self._path}/data", e) from e
        finally:
            os.close(fd)
        target = self._store.blob_path_for(actual)
        if os.path.exists(target):
            files.remove_tree(self._path)
            raise AlreadyExists(f"content {actual}: already exists")
        os.utime(f"{self._path}/data")
        os.rename(f"{self._path}/data", target)
        files.sync_dir(os.path.dirname(target))
        files.remove_tree(self._path)

    def _require_open(self, what: str) -> None:
        if self._fd < 0:
            raise FailedPrecondition(f"cannot {what} closed writer: failed precondition")


def disk_error(call: str, path: str, error: OSError) -> ContainerdError:
    """A failed file operation in containerd's words (Go's PathError), with what to do about a full disk."""
    hint = "free disk space; the ingest can be resumed" if error.errno == errno.ENOSPC else ""
    text = os.strerror(error.errno or 0)
    return Unknown(
        f"{call} {path}: {text[:1].lower()}{text[1:]}", hint=hint, call=call, errno=error.errno or 0
    )


def _resume(store: LocalContentStore, path: str, ref: str, total_bytes: int) -> LocalWriter:
    """A writer at the end of what an earlier one left; re-reads it for the digest."""
    status = store.status(ref)
    if status.ref != ref:
        raise ValueError(f"ref key does not match: {ref} != {status.ref}")
    if total_bytes > 0 and status.total_bytes > 0 and total_bytes != status.total_bytes:
        raise ValueError(f"provided total differs from status: {total_bytes} != {status.total_bytes}")
    fd = os.open(f"{path}/data", os.O_RDWR | os.O_CLOEXEC)
    state = digests.new_hash()
    offset = 0
    while chunk := os.read(fd, _CHUNK):
        state.update(chunk)
        offset += len(chunk)
    resumed = replace(status, offset_bytes=offset, total_bytes=status.total_bytes or total_bytes)
    return LocalWriter(store, path, ref, fd, state, resumed)


def _begin(store: LocalContentStore, path: str, ref: str, total_bytes: int) -> LocalWriter:
    os.mkdir(path, 0o755)
    now = now_nanos()
    files.write_atomic(f"{path}/startedat", files.format_go_time(now))
    files.write_atomic(f"{path}/updatedat", files.format_go_time(now))
    if total_bytes > 0:
        files.write_atomic(f"{path}/total", str(total_bytes).encode())
    fd = os.open(f"{path}/data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    # Last: an ingest without its ref file is a bad one.
    files.write_atomic(f"{path}/ref", ref.encode())
    return LocalWriter(store, path, ref, fd, digests.new_hash(), Status(ref, 0, total_bytes, "", now, now))


def _read_time(path: str) -> int:
    return files.parse_go_time(files.read_limited(path, 64))


def _read_total(path: str) -> int:
    try:
        text = files.read_limited(f"{path}/total", 32).decode()
    except FileNotFoundError:
        return 0
    return int(text) if text.isascii() and text.isdecimal() else 0
