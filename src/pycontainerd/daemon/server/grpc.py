"""gRPC on a unix socket or on TCP with TLS, over grpclib's HTTP/2 protocol.

grpclib.protocol brings flow control and stream bookkeeping; headers, framing, limits and statuses are done here, so
that answers equal grpc-go's: UNIMPLEMENTED as proper trailers, a receive cap that is checked before a message is
buffered, no limit on concurrent streams (a client waits for thousands of tasks on one connection).

Spec: gRPC over HTTP2 (PROTOCOL-HTTP2.md), RFC 9113
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import h2.config
import h2.connection
import h2.exceptions
import h2.settings
from grpclib import protocol
from grpclib.config import Configuration
from grpclib.metadata import encode_grpc_message

from pycontainerd.daemon.core.call import Call
from pycontainerd.daemon.server.dispatch import decode
from pycontainerd.daemon.server.errors import to_status
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
    from collections.abc import AsyncIterator, Callable

    from pycontainerd.daemon.server.dispatch import Dispatcher, Route
    from pycontainerd.daemon.server.metrics import CallMetrics, OpenCall
    from pycontainerd.lib.log import Logger

MAX_MESSAGE_BYTES: Final = 16 << 20
_OK: Final = 0
_CANCELED: Final = 1
_WINDOW_BYTES: Final = 4 << 20
_RESPONSE_HEADERS: Final = [(":status", "200"), ("content-type", "application/grpc")]
_TIMEOUT_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_H2_CONFIG: Final = h2.config.H2Configuration(
    client_side=False,
    header_encoding="latin-1",  # never fails on what a client sends
    validate_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_inbound_headers=False,
    normalize_outbound_headers=False,
)


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
        self._connections: set[_Protocol] = set()

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serves on a bound socket, which the server owns from now on."""
        loop = asyncio.get_running_loop()
        # Not create_unix_server: from Python 3.13 on that removes a socket's file, which may be the service manager's.
        self._servers.append(await loop.create_server(lambda: _Protocol(self), sock=listener, ssl=tls))

    async def close(self) -> None:
        """Stops listening, ends every call and waits for the handlers."""
        for server in self._servers:
            server.close()
        connections = tuple(self._connections)
        for connection in connections:
            connection.shut()
        for connection in connections:
            await connection.drained()

    def add(self, connection: _Protocol) -> None:
        """A connection was made."""
        self._connections.add(connection)

    def remove(self, connection: _Protocol) -> None:
        """A connection has gone."""
        self._connections.discard(connection)


class _Protocol(protocol.H2Protocol):
    """One connection."""

    def __init__(self, server: GrpcServer) -> None:
        self.calls = _Handler(server)
        super().__init__(
            self.calls,
            Configuration(http2_connection_window_size=_WINDOW_BYTES).__for_server__(),
            _H2_CONFIG,
        )
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        # As grpclib does it, but with settings that are right from the first frame.
        codes = h2.settings.SettingCodes
        connection = h2.connection.H2Connection(config=self.h2_config)
        connection.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: 2**31 - 1,
                codes.MAX_HEADER_LIST_SIZE: 1 << 20,
                codes.INITIAL_WINDOW_SIZE: _WINDOW_BYTES,
            },
        )
        connection.initiate_connection()
        connection.increment_flow_control_window(_WINDOW_BYTES)
        self.connection = protocol.Connection(connection, transport, config=self.config)
        self.connection.flush()
        self.connection.initialize()
        self.processor = protocol.EventsProcessor(self.handler, self.connection)
        self._transport = transport
        self._server.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.remove(self)
        super().connection_lost(exc)

    def shut(self) -> None:
        """Ends the connection and its calls."""
        self.handler.close()
        self._transport.close()

    async def drained(self) -> None:
        """Waits for the handlers of a closed connection."""
        await self.calls.drained()


