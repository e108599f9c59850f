"""What asyncio clients and servers of ttrpc share: inboxes, write backpressure, pausing of reads.

A reader that lags behind makes its whole connection wait, as in the Go implementation: memory stays bounded.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pycontainerd.lib.ttrpc.connection import ClientConnection, ServerConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainerd.lib import errdefs

_Connection = TypeVar("_Connection", ClientConnection, ServerConnection)

_READ_SIZE: Final = 256 << 10
_QUEUE_HIGH: Final = 16  # messages a handler may lag behind before its connection is no longer read


class Inbox:
    """Messages that wait for a reader, with an end and perhaps an error."""

    def __init__(self, on_low: Callable[[], None]) -> None:
        self._messages: deque[bytes] = deque()
        self._ended = False
        self._error: errdefs.ContainerdError | None = None
        self._wake = asyncio.Event()
        self._on_low = on_low

    @property
    def is_full(self) -> bool:
        """Whether the peer should be made to wait."""
        return len(self._messages) >= _QUEUE_HIGH

    def put(self, payload: bytes) -> None:
        """Adds a message."""
        self._messages.append(payload)
        self._wake.set()

    def end(self, error: errdefs.ContainerdError | None = None) -> None:
        """No more messages; the first end counts."""
        if not self._ended:
            self._ended, self._error = True, error
        self._wake.set()

    async def get(self) -> bytes | None:
        """The next message, or None at the end; raises the error it ended with."""
        while not self._messages and not self._ended:
            self._wake.clear()
            await self._wake.wait()
        if self._messages:
            message = self._messages.popleft()
            if len(self._messages) == _QUEUE_HIGH - 1:
                self._on_low()
            return message
        if self._error is not None:
            raise self._error
        return None


class _Room(threading.local):
    """Where a loop's thread receives: what has arrived is taken from there before it waits again."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_READ_SIZE))


_room = _Room()


class Transport(asyncio.BufferedProtocol, Generic[_Connection]):
    """What both ends share: input, output, write backpressure, and pausing of reads while an inbox is full."""

    _connection: _Connection

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._inboxes: dict[int, Inbox] = {}
        self._paused = False
        self._is_direct = False  # what is received next goes where it belongs

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        room = self._connection.room()
        self._is_direct = room is not None
        return _room.view if room is None else room

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_direct:
            self.take(self._connection.received(nbytes))
        else:
            self.take(self._connection.receive(_room.view[:nbytes]))

    def take(self, events: list[Any]) -> None:
        """Takes what has come of it."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _pause_if_full(self) -> None:
        if (
            not self._paused
            and self._transport is not None
            and any(i.is_full for i in self._inboxes.values())
        ):
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if (
            self._paused
            and self._transport is not None
            and not any(i.is_full for i in self._inboxes.values())
        ):
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Closes the connection after what is queued has been sent."""
        if self._transport is not None:
            self._transport.close()
