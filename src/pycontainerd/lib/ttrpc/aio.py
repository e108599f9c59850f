"""asyncio client and server of ttrpc, for the daemon.

A handler is `async (call, payload) -> bytes`; a streaming one is `async (call, stream) -> bytes | None`, whose bytes are
the answer when only the client streams. What it raises becomes the status. A connection that goes away cancels the
handlers of its calls, as a client's cancelled context does.

Spec: ttrpc PROTOCOL.md
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import struct

from pycontainerd.lib import errdefs
from pycontainerd.lib.ttrpc.address import socket_path
from pycontainerd.lib.ttrpc.aio_transport import Inbox, Transport
from pycontainerd.lib.ttrpc.client import Closed, with_trace
from pycontainerd.lib.ttrpc.connection import (
    ClientConnection,
    DataEvent,
    RequestEvent,
    ResponseEvent,
    ServerConnection,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from typing import Final

    from pycontainerd.lib.ttrpc.connection import ClientEvent, ServerEvent

_NO_METADATA: Final[dict[str, str]] = {}


class Peer:
    """Who is at the other end of a unix socket (SO_PEERCRED)."""

    __slots__ = ("gid", "pid", "uid")

    def __init__(self, pid: int, uid: int, gid: int) -> None:
        self.pid = pid
        self.uid = uid
        self.gid = gid


class Call:
    """What a handler knows about the request besides its payload. `timeout_s` is 0 when the client set none."""

    __slots__ = ("metadata", "method", "peer", "service", "timeout_s")

    def __init__(
        self, service: str, method: str, metadata: dict[str, str], timeout_s: float, peer: Peer
    ) -> None:
        self.service = service
        self.method = method
        self.metadata = metadata
        self.timeout_s = timeout_s
        self.peer = peer


class ServerStream:
    """A handler's end of a stream."""

    def __init__(self, connection: _ServerProtocol, stream_id: int, inbox: Inbox) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._inbox = inbox

    async def receive(self) -> bytes | None:
        """The client's next message, None when it sends no more."""
        return await self._inbox.get()

    async def send(self, payload: bytes) -> None:
        """Sends a message, waiting while the connection is full. Raises ResourceExhausted over 4 MiB."""
        await self._connection.send_data(self._stream_id, payload)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self.receive()) is not None:
            yield message


class _Method:
    __slots__ = ("client_streaming", "quick", "server_streaming", "stream", "unary")

    def __init__(
        self,
        unary: Callable[[Call, bytes], Awaitable[bytes]] | None = None,
        stream: Callable[[Call, ServerStream], Awaitable[bytes | None]] | None = None,
        client_streaming: bool = False,
        server_streaming: bool = False,
        quick: Callable[[Call, bytes], bytes] | None = None,
    ) -> None:
        self.unary = unary
        self.quick = quick
        self.stream = stream
        self.client_streaming = client_streaming
        self.server_streaming = server_streaming


class Server:
    """Serves registered methods on listening unix sockets.

    `authorize(peer)` decides at accept whether a connection is kept; without one everybody who may connect is served.
    """

    def __init__(
        self,
        *,
        authorize: Callable[[Peer], bool] | None = None,
        on_error: Callable[[Call, BaseException], None] | None = None,
    ) -> None:
        self._services: dict[str, dict[str, _Method]] = {}
        self._authorize = authorize
        self._on_error = on_error
        self._servers: list[asyncio.AbstractServer] = []
        self._connections: set[_ServerProtocol] = set()

    def register(self, service: str, method: str, handler: Callable[[Call, bytes], Awaitable[bytes]]) -> None:
        """Adds a unary method."""
        self._services.setdefault(service, {})[method] = _Method(handler)

    def register_quick(self, service: str, method: str, handler: Callable[[Call, bytes], bytes]) -> None:
        """Adds a unary method that has nothing to wait for; it runs in a context of its own, but in no task."""
        self._services.setdefault(service, {})[method] = _Method(quick=handler)

    def register_stream(
        self,
        service: str,
        method: str,
        handler: Callable[[Call, ServerStream], Awaitable[bytes | None]],
        *,
        client_streaming: bool,
        server_streaming: bool,
    ) -> None:
        """Adds a streaming method."""
        self._services.setdefault(service, {})[method] = _Method(
            None, handler, client_streaming, server_streaming
        )

    async def listen(self, listener: socket.socket) -> None:
        """Serves on a bound unix socket, which the server owns from now on."""
        loop = asyncio.get_running_loop()
        # Not create_unix_server: from Python 3.13 on that removes a socket's file, which may be the service manager's.
        self._servers.append(await loop.create_server(lambda: _ServerProtocol(self), sock=listener))

    async def close(self) -> None:
        """Stops listening, closes every connection and waits for their handlers."""
        for server in self._servers:
            server.close()
        connections = tuple(self._connections)
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.drained()

    def lookup(self, service: str, method: str) -> _Method:
        """Raises Unimplemented in the words of the Go server."""
        methods = self._services.get(service)
        if methods is None:
            raise errdefs.Unimplemented(f"service {service}")
        if method not in methods:
            raise errdefs.Unimplemented(f"method {method}")
        return methods[method]

    def admit(self, connection: _ServerProtocol, peer: Peer) -> bool:
        """Counts a new connection in, or refuses it."""
        if self._authorize is not None and not self._authorize(peer):
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: _ServerProtocol) -> None:
        """A connection has ended."""
        self._connections.discard(connection)

    def report(self, call: Call, error: BaseException) -> None:
        """Tells the owner about an error that has no place in errdefs, which is a bug somewhere."""
        if self._on_error is not None and not isinstance(error, errdefs.ContainerdError):
            self._on_error(call, error)


