"""Synchronous ttrpc client: many calls on one connection, for the CLI, the forkserver and the shim's publisher.

`call()` waits. `start()` does not: a loop polls `fileno()` (for writing too while `wants_write`), calls `pump()` when it
is ready, and looks at `Pending.done`.

Spec: ttrpc PROTOCOL.md
"""

from __future__ import annotations

import _socket
import select
from time import monotonic

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.ttrpc.address import socket_path
from pycontainerd.lib.ttrpc.connection import ClientConnection, DataEvent, ResponseEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from pycontainerd.lib.ttrpc.connection import ClientEvent

_READ_SIZE: Final = 64 << 10
_SO_SNDBUFFORCE: Final = 32  # asm-generic/socket.h; Python has no name for it
_WIDE_BYTES: Final = 1 << 20
_CHUNKS_AT_ONCE: Final = 64  # far below IOV_MAX
_NO_METADATA: Final[dict[str, str]] = {}


class Closed(errdefs.Unavailable):
    """The connection is gone; whether the server did what was asked isn't known."""

    reason = "ttrpc: closed"


def with_trace(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Metadata plus the traceparent of the step that runs now."""
    return metadata if trace.HEADER in metadata else {**metadata, **trace.metadata()}


class Pending:
    """A unary call under way."""

    __slots__ = ("_error", "_payload", "done", "stream_id")

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.done = False
        self._payload = b""
        self._error: errdefs.ContainerdError | None = None

    def handle(self, event: ClientEvent) -> None:
        """Takes the event that ends the call."""
        if isinstance(event, ResponseEvent):
            self.end(event.payload, event.error)

    def end(self, payload: bytes = b"", error: errdefs.ContainerdError | None = None) -> None:
        """Settles the call."""
        self.done, self._payload, self._error = True, payload, error

    def result(self) -> bytes:
        """The answer of a call that is done; raises its error."""
        if self._error is not None:
            raise self._error
        return self._payload


class Stream:
    """One streaming call. Closing it early only stops listening: ttrpc has no cancel message."""

    __slots__ = ("_client", "_ended", "_error", "_queue", "stream_id")

    def __init__(self, client: Client, stream_id: int) -> None:
        self._client = client
        self.stream_id = stream_id
        self._queue: list[bytes] = []
        self._ended = False
        self._error: errdefs.ContainerdError | None = None

    def handle(self, event: ClientEvent) -> None:
        """Takes what arrives for this stream."""
        if isinstance(event, DataEvent):
            self._queue.append(event.payload)
            return
        if isinstance(event, ResponseEvent) and event.error is None:
            self._queue.append(event.payload)
        self.end(error=event.error if isinstance(event, ResponseEvent) else None)

    def end(self, payload: bytes = b"", error: errdefs.ContainerdError | None = None) -> None:
        """Ends the stream from outside, as a lost connection does."""
        self._ended, self._error = True, error

    def send(self, payload: bytes, more: bytes | memoryview = b"") -> None:
        """Sends one message, in one piece or two, waiting until the socket has taken it."""
        self._client.send_data(self.stream_id, payload, more)

    def close_send(self) -> None:
        """Says that no more messages follow."""
        self._client.close_send(self.stream_id)

    def receive(self, timeout_s: float = 0) -> bytes | None:
        """The next message, None at the end; raises the call's error. `timeout_s` 0 waits for ever."""
        deadline = monotonic() + timeout_s if timeout_s else None
        while not self._queue and not self._ended:
            self._client.wait(deadline)
        if self._queue:
            return self._queue.pop(0)
        if self._error is not None:
            raise self._error
        return None

    def __iter__(self) -> Iterator[bytes]:
        while (message := self.receive()) is not None:
            yield message

    def close(self) -> None:
        """Stops listening."""
        self._client.forget(self.stream_id)


class Client:
    """A connection; owns its socket. Not for use by two threads."""

    __slots__ = ("_calls", "_connection", "_is_wide", "_output", "_socket", "closed")

    def __init__(self, connected: _socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._connection = ClientConnection()
        self._calls: dict[int, Pending | Stream] = {}
        self._output: list[bytes | memoryview] = []
        self._is_wide = False
        self.closed = False

    @classmethod
    def connect(cls, path: str, timeout_s: float = 10) -> Client:
        """Connects to a unix socket. Raises Unavailable when nobody answers there."""
        target = socket_path(path)
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(timeout_s or None)
            sock.connect(target)
        except OSError as e:
            sock.close()
            raise errdefs.Unavailable(
                f"failed to dial {path!r}: {e.strerror or e}", errno=e.errno or 0
            ) from e
        return cls(sock)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The socket, for poll loops; still owned by the client."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the socket to take them."""
        return bool(self._output) or self._connection.has_output()

    def call(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = _NO_METADATA,
        timeout_s: float = 0,
    ) -> bytes:
        """One call, waited for. Raises the server's error, DeadlineExceeded, or Closed. `timeout_s` 0 waits for ever."""
        deadline = monotonic() + timeout_s if timeout_s else None
        pending = self.start(service, method, payload, metadata, timeout_s)
        while not pending.done:
            try:
                self.wait(deadline)
            except errdefs.DeadlineExceeded:
                self.forget(pending.stream_id)
                raise
        return pending.result()

    def start(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = _NO_METADATA,
        timeout_s: float = 0,
    ) -> Pending:
        """Sends a call and gives its handle without waiting; `timeout_s` is what the server is told."""
        stream_id = self._request(service, method, payload, metadata, timeout_s)
        pending = Pending(stream_id)
        self._calls[stream_id] = pending
        self.flush()
        return pending

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
    ) -> Stream:
        """Opens a streaming call; a client-stream call's one answer comes out of `receive()` too."""
        stream_id = self._request(
            service,
            method,
            payload,
            metadata,
            timeout_s,
            client_streaming=client_streaming,
            server_streaming=server_streaming,
        )
        stream = Stream(self, stream_id)
        self._calls[stream_id] = stream
        self.flush()
        return stream

    def send_data(self, stream_id: int, payload: bytes, more: bytes | memoryview = b"") -> None:
        """One message of a stream; waits until the socket has taken it, so that a fast sender stays bounded."""
        if more and not self._is_wide:
            self._widen()
        self._connection.send_data(stream_id, payload, more)
        self.flush()
        while self.wants_write and not self.closed:
            self.wait(None)

    def _widen(self) -> None:
        """Lets a whole chunk into the socket: the reader is woken once for it. Without root's rights all stays as it is."""
        self._is_wide = True
        try:
            self._socket.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, _WIDE_BYTES)
        except PermissionError:
            return

    def close_send(self, stream_id: int) -> None:
        """Ends this side of a stream."""
        self._connection.close_send(stream_id)
        self.flush()

    def forget(self, stream_id: int) -> None:
        """Stops waiting for a call."""
        self._connection.forget(stream_id)
        self._calls.pop(stream_id, None)

    def wait(self, deadline: float | None) -> None:
        """Waits for the socket once and pumps. Raises DeadlineExceeded at `deadline` (monotonic seconds), Closed."""
        if self.closed:
            raise Closed
        poller = select.poll()
        poller.register(self._socket.fileno(), select.POLLIN | (select.POLLOUT if self.wants_write else 0))
        left_ms = None if deadline is None else max(0, int((deadline - monotonic()) * 1000 + 0.999))
        if not poller.poll(left_ms) and deadline is not None and monotonic() >= deadline:
            raise errdefs.DeadlineExceeded
        self.pump()

    def pump(self) -> None:
        """Moves what can be moved without waiting, and settles the calls that are answered."""
        self.flush()
        while not self.closed:
            try:
                events = self._receive()
            except BlockingIOError:
                return
            except OSError:
                events = None
            if events is None:
                self._lost()
                return
            for event in events:
                self._settle(event)

    def _receive(self) -> list[ClientEvent] | None:
        """What has come; None at the end."""
        room = self._connection.room()
        if room is not None:
            received = self._socket.recv_into(room)
            return self._connection.received(received) if received else None
        data = self._socket.recv(_READ_SIZE)
        return self._connection.receive(data) if data else None

    def flush(self) -> None:
        """Sends as much as the socket takes."""
        while not self.closed:
            if not self._output:
                self._output = self._connection.take_chunks()
            if not self._output:
                return
            try:
                sent = self._socket.sendmsg(self._output[:_CHUNKS_AT_ONCE], (), _socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            self._output = _behind(self._output, sent)

    def close(self) -> None:
        """Closes the connection; calls under way end with Closed."""
        self._lost()

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
    ) -> int:
        if self.closed:
            raise Closed
        return self._connection.request(
            service,
            method,
            payload,
            with_trace(metadata),
            int(timeout_s * 1e9),
            client_streaming=client_streaming,
            server_streaming=server_streaming,
        )

    def _settle(self, event: ClientEvent) -> None:
        call = self._calls.get(event.stream_id)
        if call is None:
            return
        if not isinstance(event, DataEvent):
            del self._calls[event.stream_id]
        call.handle(event)

    def _lost(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._socket.close()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.end(error=Closed())


def _behind(chunks: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of the chunks when so many bytes of them have been sent."""
    for number, chunk in enumerate(chunks):
        if sent < len(chunk):
            return [memoryview(chunk)[sent:], *chunks[number + 1 :]]
        sent -= len(chunk)
    return []
