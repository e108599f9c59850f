"""gRPC on a unix socket or on TCP with TLS.

Answers equal grpc-go's: UNIMPLEMENTED as proper trailers, a receive cap that is checked before a message is buffered, no
limit on concurrent streams (a client waits for thousands of tasks on one connection).

Spec: gRPC over HTTP2 (PROTOCOL-HTTP2.md)
"""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pycontainerd.daemon.core.call import Call
from pycontainerd.daemon.server.dispatch import decode
from pycontainerd.daemon.server.errors import to_status
from pycontainerd.daemon.server.http2 import headers
from pycontainerd.daemon.server.http2.connection import Connection
from pycontainerd.daemon.server.http2.stream import Gone, Stream
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import (
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unimplemented,
)

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from pycontainerd.daemon.server.dispatch import Dispatcher, Route
    from pycontainerd.daemon.server.metrics import CallMetrics, OpenCall
    from pycontainerd.lib.log import Logger

MAX_MESSAGE_BYTES: Final = 16 << 20
_OK: Final = 0
_CANCELED: Final = 1
_PREFIX_BYTES: Final = 5  # of every message: whether it is compressed, and its length
_RESPONSE: Final = [(":status", "200"), ("content-type", "application/grpc")]
_HEADERS: Final = headers.block(_RESPONSE)
_TRAILERS_OK: Final = headers.block([("grpc-status", "0")])
_NOT_GRPC: Final = headers.block([(":status", "415")])
_UNQUOTED: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_TIMEOUT_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class GrpcServer:
    """Serves a dispatcher's routes on listening sockets."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        log: Logger,
        *,
        max_receive_bytes: int = MAX_MESSAGE_BYTES,
        max_send_bytes: int = MAX_MESSAGE_BYTES,
        metrics: CallMetrics | None = None,
    ) -> None:
        """Calls are counted only where somebody reads the numbers."""
        self.dispatcher = dispatcher
        self.log = log
        self.max_receive_bytes = max_receive_bytes
        self.max_send_bytes = max_send_bytes
        self.metrics = metrics
        self._servers: list[asyncio.AbstractServer] = []
        self._connections: set[_Connection] = set()

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serves on a bound socket, which the server owns from now on."""
        loop = asyncio.get_running_loop()
        # Not create_unix_server: from Python 3.13 on that removes a socket's file, which may be the service manager's.
        self._servers.append(await loop.create_server(lambda: _Connection(self), sock=listener, ssl=tls))

    async def close(self) -> None:
        """Stops listening, ends every call and waits for the handlers."""
        for server in self._servers:
            server.close()
        connections = tuple(self._connections)
        for connection in connections:
            connection.end()
        for connection in connections:
            await connection.drained()

    def add(self, connection: _Connection) -> None:
        """A connection was made."""
        self._connections.add(connection)

    def remove(self, connection: _Connection) -> None:
        """A connection has gone."""
        self._connections.discard(connection)


