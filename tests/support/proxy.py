"""A small snapshotter and a small content store on a gRPC socket, as third parties make them: for ours and for the real daemon."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from pycontainerd.daemon.core.snapshots import Info, Kind
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import content_v1, snapshots_v1, wkt
from pycontainerd.lib.errdefs import AlreadyExists, ContainerdError, OutOfRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainerd.daemon.core.content import Backend
    from pycontainerd.daemon.core.snapshots import Snapshotter

_CODES = {code.value[0]: code for code in grpc.StatusCode}
REF = "containerd.io/snapshot.ref"


class SnapshotterPlugin:
    """containerd.services.snapshots.v1.Snapshots over a backend. `remote`: targets it has already (chain ids)."""

    def __init__(self, backend: Snapshotter, remote: tuple[str, ...] = ()) -> None:
        self._backend = backend
        self._remote = remote
        self.calls: list[tuple[str, str]] = []

    def prepare(self, request: Any) -> Any:
        target = request.labels.get(REF, "")
        if target in self._remote:
            self._backend.prepare(request.key, request.parent, dict(request.labels))
            self._backend.commit(f"remote-{target}", request.key, dict(request.labels))
            raise AlreadyExists(f"target snapshot {target}: already exists")
        mounts = self._backend.prepare(request.key, request.parent, dict(request.labels))
        return snapshots_v1.PrepareSnapshotResponse(mounts=wire.mounts(mounts))

    def view(self, request: Any) -> Any:
        mounts = self._backend.view(request.key, request.parent, dict(request.labels))
        return snapshots_v1.ViewSnapshotResponse(mounts=wire.mounts(mounts))

    def mounts(self, request: Any) -> Any:
        return snapshots_v1.MountsResponse(mounts=wire.mounts(self._backend.mounts(request.key)))

    def commit(self, request: Any) -> Any:
        self._backend.commit(request.name, request.key, dict(request.labels), None, request.parent)
        return wkt.Empty()

    def remove(self, request: Any) -> Any:
        self._backend.remove(request.key)
        return wkt.Empty()

    def stat(self, request: Any) -> Any:
        return snapshots_v1.StatSnapshotResponse(info=_snapshot(self._backend.stat(request.key)))

    def update(self, request: Any) -> Any:
        info = Info(request.info.name, labels=dict(request.info.labels))
        updated = self._backend.update(info, list(request.update_mask.paths))
        return snapshots_v1.UpdateSnapshotResponse(info=_snapshot(updated))

    def usage(self, request: Any) -> Any:
        usage = self._backend.usage(request.key)
        return snapshots_v1.UsageResponse(size=usage.size_bytes, inodes=usage.inodes)

    def list(self, request: Any) -> Iterator[Any]:
        del request
        for info in self._backend.walk():
            yield snapshots_v1.ListSnapshotsResponse(info=[_snapshot(info)])

    def cleanup(self, request: Any) -> Any:
        del request
        self._backend.cleanup()
        return wkt.Empty()


class ContentPlugin:
    """containerd.services.content.v1.Content over a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.calls: list[tuple[str, str]] = []

    def info(self, request: Any) -> Any:
        return content_v1.InfoResponse(info=_content(self._backend.info(request.digest)))

    def list(self, request: Any) -> Iterator[Any]:
        del request
        yield content_v1.ListContentResponse(info=[_content(info) for info in self._backend.walk()])

    def delete(self, request: Any) -> Any:
        self._backend.delete(request.digest)
        return wkt.Empty()

    def read(self, request: Any) -> Iterator[Any]:
        blob = self._backend.open_blob(request.digest)
        try:
            length = request.size or blob.size_bytes - request.offset
            yield content_v1.ReadContentResponse(data=blob.read(request.offset, length))
        finally:
            blob.close()

    def status(self, request: Any) -> Any:
        return content_v1.StatusResponse(status=_ingest(self._backend.status(request.ref)))

    def list_statuses(self, request: Any) -> Any:
        del request
        found = [self._backend.status(ref) for ref in self._backend.refs()]
        return content_v1.ListStatusesResponse(statuses=[_ingest(status) for status in found])

    def abort(self, request: Any) -> Any:
        self._backend.abort(request.ref)
        return wkt.Empty()

    def write(self, requests: Iterator[Any]) -> Iterator[Any]:
        first = next(requests)
        writer = self._backend.writer(first.ref, first.total, first.expected)
        try:
            yield self._step(writer, first, first)
            for request in requests:
                yield self._step(writer, request, first)
        finally:
            writer.close()

    def _step(self, writer: Any, request: Any, first: Any) -> Any:
        offset = writer.status().offset_bytes
        if request.action != content_v1.WriteAction.STAT:
            if request.offset not in (0, offset):
                raise OutOfRange(f"write @{request.offset} must occur at current offset {offset}")
            if request.offset == 0 and offset:
                writer.truncate()
            if request.data:
                writer.write(request.data)
            if request.action == content_v1.WriteAction.COMMIT:
                writer.commit(request.total, request.expected or first.expected, {})
        status = writer.status()
        return content_v1.WriteContentResponse(
            action=request.action,
            started_at=wire.timestamp(status.started_nanos),
            updated_at=wire.timestamp(status.updated_nanos),
            offset=status.offset_bytes,
            total=status.total_bytes,
            digest=writer.digest(),
        )


