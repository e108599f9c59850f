"""Content: immutable blobs by digest, and resumable writes (ingests) by ref.

Two protocols: `Backend` holds blobs for everybody, `ContentStore` says which namespace may see which.

Spec: containerd content/v1, image-spec descriptor.md#digests
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pycontainerd.daemon.core import filters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from pycontainerd.daemon.core.scope import Scope


@dataclass(frozen=True, slots=True)
class Info:
    """A blob. Times are nanoseconds since 1970."""

    digest: str
    size_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    created_nanos: int = 0
    updated_nanos: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """An ingest. `total_bytes` 0 means nobody said. Times are nanoseconds since 1970."""

    ref: str
    offset_bytes: int = 0
    total_bytes: int = 0
    expected: str = ""
    started_nanos: int = 0
    updated_nanos: int = 0


class Blob(Protocol):
    """An open blob; the holder closes it."""

    size_bytes: int

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes only at the end."""
        ...

    def fileno(self) -> int:
        """The blob's file, for a worker; borrowed, valid until close."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


@runtime_checkable
class Following(Protocol):
    """A blob that somebody is still writing, read along; the holder closes it."""

    def fileno(self) -> int:
        """The growing file; borrowed, valid until close."""
        ...

    def wait(self, offset: int) -> int:
        """How many bytes there are once they are more than `offset`; `offset` itself when that is all, and verified.

        Raises Unavailable when the write ends without a commit, or begins again.
        """
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class Writer(Protocol):
    """One ingest, locked for this writer until `close` or `commit`. Closing keeps what was written."""

    def status(self) -> Status: ...

    def digest(self) -> str:
        """Of the bytes so far."""
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Appends. ResourceExhausted when the disk is full; what was written stays resumable."""
        ...

    def truncate(self) -> None:
        """Starts again at 0."""
        ...

    def commit(self, size_bytes: int, expected: str, labels: Mapping[str, str]) -> None:
        """FailedPrecondition on a wrong size or digest (nothing becomes visible), AlreadyExists."""
        ...

    def close(self) -> None:
        """Idempotent; keeps the ingest for a later writer."""
        ...

    def __enter__(self) -> Writer: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...


class BackendWriter(Writer, Protocol):
    """A writer to a backend: what it writes can be read along."""

    def open_data(self) -> int:
        """A descriptor of its own of what has been written and will be, for reading; the caller closes it."""
        ...


class Backend(Protocol):
    """Blobs of all namespaces. Blocking; raises errdefs."""

    def info(self, digest: str) -> Info: ...

    def walk(self) -> Iterable[Info]: ...

    def delete(self, digest: str) -> None: ...

    def open_blob(self, digest: str) -> Blob: ...

    def status(self, ref: str) -> Status: ...

    def refs(self) -> Iterable[str]: ...

    def writer(self, ref: str, total_bytes: int = 0, expected: str = "") -> BackendWriter:
        """Unavailable while another writer holds the ref."""
        ...

    def abort(self, ref: str) -> None: ...


class ContentStore(Protocol):
    """The same for one namespace at a time. Blocking; raises errdefs."""

    def info(self, scope: Scope, digest: str) -> Info: ...

    def update(self, scope: Scope, info: Info, paths: Sequence[str]) -> Info: ...

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Info]: ...

    def delete(self, scope: Scope, digest: str) -> None:
        """Hides the blob from the namespace; garbage collection takes the bytes."""
        ...

    def open_blob(self, scope: Scope, digest: str) -> Blob: ...

    def follow(self, scope: Scope, digest: str) -> Following | None:
        """The blob while it is being written to an ingest of this namespace that expects it; None when none does."""
        ...

    def status(self, scope: Scope, ref: str) -> Status: ...

    def list_statuses(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Status]: ...

    def writer(self, scope: Scope, ref: str, total_bytes: int = 0, expected: str = "") -> Writer:
        """AlreadyExists when the namespace has `expected` (it joins the scope's lease)."""
        ...

    def abort(self, scope: Scope, ref: str) -> None: ...


def adaptor(info: Info) -> filters.Adaptor:
    """The fields a filter can name."""

    def field_value(path: Sequence[str]) -> str | None:
        match tuple(path):
            case ("digest",):
                return info.digest
            case ("labels", *rest):
                return filters.map_field(rest, info.labels)
            case _:
                return None

    return field_value


def status_adaptor(status: Status) -> filters.Adaptor:
    """The one field of an ingest that a filter can name."""
    return lambda path: status.ref if tuple(path) == ("ref",) else None
