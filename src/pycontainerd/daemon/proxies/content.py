"""Content of a store in another process, over containerd's content service.

Spec: containerd docs/PLUGINS.md#proxy-plugins, content/v1
"""

from __future__ import annotations

import os
import tempfile
from typing import IO, TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core.content import Info, Status
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import content_v1
from pycontainerd.lib.errdefs import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from pycontainerd.daemon.proxies.client import ProxyClient, ProxyStream

_CHUNK: Final = 1 << 20  # of a write; a message stays far below gRPC's 4 MiB


class ProxyContentStore:
    """Implements core.content.Backend. Refs and digests go to the plugin as they are."""

    def __init__(self, client: ProxyClient, namespace: str = "default") -> None:
        self._client = client
        # The store below is shared by all namespaces; its service wants one named.
        self._namespace = namespace

    def info(self, digest: str) -> Info:
        return _info(self._call("Info", content_v1.InfoRequest(digest=digest)).info)

    def walk(self) -> Iterator[Info]:
        pages = self._client.collect("List", content_v1.ListContentRequest(), self._namespace)
        return (_info(info) for page in pages for info in page.info)

    def delete(self, digest: str) -> None:
        self._call("Delete", content_v1.DeleteContentRequest(digest=digest))

    def open_blob(self, digest: str) -> ProxyBlob:
        return ProxyBlob(self, digest, self.info(digest).size_bytes)

    def read(self, digest: str, offset: int, length: int) -> bytes:
        """A part of a blob."""
        request = content_v1.ReadContentRequest(digest=digest, offset=offset, size=length)
        return b"".join(m.data for m in self._client.collect("Read", request, self._namespace))

    def status(self, ref: str) -> Status:
        return _status(self._call("Status", content_v1.StatusRequest(ref=ref)).status)

    def refs(self) -> Iterator[str]:
        found = self._call("ListStatuses", content_v1.ListStatusesRequest())
        return (status.ref for status in found.statuses)

    def writer(self, ref: str, total_bytes: int = 0, expected: str = "") -> ProxyWriter:
        if not ref:
            raise InvalidArgument("ref must not be empty: invalid argument")
        return ProxyWriter(self._client.open("Write", self._namespace), ref, total_bytes, expected)

    def abort(self, ref: str) -> None:
        self._call("Abort", content_v1.AbortRequest(ref=ref))

    def _call(self, method: str, request: Any) -> Any:
        return self._client.call(method, request, self._namespace)


class ProxyBlob:
    """An open blob; a file is made of it for a worker that needs one."""

    def __init__(self, store: ProxyContentStore, digest: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._store = store
        self._digest = digest
        self._copy: IO[bytes] | None = None

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes only at the end."""
        length = min(length, self.size_bytes - offset)
        return self._store.read(self._digest, offset, length) if length > 0 else b""

    def fileno(self) -> int:
        """A temporary file with the whole blob; borrowed, valid until close."""
        if self._copy is None:
            self._copy = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by close()
            offset = 0
            while data := self.read(offset, 4 * _CHUNK):
                self._copy.write(data)
                offset += len(data)
            self._copy.flush()
            self._copy.seek(0, os.SEEK_SET)
        return self._copy.fileno()

    def close(self) -> None:
        """Idempotent."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None


class ProxyWriter:
    """Implements core.content.Writer over one Write stream, which is the ref's lock."""

    def __init__(self, stream: ProxyStream, ref: str, total_bytes: int, expected: str) -> None:
        self._stream = stream
        self._ref = ref
        self._closed = False
        self._last = stream.exchange(
            content_v1.WriteContentRequest(
                action=content_v1.WriteAction.STAT, ref=ref, total=total_bytes, expected=expected
            )
        )
        self._offset = self._last.offset
        self._started = wire.nanos(self._last.started_at)
        self._updated = wire.nanos(self._last.updated_at)
        self._total = self._last.total or total_bytes
        self._digest = self._last.digest

    def status(self) -> Status:
        return Status(self._ref, self._offset, self._total, "", self._started, self._updated)

    def digest(self) -> str:
        return str(self._digest)

    def open_data(self) -> int:
        """FailedPrecondition: what another process writes cannot be read along, only once it is there."""
        raise FailedPrecondition("an ingest of a proxy plugin has no file here: failed precondition")

    def write(self, data: bytes | memoryview) -> None:
        self._require_open("write to")
        rest = memoryview(data)
        while rest:
            piece, rest = rest[:_CHUNK], rest[_CHUNK:]
            request = content_v1.WriteContentRequest(
                action=content_v1.WriteAction.WRITE, ref=self._ref, offset=self._offset, data=bytes(piece)
            )
            answer = self._stream.exchange(request)
            self._offset, self._digest = answer.offset, answer.digest

    def truncate(self) -> None:
        """A write at 0 starts again; it is sent now, so that the digest is right."""
        self._require_open("truncate")
        if self._offset == 0:
            return
        request = content_v1.WriteContentRequest(action=content_v1.WriteAction.WRITE, ref=self._ref)
        answer = self._stream.exchange(request)
        self._offset, self._digest = answer.offset, answer.digest

    def commit(self, size_bytes: int, expected: str, labels: Mapping[str, str]) -> None:
        del labels  # kept by the metadata store
        self._require_open("commit on")
        request = content_v1.WriteContentRequest(
            action=content_v1.WriteAction.COMMIT,
            ref=self._ref,
            offset=self._offset,
            total=size_bytes,
            expected=expected,
        )
        try:
            self._digest = self._stream.exchange(request).digest
        finally:
            self.close()

    def close(self) -> None:
        """Idempotent; what was written stays with the plugin."""
        self._closed = True
        self._stream.close()

    def __enter__(self) -> ProxyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self, what: str) -> None:
        if self._closed:
            raise FailedPrecondition(f"cannot {what} closed writer: failed precondition")


def _info(message: content_v1.Info) -> Info:
    return Info(
        message.digest,
        message.size,
        dict(message.labels),
        wire.nanos(message.created_at),
        wire.nanos(message.updated_at),
    )


def _status(message: content_v1.Status) -> Status:
    return Status(
        message.ref,
        message.offset,
        message.total,
        message.expected,
        wire.nanos(message.started_at),
        wire.nanos(message.updated_at),
    )
