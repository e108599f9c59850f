"""One stream: what the client has sent of its body, and what goes back to it within its windows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from pycontainerd.daemon.server.http2 import frames
from pycontainerd.lib.errdefs import Internal

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW_BYTES: Final = 4 << 20
_WRITE_BYTES: Final = 256 << 10


class Gone(Exception):
    """The client has reset the stream or has gone away: nobody reads an answer."""


class Call(Protocol):
    """What answers a stream, as the connection sees it."""

    def received(self) -> None:
        """More of the body, or its end, is there."""

    def gone(self) -> None:
        """The stream has ended early."""


class Port(Protocol):
    """What a stream needs of its connection."""

    send_window: int
    max_frame_bytes: int
    is_writable: bool

    def write(self, data: bytes) -> None: ...
    def head(self, block: bytes) -> bytes: ...
    def unread(self, size: int) -> None: ...
    def wait(self, stream: Stream) -> None: ...
    def ended(self, stream: Stream) -> None: ...
    def reset(self, stream: Stream, code: int) -> None: ...


class Stream:
    """A call's two directions. Reading grants the client as much again to send."""

    __slots__ = (
        "_body",
        "_granted",
        "_owed",
        "_port",
        "_readable",
        "_sendable",
        "_wanted",
        "answered",
        "call",
        "closed",
        "headers",
        "id",
        "receive_window",
        "received_all",
        "send_window",
    )

    def __init__(self, port: Port, id: int, headers: Mapping[str, str], send_window: int) -> None:
        self.id = id
        self.headers = headers
        self.call: Call | None = None
        self.received_all = False  # the client has ended its half
        self.answered = False  # ours has ended
        self.closed = False  # nothing more goes either way
        self.send_window = send_window
        self.receive_window = WINDOW_BYTES
        self._port = port
        self._body = bytearray()
        self._granted = 0  # bytes at the body's head that the client may already send again
        self._owed = 0  # granted, but not told yet
        self._wanted = 0
        self._readable: asyncio.Future[None] | None = None
        self._sendable: asyncio.Future[None] | None = None

    # -- from the client -----------------------------------------------------------------------------------------------

    def take(self, size: int) -> bytes | None:
        """The next `size` bytes when all of them are there; b"" at the end of the body, None while they aren't.

        Raises Internal when they will never be.
        """
        body = self._body
        if len(body) >= size:
            data = bytes(body[:size])
            del body[:size]
            self._grant(size)
            self._granted -= size
            self._wanted = 0
            self._port.unread(-size)
            return data
        if not self.received_all:
            # A message may be larger than the window: what is waited for is granted as it comes.
            self._wanted = size
            self._grant(len(body))
            return None
        if body:
            raise Internal("unexpected EOF")
        return b""

    async def read(self, size: int) -> bytes:
        """As `take`, but waits. Raises Gone, too."""
        while (data := self.take(size)) is None:
            if self.closed:
                raise Gone
            self._readable = asyncio.get_running_loop().create_future()
            await self._readable
        return data

    def feed(self, data: bytes, *, padding_bytes: int, is_last: bool) -> None:
        """A DATA frame's payload, whose size the connection has already taken off the window."""
        self._body += data
        self._port.unread(len(data))
        self.received_all = is_last
        self._owed += padding_bytes
        self._grant(min(len(self._body), self._wanted))
        self.wake_reader()

    def _grant(self, size: int) -> None:
        """The first `size` bytes of the body count as read."""
        if size > self._granted:
            self._owed += size - self._granted
            self._granted = size
        if self._owed >= WINDOW_BYTES // 2 and not self.received_all and not self.closed:
            self._port.write(frames.frame(frames.WINDOW_UPDATE, 0, self.id, self._owed.to_bytes(4, "big")))
            self.receive_window += self._owed
            self._owed = 0

    # -- to the client -------------------------------------------------------------------------------------------------

    def answer(self, headers: bytes, body: bytes, trailers: bytes) -> bool:
        """A whole answer in one write; False, and nothing sent, when there isn't room for it at once."""
        port = self._port
        size = len(body)
        if size > min(self.send_window, port.send_window, port.max_frame_bytes) or not port.is_writable:
            return False
        if self.closed:
            raise Gone
        self.send_window -= size
        port.send_window -= size
        pack, id = frames.HEAD.pack, self.id
        head = port.head(headers)
        port.write(
            b"".join(
                (
                    pack(len(head) << 8 | frames.HEADERS, frames.END_HEADERS, id),
                    head,
                    pack(size << 8 | frames.DATA, 0, id),
                    body,
                    pack(len(trailers) << 8 | frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, id),
                    trailers,
                )
            )
        )
        self._end()
        return True

    async def send_headers(self, block: bytes) -> None:
        """A block that isn't the last of the stream."""
        await self._room(body=False)
        block = self._port.head(block)
        self._port.write(frames.frame(frames.HEADERS, frames.END_HEADERS, self.id, block))

    async def send(self, data: bytes) -> None:
        """A piece of the body; waits while the client has no room for it."""
        at, end = 0, len(data)
        while at < end:
            await self._room(body=True)
            at = self._send_some(data, at)

    def _send_some(self, data: bytes, at: int) -> int:
        """As many frames as the windows let through now, and one write can take; where the rest begins."""
        port = self._port
        parts: list[bytes] = []
        stop = at + min(self.send_window, port.send_window, len(data) - at, _WRITE_BYTES)
        size = stop - at
        while at < stop:
            step = min(port.max_frame_bytes, stop - at)
            parts += (frames.HEAD.pack(step << 8 | frames.DATA, 0, self.id), data[at : at + step])
            at += step
        self.send_window -= size
        port.send_window -= size
        port.write(b"".join(parts))
        return at

    async def finish(self, block: bytes) -> None:
        """The last block. A client that is still sending is told to stop."""
        await self._room(body=False)
        block = self._port.head(block)
        self._port.write(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, self.id, block))
        self._end()
        if not self.received_all:
            self._port.reset(self, frames.NO_ERROR)

    def _end(self) -> None:
        self.answered = True
        self._port.ended(self)

    async def _room(self, *, body: bool) -> None:
        """Waits until something can be sent. Raises Gone."""
        port = self._port
        while not self.closed and (
            not port.is_writable or (body and (self.send_window <= 0 or port.send_window <= 0))
        ):
            self._sendable = asyncio.get_running_loop().create_future()
            port.wait(self)
            await self._sendable
        if self.closed:
            raise Gone

    # -- from the connection -------------------------------------------------------------------------------------------

    def wake_reader(self) -> None:
        """Somebody who waits for the body looks again."""
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def wake_sender(self) -> None:
        """Somebody who waits for room looks again."""
        if self._sendable is not None and not self._sendable.done():
            self._sendable.set_result(None)

    def close(self) -> None:
        """Nothing more goes either way; who waits is told."""
        self.closed = True
        self._port.unread(-len(self._body))
        self._body.clear()
        self.wake_reader()
        self.wake_sender()
