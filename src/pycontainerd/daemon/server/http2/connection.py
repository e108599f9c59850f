"""A client's connection: frames in, streams opened, fed and ended, windows kept.

Whoever breaks a rule of one stream loses the stream, whoever breaks one of the connection loses that, told which by GOAWAY.

Spec: RFC 9113
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.server.http2 import frames
from pycontainerd.daemon.server.http2.frames import ConnectionFailure
from pycontainerd.daemon.server.http2.headers import MAX_LIST_BYTES, NO_TABLE, Malformed, Reader
from pycontainerd.daemon.server.http2.stream import WINDOW_BYTES, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainerd.daemon.server.http2.stream import Call

_MAX_UNREAD_BYTES: Final = (
    64 << 20
)  # of all streams together; a connection that reached it waits for its readers
_MAX_REPLIES: Final = 1000  # to PING and SETTINGS, that a client hasn't read
_REMEMBERED_RESETS: Final = 4096
_HELLO: Final = frames.settings(
    {
        frames.MAX_CONCURRENT_STREAMS: 2**31 - 1,
        frames.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
        frames.MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES,
    }
) + frames.frame(frames.WINDOW_UPDATE, 0, 0, WINDOW_BYTES.to_bytes(4, "big"))


class Connection(asyncio.Protocol):
    """One connection; `open_call` makes what answers a stream."""

    def __init__(self, open_call: Callable[[Stream], Call]) -> None:
        self.send_window = frames.DEFAULT_WINDOW_BYTES
        self.max_frame_bytes = frames.MAX_PAYLOAD_BYTES
        self.is_writable = True
        self._open_call = open_call
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._waiting: set[Stream] = set()  # for room to send
        self._reader = Reader()
        self._rest = b""
        self._greeted = False
        self._settled = False  # the client's first SETTINGS have come
        self._is_ending = False
        self._last_id = 0
        self._resets: deque[int] = deque(maxlen=_REMEMBERED_RESETS)  # by us: more of them may still come
        self._block: list[bytes] | None = None  # of HEADERS whose END_HEADERS is still to come
        self._block_stream = 0
        self._block_is_last = False
        self._block_bytes = 0
        self._stream_window = frames.DEFAULT_WINDOW_BYTES
        self._table_bytes = 4096
        self._head_prefix = b""
        self._receive_window = frames.DEFAULT_WINDOW_BYTES + WINDOW_BYTES
        self._unread = 0
        self._replies = 0
        self._output: list[bytes] | None = None

    # -- asyncio -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_HELLO)

    def data_received(self, data: bytes) -> None:
        self._output = []  # everything that answers these bytes at once is one write
        try:
            self._rest = self._parse(self._rest + data if self._rest else data)
        except ConnectionFailure as e:
            self._fail(e.code, str(e))
        finally:
            output, self._output = self._output, None
            if output:
                self.write(b"".join(output))
        if self._is_ending:
            self._close()

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self._replies = 0
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_streams()

    def end(self) -> None:
        """Ends every call and closes, after what is queued has been sent."""
        if self._transport is not None and not self._is_ending:
            self._fail(frames.NO_ERROR, "")
            self._close()

    # -- what streams need ---------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queues bytes for the client."""
        if self._output is not None:
            self._output.append(data)
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def head(self, block: bytes) -> bytes:
        """A header block as it has to be sent now."""
        if self._head_prefix:
            block, self._head_prefix = self._head_prefix + block, b""
        return block

    def unread(self, size: int) -> None:
        """So many bytes more (or less) wait for their readers."""
        self._unread += size
        if size < 0:
            self._grant()

    def wait(self, stream: Stream) -> None:
        """The stream is to be woken when there is room."""
        self._waiting.add(stream)

    def ended(self, stream: Stream) -> None:
        """Our half of a stream has ended, or the client's."""
        if stream.answered and stream.received_all:
            self._streams.pop(stream.id, None)

    def reset(self, stream: Stream, code: int) -> None:
        """Ends a stream from here; what the client has sent meanwhile is no error."""
        self._streams.pop(stream.id, None)
        self._waiting.discard(stream)
        self._reset_id(stream.id, code)
        stream.close()

    # -- frames in -----------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> bytes:
        """Handles every whole frame; what is left of the bytes."""
        at, end = 0, len(data)
        if not self._greeted:
            if data[: len(frames.PREFACE)] != frames.PREFACE[:end]:
                raise ConnectionFailure(frames.PROTOCOL_ERROR, "this is no HTTP/2")
            if end < len(frames.PREFACE):
                return data
            self._greeted = True
            at = len(frames.PREFACE)
        unpack = frames.HEAD.unpack_from
        while end - at >= frames.HEAD_BYTES and not self._is_ending:
            length_and_kind, flags, stream_id = unpack(data, at)
            length = length_and_kind >> 8
            if length > frames.MAX_PAYLOAD_BYTES:
                raise ConnectionFailure(frames.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            begin = at + frames.HEAD_BYTES
            if begin + length > end:
                break
            at = begin + length
            self._handle(length_and_kind & 0xFF, flags, stream_id & frames.MAX_WINDOW_BYTES, data[begin:at])
        return data[at:]

    def _handle(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block_stream):
            raise ConnectionFailure(frames.PROTOCOL_ERROR, "a frame inside of a header block")
        if not self._settled and (kind != frames.SETTINGS or flags & frames.ACK):
            raise ConnectionFailure(frames.PROTOCOL_ERROR, "a frame before the first SETTINGS")
        if kind < len(self._HANDLERS):
            self._HANDLERS[kind](self, flags, stream_id, payload)

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFailure(frames.FLOW_CONTROL_ERROR, "more data than the window of the connection")
        self._grant()
        stream = self._streams.get(stream_id)
        if stream is None:
            self._require_reset(stream_id, "DATA")
            return
        if stream.received_all:
            self._cut(stream, frames.STREAM_CLOSED)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            self._cut(stream, frames.FLOW_CONTROL_ERROR)
            return
        data = frames.without_padding(flags, payload)
        is_last = bool(flags & frames.END_STREAM)
        stream.feed(data, padding_bytes=size - len(data), is_last=is_last)
        self._received(stream)

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise ConnectionFailure(frames.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        payload = frames.without_padding(flags, payload)
        if flags & frames.PRIORITIZED:
            if len(payload) < 5:
                raise ConnectionFailure(frames.FRAME_SIZE_ERROR, "HEADERS without the priority they announce")
            payload = payload[5:]
        is_last = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._end_block(stream_id, payload, is_last=is_last)
            return
        self._block, self._block_bytes = [], 0
        self._block_stream, self._block_is_last = stream_id, is_last
        self._add_to_block(payload)

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFailure(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._add_to_block(payload)
        if flags & frames.END_HEADERS:
            whole, self._block = b"".join(self._block), None
            self._end_block(stream_id, whole, is_last=self._block_is_last)

    def _add_to_block(self, payload: bytes) -> None:
        assert self._block is not None
        self._block.append(payload)
        self._block_bytes += frames.HEAD_BYTES + len(payload)  # frames of nothing count as well
        if self._block_bytes > MAX_LIST_BYTES:
            raise ConnectionFailure(frames.ENHANCE_YOUR_CALM, "a header block without an end")

    def _end_block(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream_id > self._last_id:
            self._open(stream_id, block, is_last=is_last)
            return
        self._reader.fields(block)  # every block counts for those after it
        if stream is None:
            self._require_reset(stream_id, "HEADERS")
        elif stream.received_all:
            self._cut(stream, frames.STREAM_CLOSED)
        elif not is_last:
            self._cut(stream, frames.PROTOCOL_ERROR)
        else:
            stream.feed(b"", padding_bytes=0, is_last=True)
            self._received(stream)

    def _open(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        self._last_id = stream_id
        try:
            headers = self._reader.request(block)
        except Malformed:
            self._reset_id(stream_id, frames.PROTOCOL_ERROR)
            return
        stream = Stream(self, stream_id, headers, self._stream_window)
        stream.received_all = is_last
        self._streams[stream_id] = stream
        stream.call = self._open_call(stream)
        if is_last:
            self._received(stream)

    def _priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise ConnectionFailure(frames.PROTOCOL_ERROR, "PRIORITY of the connection")
        if len(payload) != 5:
            raise ConnectionFailure(frames.FRAME_SIZE_ERROR, f"PRIORITY of {len(payload)} bytes")

    def _rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._require_known(stream_id, "RST_STREAM")
        frames.number(payload, "RST_STREAM")
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._lose(stream)

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFailure(frames.PROTOCOL_ERROR, f"SETTINGS of stream {stream_id}")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFailure(frames.FRAME_SIZE_ERROR, "SETTINGS that acknowledge with a payload")
            return
        for key, value in frames.parse_settings(payload):
            self._set(key, value)
        self._settled = True
        self._reply(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        self._wake()

    def _set(self, key: int, value: int) -> None:
        if key == frames.HEADER_TABLE_SIZE:
            if value < self._table_bytes:
                self._table_bytes, self._head_prefix = 0, NO_TABLE
        elif key == frames.MAX_FRAME_SIZE:
            self.max_frame_bytes = value
        elif key == frames.INITIAL_WINDOW_SIZE:
            change, self._stream_window = value - self._stream_window, value
            for stream in self._streams.values():
                stream.send_window += change
                if stream.send_window > frames.MAX_WINDOW_BYTES:
                    raise ConnectionFailure(frames.FLOW_CONTROL_ERROR, "a stream's window is too large")

    def _push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFailure(frames.PROTOCOL_ERROR, "a client pushes nothing")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFailure(frames.PROTOCOL_ERROR, f"PING of stream {stream_id}")
        if len(payload) != 8:
            raise ConnectionFailure(frames.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes")
        if not flags & frames.ACK:
            self._reply(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        """The client opens no more streams; it closes the connection when it has its answers."""
        if stream_id:
            raise ConnectionFailure(frames.PROTOCOL_ERROR, f"GOAWAY of stream {stream_id}")
        if len(payload) < 8:
            raise ConnectionFailure(frames.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")

    def _window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        increment = frames.number(payload, "WINDOW_UPDATE") & frames.MAX_WINDOW_BYTES
        if stream_id == 0:
            self.send_window += increment
            if not increment or self.send_window > frames.MAX_WINDOW_BYTES:
                code = frames.FLOW_CONTROL_ERROR if increment else frames.PROTOCOL_ERROR
                raise ConnectionFailure(code, f"WINDOW_UPDATE of {increment}")
            self._wake()
            return
        self._require_known(stream_id, "WINDOW_UPDATE")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.send_window += increment
        if not increment or stream.send_window > frames.MAX_WINDOW_BYTES:
            self._cut(stream, frames.FLOW_CONTROL_ERROR if increment else frames.PROTOCOL_ERROR)
        elif stream in self._waiting:
            self._waiting.discard(stream)
            stream.wake_sender()

    # -- the connection's own state ------------------------------------------------------------------------------------

    def _received(self, stream: Stream) -> None:
        """There is more of a stream's body, or its end."""
        if stream.call is not None:
            stream.call.received()
        self.ended(stream)

    def _grant(self) -> None:
        """Gives the client its window back, whatever streams have read of it, up to a bound for all of them."""
        spent = frames.DEFAULT_WINDOW_BYTES + WINDOW_BYTES - self._receive_window
        if spent >= WINDOW_BYTES // 2 and self._unread < _MAX_UNREAD_BYTES:
            self._receive_window += spent
            self.write(frames.frame(frames.WINDOW_UPDATE, 0, 0, spent.to_bytes(4, "big")))

    def _reply(self, data: bytes) -> None:
        """An answer to a frame that costs the client nothing: not any number of them waits for a client that doesn't read."""
        if not self.is_writable:
            self._replies += 1
            if self._replies > _MAX_REPLIES:
                raise ConnectionFailure(frames.ENHANCE_YOUR_CALM, "too many PING and SETTINGS")
        self.write(data)

    def _require_known(self, stream_id: int, kind: str) -> None:
        """ConnectionFailure for a stream that was never opened."""
        if stream_id == 0 or stream_id % 2 == 0 or stream_id > self._last_id:
            raise ConnectionFailure(frames.PROTOCOL_ERROR, f"{kind} on stream {stream_id}, which is idle")

    def _require_reset(self, stream_id: int, kind: str) -> None:
        """ConnectionFailure for a stream that has ended, unless by a reset of ours that crossed what the client sent."""
        self._require_known(stream_id, kind)
        if stream_id not in self._resets:
            raise ConnectionFailure(frames.STREAM_CLOSED, f"{kind} on stream {stream_id}, which has ended")

    def _cut(self, stream: Stream, code: int) -> None:
        """Ends a stream whose rules the client broke, and its call."""
        self.reset(stream, code)
        if stream.call is not None:
            stream.call.gone()

    def _reset_id(self, stream_id: int, code: int) -> None:
        self._resets.append(stream_id)
        self.write(frames.frame(frames.RST_STREAM, 0, stream_id, code.to_bytes(4, "big")))

    def _lose(self, stream: Stream) -> None:
        """The client hears nothing more of a stream."""
        self._waiting.discard(stream)
        stream.close()
        if stream.call is not None:
            stream.call.gone()

    def _wake(self) -> None:
        """Everybody who waits for room looks again."""
        waiting, self._waiting = self._waiting, set()
        for stream in waiting:
            stream.wake_sender()

    def _fail(self, code: int, what: str) -> None:
        """Says goodbye; nothing that comes after is read."""
        self._is_ending = True
        last = self._last_id.to_bytes(4, "big")
        self.write(frames.frame(frames.GOAWAY, 0, 0, last + code.to_bytes(4, "big") + what.encode()))

    def _close(self) -> None:
        assert self._transport is not None
        self._drop_streams()
        self._transport.close()

    def _drop_streams(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._lose(stream)

    _HANDLERS: Final = (  # by a frame's type
        _data,
        _headers,
        _priority,
        _rst_stream,
        _settings,
        _push_promise,
        _ping,
        _goaway,
        _window_update,
        _continuation,
    )