class _Handler(protocol.AbstractHandler):
    """The calls of one connection."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._tasks: dict[Any, asyncio.Task[None]] = {}

    def accept(self, stream: Any, headers: list[tuple[str, str]], release_stream: Callable[[], None]) -> None:
        exchange = _Exchange(self._server, stream, headers)
        task = asyncio.ensure_future(exchange.run())
        self._tasks[stream] = task

        def done(finished: asyncio.Task[None]) -> None:
            self._tasks.pop(stream, None)
            release_stream()
            if not finished.cancelled() and (error := finished.exception()) is not None:
                to_status(error, exchange.path, self._server.log)

        task.add_done_callback(done)

    def cancel(self, stream: Any) -> None:
        task = self._tasks.get(stream)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for task in tuple(self._tasks.values()):
            task.cancel()

    async def drained(self) -> None:
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


class _Exchange:
    """One call, from its headers to its trailers."""

    __slots__ = ("_counted", "_headers_sent", "_server", "_stream", "metadata", "path")

    def __init__(self, server: GrpcServer, stream: Any, headers: list[tuple[str, str]]) -> None:
        self._server = server
        self._stream = stream
        self._headers_sent = False
        self._counted: OpenCall | None = None
        self.metadata = dict(headers)
        self.path = self.metadata.get(":path", "")

    async def run(self) -> None:
        dispatcher = self._server.dispatcher
        dispatcher.enter()
        self._server.log.debug(
            "grpc call", method=self.path, ns=self.metadata.get("containerd-namespace", "")
        )
        trace.adopt_metadata(self.metadata)  # this task's context only
        try:
            with trace.span("grpc", method=self.path):
                await self._run()
        except h2.exceptions.ProtocolError:
            return  # the client reset the stream or went away while we answered
        finally:
            dispatcher.leave()

    async def _run(self) -> None:
        if not self.metadata.get("content-type", "").startswith("application/grpc"):
            await self._stream.send_headers([(":status", "415")], end_stream=True)
            return
        try:
            route = self._server.dispatcher.lookup(self.path)
            if self._server.metrics is not None:
                self._counted = self._server.metrics.begin(route)
            async with asyncio.timeout(parse_timeout(self.metadata.get("grpc-timeout", ""))):
                await self._answer(route)
            self._count(_OK)
            return
        except h2.exceptions.ProtocolError:
            self._count(_CANCELED)
            raise
        except asyncio.CancelledError:
            self._count(_CANCELED)
            raise
        except TimeoutError:
            error: BaseException = DeadlineExceeded("context deadline exceeded")
        except Exception as e:  # noqa: BLE001 -- this is where every error becomes a status
            error = e
        code, message = to_status(error, self.path, self._server.log)
        self._count(code)
        await self._finish(code, message)

    def _count(self, code: int) -> None:
        """The call has ended."""
        if self._counted is not None:
            self._counted.ended(code)

    async def _answer(self, route: Route) -> None:
        metadata = self.metadata
        call = Call(metadata, metadata.get("containerd-namespace", ""), metadata.get("containerd-lease", ""))
        method = route.method
        if method.client_streaming:
            responses = route.handler(call, self._requests(route))
        else:
            payload = await self._receive()
            if payload is None:
                raise Internal("client sent no message for a unary request")
            request = decode(route, payload)
            if not method.server_streaming:
                response = await route.handler(call, request)
                await self._respond(self._encode(response))
                return
            responses = route.handler(call, request)
        async for response in responses:
            await self._send(self._encode(response))
        await self._finish(0, "")

    def _encode(self, response: Any) -> bytes:
        """The message's bytes; ResourceExhausted above the cap, before any of them is sent."""
        payload: bytes = response.SerializeToString()
        limit = self._server.max_send_bytes
        if len(payload) > limit:
            raise ResourceExhausted(
                f"grpc: trying to send message larger than max ({len(payload)} vs. {limit})"
            )
        if self._counted is not None:
            self._counted.sent()
        return payload

    async def _requests(self, route: Route) -> AsyncIterator[Any]:
        while (payload := await self._receive()) is not None:
            yield decode(route, payload)

    async def _receive(self) -> bytes | None:
        """The next message, None when the client has sent all. The cap is checked before anything is buffered."""
        prefix: bytes = await self._stream.recv_data(5)
        if not prefix:
            return None
        if prefix[0]:
            raise Unimplemented('grpc: Decompressor is not installed for grpc-encoding "gzip"')
        length = int.from_bytes(prefix[1:], "big")
        if length > self._server.max_receive_bytes:
            raise ResourceExhausted(
                f"grpc: received message larger than max ({length} vs. {self._server.max_receive_bytes})"
            )
        payload: bytes = await self._stream.recv_data(length)
        if self._counted is not None:
            self._counted.received()
        return payload

    async def _respond(self, payload: bytes) -> None:
        """Headers, the one message and trailers, in one write when they fit."""
        stream = self._stream
        h2_connection = stream._h2_connection  # noqa: SLF001 -- grpclib writes three times otherwise
        frame = b"\0" + len(payload).to_bytes(4, "big") + payload
        room = min(h2_connection.max_outbound_frame_size, h2_connection.outbound_flow_control_window)
        if len(frame) > room or not stream.connection.write_ready.is_set():
            await self._send(payload)
            await self._finish(0, "")
            return
        if stream.id not in h2_connection.streams:
            return  # reset meanwhile
        if h2_connection.local_flow_control_window(stream.id) < len(frame):
            await self._send(payload)
            await self._finish(0, "")
            return
        h2_connection.send_headers(stream.id, _RESPONSE_HEADERS)
        h2_connection.send_data(stream.id, frame)
        h2_connection.send_headers(stream.id, [("grpc-status", "0")], end_stream=True)
        stream.connection.flush()

    async def _send(self, payload: bytes) -> None:
        if not self._headers_sent:
            self._headers_sent = True
            await self._stream.send_headers(_RESPONSE_HEADERS)
        await self._stream.send_data(b"\0" + len(payload).to_bytes(4, "big") + payload)

    async def _finish(self, code: int, message: str) -> None:
        """Trailers; a client that is still sending is told to stop."""
        headers = [] if self._headers_sent else list(_RESPONSE_HEADERS)
        headers.append(("grpc-status", str(code)))
        if message:
            headers.append(("grpc-message", encode_grpc_message(message)))
        await self._stream.send_headers(headers, end_stream=True)
        if self._stream.closable:
            self._stream.reset_nowait()


def parse_timeout(value: str) -> float | None:
    """Seconds of a grpc-timeout header; None for none or a malformed one."""
    if not value:
        return None
    number, unit = value[:-1], value[-1]
    if unit not in _TIMEOUT_UNITS or not (number.isascii() and number.isdecimal()) or len(number) > 8:
        return None
    return int(number) * _TIMEOUT_UNITS[unit]
