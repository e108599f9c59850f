"""Content: blobs in and out.

Spec: containerd.services.content.v1 (the comments of its .proto give the Write protocol)
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import documents
from pycontainerd.daemon.core.call import decoded_by
from pycontainerd.daemon.core.content import Blob, ContentStore, Info, Status, Writer
from pycontainerd.daemon.services import wire
from pycontainerd.lib import digest as digests
from pycontainerd.lib.api import codec
from pycontainerd.lib.api.full import content_v1, events, wkt
from pycontainerd.lib.errdefs import (
    AlreadyExists,
    ContainerdError,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Unknown,
)
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.events import Exchange
    from pycontainerd.daemon.core.scope import Scope

_PAGE: Final = 100
_READ_CHUNK: Final = 1 << 20
_FIRST_CHUNK: Final = documents.MAX_BYTES
_DATA: Final = 6  # number of the field of WriteContentRequest


class _WriteRequest:
    """A WriteContentRequest whose data stays where it arrived: a layer's bytes are copied no more than they must be."""

    __slots__ = ("_message", "data")

    def __init__(self, payload: bytes) -> None:
        """DecodeError when it is none."""
        rest, data = codec.split_field(_DATA, payload)
        self._message = content_v1.WriteContentRequest.FromString(rest)
        self.data = self._message.data or data  # of a field that comes twice the last one counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


class ContentService:
    """containerd.services.content.v1.Content."""

    def __init__(self, store: ContentStore, pools: Pools, exchange: Exchange) -> None:
        self._store = store
        self._pools = pools
        self._exchange = exchange
        self._documents = documents.Documents()

    def info(self, call: Call, request: content_v1.InfoRequest) -> content_v1.InfoResponse:
        _require_digest(request.digest, f"{quoted(request.digest)} failed validation")
        info = self._pools.quick(self._store.info, call.scope, request.digest)
        return content_v1.InfoResponse(info=_to_wire(info))

    async def update(self, call: Call, request: content_v1.UpdateRequest) -> content_v1.UpdateResponse:
        digest = request.info.digest
        _require_digest(digest, f"{quoted(digest)} failed validation")
        wanted = Info(digest, labels=dict(request.info.labels))
        paths = wire.mask_paths(request)
        info = await self._pools.run("content", self._store.update, call.scope, wanted, paths)
        return content_v1.UpdateResponse(info=_to_wire(info))

    async def list(
        self, call: Call, request: content_v1.ListContentRequest
    ) -> AsyncIterator[content_v1.ListContentResponse]:
        infos = await self._pools.run("content", self._store.list, call.scope, request.filters)
        for start in range(0, len(infos), _PAGE):
            page = [_to_wire(info, with_update=False) for info in infos[start : start + _PAGE]]
            yield content_v1.ListContentResponse(info=page)

    async def delete(self, call: Call, request: content_v1.DeleteContentRequest) -> wkt.Empty:
        _require_digest(request.digest, "")
        await self._pools.run("content", self._store.delete, call.scope, request.digest)
        message = events.ContentDelete(digest=request.digest)
        self._exchange.publish(call.scope.namespace, "/content/delete", wire.event(message))
        return wire.EMPTY

    def read(
        self, call: Call, request: content_v1.ReadContentRequest
    ) -> Sequence[content_v1.ReadContentResponse] | AsyncIterator[content_v1.ReadContentResponse]:
        _require_digest(request.digest, "", prefix=f"{request.digest}: ")
        document = self._documents.get(request.digest)
        if document is None:
            return self._read(call, request)
        self._pools.quick(self._store.info, call.scope, request.digest)  # the namespace has it
        offset, end = _range(request, len(document))
        if offset >= end:
            return []
        return [content_v1.ReadContentResponse(data=document[offset:end])]

    async def _read(
        self, call: Call, request: content_v1.ReadContentRequest
    ) -> AsyncIterator[content_v1.ReadContentResponse]:
        blob, data = await self._pools.run(
            "content", self._open, call.scope, request.digest, max(request.offset, 0)
        )
        try:
            offset, end = _range(request, blob.size_bytes)
            if len(data) == blob.size_bytes:
                self._documents.put(request.digest, data)
            sent = 0
            while offset < end:
                if sent or len(data) < min(_FIRST_CHUNK, end - offset):
                    data = await self._pools.run("content", blob.read, offset, min(_READ_CHUNK, end - offset))
                data = data[: end - offset]
                if not data:
                    return
                # As in containerd, offsets count from where this read began.
                yield content_v1.ReadContentResponse(offset=sent, data=data)
                sent += len(data)
                offset += len(data)
        finally:
            blob.close()

    def _open(self, scope: Scope, digest: str, offset: int) -> tuple[Blob, bytes]:
        """A blob and its first bytes in one go: most reads are of a document that fits."""
        blob = self._store.open_blob(scope, digest)
        try:
            return blob, blob.read(offset, _FIRST_CHUNK) if offset < blob.size_bytes else b""
        except BaseException:
            blob.close()
            raise

    async def status(self, call: Call, request: content_v1.StatusRequest) -> content_v1.StatusResponse:
        try:
            status = await self._pools.run("content", self._store.status, call.scope, request.ref)
        except ContainerdError as e:
            raise type(e)(f"could not get status for ref {quoted(request.ref)}: {e}") from e
        return content_v1.StatusResponse(status=_status_to_wire(status))

    async def list_statuses(
        self, call: Call, request: content_v1.ListStatusesRequest
    ) -> content_v1.ListStatusesResponse:
        found = await self._pools.run("content", self._store.list_statuses, call.scope, request.filters)
        return content_v1.ListStatusesResponse(statuses=[_status_to_wire(s) for s in found])

    async def abort(self, call: Call, request: content_v1.AbortRequest) -> wkt.Empty:
        await self._pools.run("content", self._store.abort, call.scope, request.ref)
        return wire.EMPTY

    @decoded_by(_WriteRequest)
    async def write(
        self, call: Call, requests: AsyncIterator[content_v1.WriteContentRequest]
    ) -> AsyncIterator[content_v1.WriteContentResponse]:
        first = await anext(requests, None)
        if first is None:
            raise Unknown("EOF")
        if not first.ref:
            raise InvalidArgument("first message must have a reference")
        scope = call.scope
        # The ref is locked for as long as this stream lasts.
        writer = await self._pools.run(
            "content", self._store.writer, scope, first.ref, first.total, first.expected
        )
        session = _WriteSession(self._store, scope, first.ref, writer, first.total, first.expected)
        try:
            request: Any = first
            while request is not None:
                response = await self._pools.run("content", session.handle, request)
                yield response
                if request.action == content_v1.WriteAction.COMMIT:
                    message = events.ContentCreate(digest=response.digest, size=response.offset)
                    self._exchange.publish(scope.namespace, "/content/create", wire.event(message))
                    return
                request = await anext(requests, None)
        finally:
            await self._pools.run("content", writer.close)


