"""Transfer: pull, push, import, export and tag by the daemon; source and destination say which."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.services import wire
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.full import transfer_types, transfer_v1, wkt
from pycontainerd.lib.errdefs import Unimplemented

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.streams import Stream, StreamManager
    from pycontainerd.daemon.core.transfer import Job, Transferrer

_MAX_AT_ONCE: Final = 8
_ENDS: Final = (
    transfer_types.OCIRegistry,
    transfer_types.ImageStore,
    transfer_types.ImageImportStream,
    transfer_types.ImageExportStream,
)


class TransferService:
    """containerd.services.transfer.v1.Transfer. `transferrer` makes the jobs, which run in a thread each."""

    def __init__(self, streams: StreamManager, transferrer: Transferrer, pools: Pools) -> None:
        self._streams = streams
        self._transferrer = transferrer
        self._pools = pools
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)

    async def transfer(self, call: Call, request: transfer_v1.TransferRequest) -> wkt.Empty:
        scope = call.scope
        source, destination = _end(request.source), _end(request.destination)
        progress_name = request.options.progress_stream
        progress = self._streams.get(scope.namespace, progress_name) if progress_name else None
        streams: dict[str, Stream] = {}
        try:
            names = {name for end in (source, destination) for name in _stream_names(end)}
            streams = {name: self._streams.get(scope.namespace, name) for name in names}
            job = self._transferrer.job(scope, source, destination, streams, _reporter(progress))
            if job is None:
                raise Unimplemented(
                    "method Transfer not implemented for "
                    f"{request.source.type_url} to {request.destination.type_url}"
                )
            await self._run(job)
        finally:
            for stream in (progress, *streams.values()):
                if stream is not None:
                    stream.close()
        return wire.EMPTY

    async def _run(self, job: Job) -> None:
        try:
            async with self._slots:
                await self._pools.run_apart("transfer", job.run)
        except asyncio.CancelledError:
            job.cancel()  # the client left: what is under way ends with its next step
            raise


def _end(value: wkt.Any) -> Any:
    """The message in a source or destination; None for a type that is none."""
    for message in _ENDS:
        if anys.is_type(value, message):
            return message.FromString(value.value)
    return None


def _stream_names(end: Any) -> list[str]:
    if isinstance(end, transfer_types.ImageImportStream | transfer_types.ImageExportStream):
        return [end.stream]
    if isinstance(end, transfer_types.OCIRegistry):
        resolver = end.resolver
        logs = resolver.logs_stream if resolver.http_debug != transfer_types.HTTPDebug.DISABLED else ""
        return [name for name in (resolver.auth_stream, logs) if name]
    return []


def _reporter(stream: Stream | None) -> Callable[[Any], None]:
    """Sends Progress messages to the stream; to nobody without one."""
    if stream is None:
        return lambda _: None
    return lambda message: stream.send(wire.event(message))
