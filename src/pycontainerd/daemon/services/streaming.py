"""Streaming: opens a stream that another request then uses by its name."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.full import streaming_v1, wkt
from pycontainerd.lib.errdefs import Canceled, ContainerdError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.streams import Stream, StreamManager


class StreamingService:
    """containerd.services.streaming.v1.Streaming."""

    def __init__(self, streams: StreamManager) -> None:
        self._streams = streams

    async def stream(self, call: Call, requests: AsyncIterator[wkt.Any]) -> AsyncIterator[wkt.Any]:
        """The first message is a StreamInit; it is answered once the stream can be found by its name."""
        namespace = call.scope.namespace
        first = await anext(requests, None)
        if first is None:
            raise Canceled("EOF")
        if not anys.is_type(first, streaming_v1.StreamInit):
            raise InvalidArgument(f"the first message of a stream is a StreamInit, not {first.type_url}")
        name = streaming_v1.StreamInit.FromString(first.value).id
        stream = self._streams.register(namespace, name)
        reader = asyncio.ensure_future(_feed(stream, requests))
        try:
            yield wire.packed(wkt.Empty())
            while (message := await stream.outgoing()) is not None:
                yield wkt.Any(type_url=message.type_url, value=message.value)
        finally:
            self._streams.forget(namespace, name)
            stream.abandon()
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader


async def _feed(stream: Stream, requests: AsyncIterator[wkt.Any]) -> None:
    try:
        async for message in requests:
            await stream.feed(TypedValue(message.type_url, message.value))
    except ContainerdError:
        stream.abandon()  # what came was no message
        return
    stream.feed_end()