@contextmanager
def serve(path: str, service: Any, plugin: Any) -> Iterator[None]:
    """A grpcio server for a plugin; `plugin.calls` lists (method, namespace) of every call."""
    server = grpc.server(ThreadPoolExecutor(16))
    handlers = {method.name: _handler(method, plugin) for method in service.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.name, handlers),))
    assert server.add_insecure_port(f"unix://{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()


def _handler(method: Any, plugin: Any) -> Any:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", method.name).lower()

    def guarded(request: Any, context: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        plugin.calls.append((method.name, metadata.get("containerd-namespace", "")))
        function = getattr(plugin, name, None)
        if function is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no method {method.name}")
            raise AssertionError("abort raises")
        try:
            return function(request)
        except ContainerdError as e:
            context.abort(_CODES[e.code], str(e))

    def streamed(request: Any, context: Any) -> Iterator[Any]:
        try:
            yield from guarded(request, context)
        except ContainerdError as e:
            context.abort(_CODES[e.code], str(e))

    kinds = {
        (False, False): (grpc.unary_unary_rpc_method_handler, guarded),
        (False, True): (grpc.unary_stream_rpc_method_handler, streamed),
        (True, True): (grpc.stream_stream_rpc_method_handler, streamed),
    }
    make, function = kinds[method.client_streaming, method.server_streaming]
    return make(function, method.request.FromString, lambda message: message.SerializeToString())


def _snapshot(info: Info) -> Any:
    kind = {Kind.VIEW: 1, Kind.ACTIVE: 2, Kind.COMMITTED: 3}[info.kind]
    return snapshots_v1.Info(
        name=info.name,
        parent=info.parent,
        kind=kind,
        created_at=wire.timestamp(info.created_nanos),
        updated_at=wire.timestamp(info.updated_nanos),
        labels=dict(info.labels),
    )


def _content(info: Any) -> Any:
    times = {
        "created_at": wire.timestamp(info.created_nanos),
        "updated_at": wire.timestamp(info.updated_nanos),
    }
    return content_v1.Info(digest=info.digest, size=info.size_bytes, labels=dict(info.labels), **times)


def _ingest(status: Any) -> Any:
    return content_v1.Status(
        ref=status.ref,
        offset=status.offset_bytes,
        total=status.total_bytes,
        started_at=wire.timestamp(status.started_nanos),
        updated_at=wire.timestamp(status.updated_nanos),
    )
