"""Both ends of a ttrpc connection as state machines: frames in, events and frames out, no I/O.

    unary          Request[0]            ->  Response
    client stream  Request[open] Data*  Data[closed]  ->  Response
    server stream  Request[closed]       ->  Data* Data[closed], or Response with an error
    both           Request[open] Data* <-> Data*, each side ends with Data[closed|no data]; an error is a Response

The owner moves bytes: what arrives goes into `receive()`, or into `room()` while that is one, and is then told to
`received()`; what `take_output()` gives goes out, in that order.

Spec: ttrpc PROTOCOL.md
"""

from __future__ import annotations

from pycontainerd.lib import errdefs
from pycontainerd.lib.ttrpc import frame, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

MAX_STREAM_ID: Final = 0xFFFFFFFF


class ResponseEvent:
    """The end of a call: `error` is None when it succeeded, then `payload` is the (last) answer."""

    __slots__ = ("error", "payload", "stream_id")

    def __init__(self, stream_id: int, payload: bytes, error: errdefs.ContainerdError | None = None) -> None:
        self.stream_id = stream_id
        self.payload = payload
        self.error = error


class DataEvent:
    """One message of a stream."""

    __slots__ = ("payload", "stream_id")

    def __init__(self, stream_id: int, payload: bytes) -> None:
        self.stream_id = stream_id
        self.payload = payload


class CloseEvent:
    """The peer sends no more on this stream."""

    __slots__ = ("stream_id",)

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id


class RequestEvent:
    """A call has come in. `client_streaming` says that Data frames follow."""

    __slots__ = ("client_streaming", "request", "stream_id")

    def __init__(self, stream_id: int, request: wire.Request, client_streaming: bool) -> None:
        self.stream_id = stream_id
        self.request = request
        self.client_streaming = client_streaming


ClientEvent = ResponseEvent | DataEvent | CloseEvent
ServerEvent = RequestEvent | DataEvent | CloseEvent


class _Connection:
    """What both ends share: encoded frames that wait for the owner to send them, and the reader of those that come."""

    __slots__ = ("_chunks", "_reader")

    def __init__(self) -> None:
        self._reader = frame.FrameReader()
        self._chunks: list[bytes | memoryview] = []

    def take_output(self) -> bytes:
        """What is to be sent now; empty when nothing is."""
        if not self._chunks:
            return b""
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data

    def take_chunks(self) -> list[bytes | memoryview]:
        """The same in pieces, none of them copied."""
        chunks, self._chunks = self._chunks, []
        return chunks

    def has_output(self) -> bool:
        """Whether take_output() would give something."""
        return bool(self._chunks)

    def room(self) -> memoryview | None:
        """Where what comes next may be received into, sparing a copy of it; None where it may not."""
        return self._reader.room()

    def _send(
        self, stream_id: int, kind: int, flags: int, payload: bytes, more: bytes | memoryview = b""
    ) -> None:
        self._chunks.append(frame.encode(stream_id, kind, flags, payload, len(more)))
        if more:
            self._chunks.append(more)


class _ClientStream:
    __slots__ = ("local_open", "server_streaming")

    def __init__(self, local_open: bool, server_streaming: bool) -> None:
        self.local_open = local_open
        self.server_streaming = server_streaming