class _Connection(Connection):
    """One connection, known to its server; its calls can be waited for."""

    def __init__(self, server: GrpcServer) -> None:
        super().__init__(lambda stream: _Exchange(server, self, stream))
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.remove(self)
        super().connection_lost(exc)

    def add(self, task: asyncio.Task[None]) -> None:
        """A call that has something to wait for."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drained(self) -> None:
        """Waits for the handlers of a closed connection."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Exchange:
    """One call, from its headers to its trailers.

    A call of one message begins when that is there. What its handler answers at once goes out at once; else it is a task.
    """

    __slots__ = (
        "_connection",
        "_counted",
        "_length",
        "_sent_headers",
        "_server",
        "_stream",
        "_task",
        "_waiting",
        "path",
    )

    def __init__(self, server: GrpcServer, connection: _Connection, stream: Stream) -> None:
        self._server = server
        self._connection = connection
        self._stream = stream
        self._waiting: Route | None = None  # for the one message
        self._length = -1  # of the message whose prefix has been read
        self._sent_headers = False
        self._counted: OpenCall | None = None
        self._task: asyncio.Task[None] | None = None
        self.path = stream.headers.get(":path", "")
        server.dispatcher.enter()
        server.log.debug("grpc call", method=self.path, ns=stream.headers.get("containerd-namespace", ""))
        if not stream.headers.get("content-type", "").startswith("application/grpc"):
            self._begin(self._refuse)
            return
        try:
            self._open(server.dispatcher.lookup(self.path))
        except Unimplemented as e:
            self._begin(partial(_raise, e))

    def received(self) -> None:
        """There is more of the client's body, or its end."""
        route = self._waiting
        if route is None:
            return
        try:
            payload = self._take()
            if payload is None:
                return
            request = decode(route, payload)
        except Exception as e:  # noqa: BLE001 -- every error becomes a status
            self._waiting = None
            self._begin(partial(_raise, e))
            return
        self._waiting = None
        # In a context of its own, as a task is: the caller's trace is this call's.
        contextvars.copy_context().run(self._start, route, request)

    def gone(self) -> None:
        """The client has reset the stream, or has gone away."""
        if self._task is not None:
            self._task.cancel()
        elif self._waiting is not None:
            self._waiting = None
            self._end(_CANCELED)

    # -- beginning -----------------------------------------------------------------------------------------------------

    def _open(self, route: Route) -> None:
        """The headers are here, nothing of the body yet."""
        if self._server.metrics is not None:
            self._counted = self._server.metrics.begin(route)
        if route.method.client_streaming:
            self._begin(partial(self._exchange, route))
        else:
            self._waiting = route

    def _start(self, route: Route, request: Any) -> None:
        """The call's one message is here."""
        if not route.answers_at_once:
            self._begin(partial(self._answer, route, request))
            return
        trace.adopt_metadata(self._stream.headers)
        try:
            with trace.span("grpc", method=self.path):
                answer = route.handler(self._call(), request)
            if hasattr(answer, "__aiter__"):
                self._begin(partial(self._send_all, answer))
                return
            body = self._encode_all(answer if route.method.server_streaming else (answer,))
        except Exception as e:  # noqa: BLE001 -- every error becomes a status
            self._begin(partial(_raise, e))
            return
        if self._stream.answer(_HEADERS, body, _TRAILERS_OK):
            self._end(_OK)
        else:
            self._begin(partial(self._send_whole, body))

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        self._task = asyncio.ensure_future(self._run(work))
        self._task.add_done_callback(self._done)
        self._connection.add(self._task)

    def _call(self) -> Call:
        metadata = self._stream.headers
        return Call(metadata, metadata.get("containerd-namespace", ""), metadata.get("containerd-lease", ""))

    # -- as a task -----------------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        trace.adopt_metadata(self._stream.headers)  # this task's context only
        code = _OK
        try:
            with trace.span("grpc", method=self.path):
                try:
                    async with asyncio.timeout(parse_timeout(self._stream.headers.get("grpc-timeout", ""))):
                        await work()
                except TimeoutError:
                    code = await self._fail(DeadlineExceeded("context deadline exceeded"))
                except Gone:
                    raise
                except Exception as e:  # noqa: BLE001 -- this is where every error becomes a status
                    code = await self._fail(e)
        except Gone:
            code = _CANCELED
        except asyncio.CancelledError:
            code = _CANCELED
            raise
        finally:
            self._count(code)

    async def _answer(self, route: Route, request: Any) -> None:
        """A call of one message."""
        answer = route.handler(self._call(), request)
        if route.method.server_streaming:
            await self._send_all(answer)
            return
        body = self._encode(await answer)
        if not self._stream.answer(_HEADERS, body, _TRAILERS_OK):
            await self._send_whole(body)

    async def _exchange(self, route: Route) -> None:
        """A call of many messages."""
        await self._send_all(route.handler(self._call(), self._requests(route)))

    async def _refuse(self) -> None:
        await self._stream.finish(_NOT_GRPC)

    async def _fail(self, error: Exception) -> int:
        code, message = to_status(error, self.path, self._server.log)
        await self._finish(code, message)
        return code

    def _done(self, task: asyncio.Task[None]) -> None:
        """The task has ended; one that was cancelled before it ran has counted nothing."""
        if task.cancelled():
            self._count(_CANCELED)
        elif (error := task.exception()) is not None:
            to_status(error, self.path, self._server.log)
        self._server.dispatcher.leave()

    def _end(self, code: int) -> None:
        """The call has ended without a task."""
        self._count(code)
        self._server.dispatcher.leave()

    def _count(self, code: int) -> None:
        counted, self._counted = self._counted, None
        if counted is not None:
            counted.ended(code)

    # -- messages in ---------------------------------------------------------------------------------------------------

    def _take(self) -> bytes | None:
        """The one message of a unary call, None while it isn't all there. The cap is checked before it is buffered."""
        if self._length < 0:
            prefix = self._stream.take(_PREFIX_BYTES)
            if prefix is None:
                return None
            if not prefix:
                raise Internal("client sent no message for a unary request")
            self._length = self._checked_length(prefix)
        payload = self._stream.take(self._length)
        return None if payload is None else self._whole(payload)

    async def _requests(self, route: Route) -> AsyncIterator[Any]:
        while prefix := await self._stream.read(_PREFIX_BYTES):
            self._length = self._checked_length(prefix)
            yield decode(route, self._whole(await self._stream.read(self._length)))

    def _checked_length(self, prefix: bytes) -> int:
        if prefix[0]:
            raise Unimplemented('grpc: Decompressor is not installed for grpc-encoding "gzip"')
        length = int.from_bytes(prefix[1:], "big")
        if length > self._server.max_receive_bytes:
            raise ResourceExhausted(
                f"grpc: received message larger than max ({length} vs. {self._server.max_receive_bytes})"
            )
        return length

    def _whole(self, payload: bytes) -> bytes:
        if len(payload) != self._length:
            raise Internal("unexpected EOF")
        if self._counted is not None:
            self._counted.received()
        return payload

    # -- messages out --------------------------------------------------------------------------------------------------

    def _encode(self, response: Any) -> bytes:
        """The message with its prefix; ResourceExhausted above the cap, before any of it is sent."""
        payload: bytes = response.SerializeToString()
        limit = self._server.max_send_bytes
        if len(payload) > limit:
            raise ResourceExhausted(
                f"grpc: trying to send message larger than max ({len(payload)} vs. {limit})"
            )
        if self._counted is not None:
            self._counted.sent()
        return b"\0" + len(payload).to_bytes(4, "big") + payload

    def _encode_all(self, responses: Iterable[Any]) -> bytes:
        return b"".join(map(self._encode, responses))

    async def _send_all(self, responses: AsyncIterator[Any]) -> None:
        async for response in responses:
            await self._send(self._encode(response))
        await self._finish(_OK, "")

    async def _send_whole(self, body: bytes) -> None:
        """An answer that has no room in one write."""
        await self._send(body)
        await self._finish(_OK, "")

    async def _send(self, body: bytes) -> None:
        if not self._sent_headers:
            self._sent_headers = True
            await self._stream.send_headers(_HEADERS)
        await self._stream.send(body)

    async def _finish(self, code: int, message: str) -> None:
        """Trailers; a client that is still sending is told to stop."""
        fields = [] if self._sent_headers else list(_RESPONSE)
        fields.append(("grpc-status", str(code)))
        if message:
            fields.append(("grpc-message", quote(message, safe=_UNQUOTED)))
        await self._stream.finish(headers.block(fields))


async def _raise(error: Exception) -> None:
    raise error


def parse_timeout(value: str) -> float | None:
    """Seconds of a grpc-timeout header; None for none or a malformed one."""
    if not value:
        return None
    number, unit = value[:-1], value[-1]
    if unit not in _TIMEOUT_UNITS or not (number.isascii() and number.isdecimal()) or len(number) > 8:
        return None
    return int(number) * _TIMEOUT_UNITS[unit]