class _ServerProtocol(Transport[ServerConnection]):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._connection = ServerConnection()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._peer = Peer(0, 0, 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self._peer = Peer(*struct.unpack("3i", raw))
        if not self._server.admit(self, self._peer):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.forget(self)
        self._writable.set()
        for task in self._tasks.values():
            task.cancel()

    async def drained(self) -> None:
        """Waits until the handlers of a closed connection have returned."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def take(self, events: list[ServerEvent]) -> None:
        for event in events:
            if isinstance(event, RequestEvent):
                self._begin(event)
            elif (inbox := self._inboxes.get(event.stream_id)) is not None:
                if isinstance(event, DataEvent):
                    inbox.put(event.payload)
                else:
                    inbox.end()
        self._pause_if_full()
        self._write(self._connection.take_output())

    async def send_data(self, stream_id: int, payload: bytes) -> None:
        """One message to the client."""
        await self._writable.wait()
        self._connection.send_data(stream_id, payload)
        self._write(self._connection.take_output())

    def _begin(self, event: RequestEvent) -> None:
        request = event.request
        try:
            method = self._server.lookup(request.service, request.method)
        except errdefs.Unimplemented as e:
            self._connection.fail(event.stream_id, e)
            return
        timeout_s = max(request.timeout_nanos, 0) / 1e9
        call = Call(request.service, request.method, request.metadata, timeout_s, self._peer)
        if method.quick is not None:
            self._answer(event.stream_id, method.quick, call, request.payload)
            return
        inbox = Inbox(self._resume)
        if method.stream is not None:
            # A payload on a client stream is its first message; on a server stream it is the only one.
            if request.payload or not method.client_streaming:
                inbox.put(request.payload)
            if not event.client_streaming:
                inbox.end()
            self._inboxes[event.stream_id] = inbox
        task = asyncio.ensure_future(self._run(event.stream_id, method, call, request.payload, inbox))
        self._tasks[event.stream_id] = task

    def _answer(
        self, stream_id: int, handler: Callable[[Call, bytes], bytes], call: Call, payload: bytes
    ) -> None:
        try:
            answer = contextvars.copy_context().run(handler, call, payload)
            self._connection.respond(stream_id, answer)
        except Exception as e:  # noqa: BLE001 - as in _run
            self._server.report(call, e)
            self._connection.fail(stream_id, e)

    async def _run(self, stream_id: int, method: _Method, call: Call, payload: bytes, inbox: Inbox) -> None:
        try:
            async with asyncio.timeout(call.timeout_s or None):
                answer = await self._invoke(stream_id, method, call, payload, inbox)
            if method.server_streaming:
                self._connection.close(stream_id)
            else:
                self._connection.respond(stream_id, answer or b"")
        except asyncio.CancelledError:
            self._connection.fail(stream_id, errdefs.Canceled())
            raise
        except TimeoutError:
            self._connection.fail(stream_id, errdefs.DeadlineExceeded())
        except Exception as e:  # noqa: BLE001 - the one translator of this edge: every error becomes a status
            self._server.report(call, e)
            self._connection.fail(stream_id, e)
        finally:
            self._tasks.pop(stream_id, None)
            self._inboxes.pop(stream_id, None)
            self._resume()
            self._write(self._connection.take_output())

    async def _invoke(
        self, stream_id: int, method: _Method, call: Call, payload: bytes, inbox: Inbox
    ) -> bytes | None:
        if method.unary is not None:
            return await method.unary(call, payload)
        assert method.stream is not None
        return await method.stream(call, ServerStream(self, stream_id, inbox))


class ClientStream:
    """The caller's end of a streaming call."""

    def __init__(self, client: Client, stream_id: int, inbox: Inbox) -> None:
        self._client = client
        self._stream_id = stream_id
        self._inbox = inbox

    async def receive(self) -> bytes | None:
        """The next message, None at the end; raises the call's error."""
        return await self._inbox.get()

    async def send(self, payload: bytes) -> None:
        """Sends a message, waiting while the connection is full."""
        await self._client.send_data(self._stream_id, payload)

    def close_send(self) -> None:
        """No more messages follow."""
        self._client.close_send(self._stream_id)

    def close(self) -> None:
        """Stops listening; ttrpc cannot tell the server."""
        self._client.forget(self._stream_id)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self.receive()) is not None:
            yield message