class ClientConnection(_Connection):
    """The caller's end. Stream ids are odd and grow; answers for a stream that was dropped are thrown away."""

    __slots__ = ("_next_id", "_streams")

    def __init__(self) -> None:
        super().__init__()
        self._next_id = 1
        self._streams: dict[int, _ClientStream] = {}

    @property
    def open_streams(self) -> int:
        """Calls that have not ended."""
        return len(self._streams)

    def request(
        self,
        service: str,
        method: str,
        payload: bytes,
        metadata: Mapping[str, str] | None = None,
        timeout_nanos: int = 0,
        *,
        client_streaming: bool = False,
        server_streaming: bool = False,
    ) -> int:
        """Opens a call and gives its stream id. Raises ResourceExhausted when the request is over 4 MiB."""
        if self._next_id > MAX_STREAM_ID:
            raise errdefs.ResourceExhausted("ttrpc: out of stream ids on this connection")
        flags = 0
        if client_streaming:
            flags = frame.REMOTE_OPEN
        elif server_streaming:
            flags = frame.REMOTE_CLOSED
        body = wire.encode_request(service, method, payload, timeout_nanos, metadata or {})
        self._send(self._next_id, frame.REQUEST, flags, body)
        stream_id = self._next_id
        self._next_id += 2
        self._streams[stream_id] = _ClientStream(client_streaming, server_streaming)
        return stream_id

    def send_data(self, stream_id: int, payload: bytes, more: bytes | memoryview = b"") -> None:
        """Sends one message of a client stream, in one piece or two. Raises FailedPrecondition when this side was closed.

        What `more` lies in may be written to again once the chunk has been sent.
        """
        stream = self._streams.get(stream_id)
        if stream is None or not stream.local_open:
            raise errdefs.FailedPrecondition("ttrpc: stream is closed for sending")
        self._send(stream_id, frame.DATA, 0, payload, more)

    def close_send(self, stream_id: int) -> None:
        """Says that this side sends no more; twice is once."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.local_open:
            stream.local_open = False
            self._send(stream_id, frame.DATA, frame.REMOTE_CLOSED | frame.NO_DATA, b"")

    def forget(self, stream_id: int) -> None:
        """Drops a call nobody waits for any more (ttrpc has no cancel message)."""
        self._streams.pop(stream_id, None)

    def receive(self, data: bytes | memoryview) -> list[ClientEvent]:
        """Takes bytes from the server."""
        return self._events(self._reader.feed(data))

    def received(self, size_bytes: int) -> list[ClientEvent]:
        """Takes bytes from the server that are in `room` already."""
        return self._events(self._reader.filled(size_bytes))

    def _events(self, frames: list[frame.Frame]) -> list[ClientEvent]:
        events: list[ClientEvent] = []
        for item in frames:
            stream = self._streams.get(item.stream_id)
            if stream is not None:
                self._dispatch(item, stream, events)
        return events

    def _dispatch(self, item: frame.Frame, stream: _ClientStream, events: list[ClientEvent]) -> None:
        if item.oversize_bytes:
            self._finish(item.stream_id, events, error=frame.oversize_error(item.oversize_bytes))
        elif item.kind == frame.RESPONSE:
            self._response(item, events)
        elif item.kind == frame.DATA and stream.server_streaming:
            self._data(item, stream, events)
        elif item.kind == frame.DATA:
            self._finish(
                item.stream_id, events, error=errdefs.Internal("ttrpc: data on a stream that has none")
            )

    def _response(self, item: frame.Frame, events: list[ClientEvent]) -> None:
        try:
            code, message, payload = wire.decode_response(item.payload)
        except errdefs.InvalidArgument as e:
            self._finish(
                item.stream_id, events, error=errdefs.Internal(f"ttrpc: response does not parse: {e}")
            )
            return
        error = errdefs.from_status(code, message) if code else None
        self._finish(item.stream_id, events, payload, error)

    def _data(self, item: frame.Frame, stream: _ClientStream, events: list[ClientEvent]) -> None:
        if not item.flags & frame.NO_DATA:
            events.append(DataEvent(item.stream_id, item.payload))
        if item.flags & frame.REMOTE_CLOSED:
            # The server's closing frame ends the call whether or not this side still sends: its handler has returned.
            del self._streams[item.stream_id]
            events.append(CloseEvent(item.stream_id))

    def _finish(
        self,
        stream_id: int,
        events: list[ClientEvent],
        payload: bytes = b"",
        error: errdefs.ContainerdError | None = None,
    ) -> None:
        del self._streams[stream_id]
        events.append(ResponseEvent(stream_id, payload, error))


class _ServerStream:
    __slots__ = ("remote_open",)

    def __init__(self, remote_open: bool) -> None:
        self.remote_open = remote_open


class ServerConnection(_Connection):
    """The answering end. Bad frames are answered with a status; only the owner's I/O can end the connection."""

    __slots__ = ("_last_id", "_streams")

    def __init__(self) -> None:
        super().__init__()
        self._last_id = 0
        self._streams: dict[int, _ServerStream] = {}

    @property
    def open_streams(self) -> int:
        """Calls that have not been answered."""
        return len(self._streams)

    @property
    def last_stream_id(self) -> int:
        """Of the newest call; 0 before the first."""
        return self._last_id

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is half received and nothing waits to be sent: `resumed` makes the same connection then."""
        return self._reader.is_between_frames and not self._chunks

    @classmethod
    def resumed(cls, last_stream_id: int, open_streams: Iterable[int]) -> ServerConnection:
        """One at rest, continued elsewhere. `open_streams` are unary calls that have not been answered."""
        made = cls()
        made._last_id = last_stream_id
        made._streams = {stream_id: _ServerStream(remote_open=False) for stream_id in open_streams}
        return made

    def receive(self, data: bytes | memoryview) -> list[ServerEvent]:
        """Takes bytes from the client."""
        return self._events(self._reader.feed(data))

    def received(self, size_bytes: int) -> list[ServerEvent]:
        """Takes bytes from the client that are in `room` already."""
        return self._events(self._reader.filled(size_bytes))

    def _events(self, frames: list[frame.Frame]) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        for item in frames:
            if item.oversize_bytes:
                self._status(item.stream_id, frame.oversize_error(item.oversize_bytes))
            elif item.stream_id % 2 != 1:
                self._invalid(item.stream_id, "StreamID must be odd for client initiated streams")
            elif item.kind == frame.REQUEST:
                self._request(item, events)
            elif item.kind == frame.DATA:
                self._data(item, events)
            # Other types are ignored: the protocol keeps them for later versions.
        return events

    def is_open(self, stream_id: int) -> bool:
        """Whether the call still waits for its answer."""
        return stream_id in self._streams

    def respond(self, stream_id: int, payload: bytes) -> None:
        """Ends a unary or client-stream call; one that is too large for a frame becomes ResourceExhausted."""
        self._end(stream_id, 0, "", payload)

    def fail(self, stream_id: int, error: BaseException) -> None:
        """Ends any call with an error's status."""
        code, message = errdefs.to_status(error)
        self._end(stream_id, code, message, b"")

    def send_data(self, stream_id: int, payload: bytes) -> None:
        """Sends one message of a server stream. Raises ResourceExhausted when it is over 4 MiB."""
        if stream_id in self._streams:
            # An empty message is still a message: only NO_DATA says that there is none.
            self._send(stream_id, frame.DATA, 0, payload)

    def close(self, stream_id: int) -> None:
        """Ends a server stream that went well."""
        if self._streams.pop(stream_id, None) is not None:
            self._send(stream_id, frame.DATA, frame.REMOTE_CLOSED | frame.NO_DATA, b"")

    def _end(self, stream_id: int, code: int, message: str, payload: bytes) -> None:
        if self._streams.pop(stream_id, None) is None:
            return
        body = wire.encode_response(code, message, payload)
        if len(body) > frame.MAX_PAYLOAD:
            self._status(stream_id, frame.oversize_error(len(body)))
        else:
            self._send(stream_id, frame.RESPONSE, 0, body)

    def _request(self, item: frame.Frame, events: list[ServerEvent]) -> None:
        if item.stream_id <= self._last_id:
            self._invalid(item.stream_id, "StreamID cannot be re-used")
            return
        self._last_id = item.stream_id
        try:
            request = wire.decode_request(item.payload)
        except errdefs.InvalidArgument as e:
            self._invalid(item.stream_id, f"unmarshal request error: {e}")
            return
        client_streaming = bool(item.flags & frame.REMOTE_OPEN)
        self._streams[item.stream_id] = _ServerStream(client_streaming)
        events.append(RequestEvent(item.stream_id, request, client_streaming))

    def _data(self, item: frame.Frame, events: list[ServerEvent]) -> None:
        stream = self._streams.get(item.stream_id)
        if stream is None:
            self._invalid(item.stream_id, "StreamID is no longer active")
            return
        if not stream.remote_open:
            self._invalid(item.stream_id, "data handling error: stream is closed for data")
            return
        if not item.flags & frame.NO_DATA and not (item.flags & frame.REMOTE_CLOSED and not item.payload):
            events.append(DataEvent(item.stream_id, item.payload))
        if item.flags & frame.REMOTE_CLOSED:
            stream.remote_open = False
            events.append(CloseEvent(item.stream_id))

    def _invalid(self, stream_id: int, message: str) -> None:
        self._status(stream_id, errdefs.InvalidArgument(message))

    def _status(self, stream_id: int, error: errdefs.ContainerdError) -> None:
        self._streams.pop(stream_id, None)
        code, message = errdefs.to_status(error)
        self._send(stream_id, frame.RESPONSE, 0, wire.encode_response(code, message, b""))