@dataclass(slots=True)
class _WriteSession:
    """One Write stream: each request is one blocking step."""

    store: ContentStore
    scope: Scope
    ref: str
    writer: Writer
    total_bytes: int
    expected: str
    answered: dict[str, Any] = field(default_factory=dict)

    def handle(self, request: content_v1.WriteContentRequest) -> content_v1.WriteContentResponse:
        status = self.writer.status()
        if request.expected:
            self.expected = request.expected
            self._end_if_exists(request.expected)
        if request.total > 0:
            self.total_bytes = request.total
        # As in containerd, what a STAT has answered stays in the answers that follow.
        response = self.answered
        response |= {"action": request.action, "offset": status.offset_bytes}
        if request.action == content_v1.WriteAction.STAT:
            response |= {
                "started_at": wire.timestamp(status.started_nanos),
                "updated_at": wire.timestamp(status.updated_nanos),
                "total": self.total_bytes,
            }
        elif request.action in (content_v1.WriteAction.WRITE, content_v1.WriteAction.COMMIT):
            response["offset"] = self._write(request, status)
        else:
            return content_v1.WriteContentResponse(**response)  # as in containerd: nothing was asked for
        response["digest"] = self.writer.digest()
        return content_v1.WriteContentResponse(**response)

    def _write(self, request: content_v1.WriteContentRequest, status: Status) -> int:
        """WRITE, and COMMIT with or without last bytes; the new offset."""
        offset = status.offset_bytes
        if request.offset > 0 and request.offset != offset:
            raise OutOfRange(f"write @{request.offset} must occur at current offset {offset}")
        if request.offset == 0 and offset > 0:
            self.writer.truncate()
            offset = 0
        if request.data:
            self.writer.write(request.data)
            offset += len(request.data)
        if request.action == content_v1.WriteAction.COMMIT:
            self.writer.commit(self.total_bytes, self.expected, dict(request.labels))
        return offset

    def _end_if_exists(self, expected: str) -> None:
        """AlreadyExists, with the ingest aborted, when the namespace got the blob in another way."""
        try:
            self.store.info(self.scope, expected)
        except NotFound:
            return
        self.writer.close()
        with suppress(ContainerdError):
            self.store.abort(self.scope, self.ref)
        raise AlreadyExists(f"blob with expected digest {expected} exists")


def _range(request: content_v1.ReadContentRequest, size_bytes: int) -> tuple[int, int]:
    """Where a read begins and ends; OutOfRange when it begins behind the blob."""
    offset = max(request.offset, 0)
    if offset > size_bytes:
        raise OutOfRange(f"read past object length {size_bytes} bytes")
    return offset, min(offset + request.size, size_bytes) if request.size > 0 else size_bytes


def _require_digest(value: str, message: str, *, prefix: str = "") -> None:
    """Raises InvalidArgument with `message`, or with the parser's own words behind `prefix`."""
    try:
        digests.parse(value)
    except InvalidArgument as e:
        raise InvalidArgument(message or prefix + str(e).removesuffix(": invalid argument")) from e


def _to_wire(info: Info, *, with_update: bool = True) -> content_v1.Info:
    return content_v1.Info(
        digest=info.digest,
        size=info.size_bytes,
        created_at=wire.timestamp(info.created_nanos),
        # The stock daemon's lists leave it at Go's zero time.
        updated_at=wire.timestamp(info.updated_nanos) if with_update else wire.zero_time(),
        labels=dict(info.labels),
    )


def _status_to_wire(status: Status) -> content_v1.Status:
    return content_v1.Status(
        started_at=wire.timestamp(status.started_nanos),
        updated_at=wire.timestamp(status.updated_nanos),
        ref=status.ref,
        offset=status.offset_bytes,
        total=status.total_bytes,
        expected=status.expected,
    )