class Client(Transport[ClientConnection]):
    """One connection to a ttrpc server. `closed` is set when it has gone, for whatever reason."""

    def __init__(self) -> None:
        super().__init__()
        self._connection = ClientConnection()
        self.closed = asyncio.Event()

    @classmethod
    async def connect(cls, address: str, timeout_s: float = 10) -> Client:
        """Raises Unavailable when nobody answers there."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, client = await loop.create_unix_connection(cls, socket_path(address))
        except TimeoutError as e:
            raise errdefs.Unavailable(f"failed to dial {address!r}: timed out") from e
        except OSError as e:
            raise errdefs.Unavailable(
                f"failed to dial {address!r}: {e.strerror or e}", errno=e.errno or 0
            ) from e
        return client

    async def call(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = _NO_METADATA,
        timeout_s: float = 0,
    ) -> bytes:
        """One call. Raises the server's error, DeadlineExceeded, or Closed. `timeout_s` 0 waits for ever."""
        stream_id, inbox = self._request(service, method, payload, metadata, timeout_s)
        try:
            async with asyncio.timeout(timeout_s or None):
                return await inbox.get() or b""
        except TimeoutError as e:
            raise errdefs.DeadlineExceeded from e
        finally:
            self.forget(stream_id)

    def stream(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = _NO_METADATA,
        timeout_s: float = 0,
        *,
        client_streaming: bool = False,
        server_streaming: bool = True,
    ) -> ClientStream:
        """Opens a streaming call; `timeout_s` is what the server is told."""
        stream_id, inbox = self._request(
            service,
            method,
            payload,
            metadata,
            timeout_s,
            client_streaming=client_streaming,
            server_streaming=server_streaming,
        )
        return ClientStream(self, stream_id, inbox)

    async def send_data(self, stream_id: int, payload: bytes) -> None:
        """One message of a stream."""
        await self._writable.wait()
        if self.closed.is_set():
            raise Closed
        self._connection.send_data(stream_id, payload)
        self._write(self._connection.take_output())

    def close_send(self, stream_id: int) -> None:
        """Ends this side of a stream."""
        self._connection.close_send(stream_id)
        self._write(self._connection.take_output())

    def forget(self, stream_id: int) -> None:
        """Stops waiting for a call."""
        self._connection.forget(stream_id)
        self._inboxes.pop(stream_id, None)
        self._resume()

    def take(self, events: list[ClientEvent]) -> None:
        for event in events:
            self._settle(event)
        self._pause_if_full()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._writable.set()
        inboxes, self._inboxes = self._inboxes, {}
        for inbox in inboxes.values():
            inbox.end(Closed())

    def _settle(self, event: ClientEvent) -> None:
        inbox = self._inboxes.get(event.stream_id)
        if inbox is None:
            return
        if isinstance(event, DataEvent):
            inbox.put(event.payload)
            return
        del self._inboxes[event.stream_id]
        error = None
        if isinstance(event, ResponseEvent):
            error = event.error
            if error is None:
                inbox.put(event.payload)
        inbox.end(error)

    def _request(
        self,
        service: str,
        method: str,
        payload: bytes,
        metadata: Mapping[str, str],
        timeout_s: float,
        *,
        client_streaming: bool = False,
        server_streaming: bool = False,
    ) -> tuple[int, Inbox]:
        if self.closed.is_set():
            raise Closed
        stream_id = self._connection.request(
            service,
            method,
            payload,
            with_trace(metadata),
            int(timeout_s * 1e9),
            client_streaming=client_streaming,
            server_streaming=server_streaming,
        )
        inbox = self._inboxes[stream_id] = Inbox(self._resume)
        self._write(self._connection.take_output())
        return stream_id, inbox
