"""HTTP/2's server side, with the h2 library as the client and the RFC's words for what breaks its rules."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.daemon.server.http2 import frames, headers
from pycontainerd.daemon.server.http2.connection import Connection
from pycontainerd.daemon.server.http2.stream import WINDOW_BYTES, Gone, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a/B"),
    (":authority", "x"),
    ("te", "trailers"),
]
HEAD = headers.block([(":status", "200"), ("content-type", "application/grpc")])
TRAILERS = headers.block([("grpc-status", "0")])
BLOCK = hpack.Encoder().encode(REQUEST)
SETTINGS = frames.frame(frames.SETTINGS, 0, 0, b"")
HELLO = frames.PREFACE + SETTINGS


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        """What was written since the last time."""
        data = bytes(self.written)
        self.written.clear()
        return data


class Recorded:
    """A call that only remembers."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.is_gone = False
        self.times_received = 0

    def received(self) -> None:
        self.times_received += 1

    def gone(self) -> None:
        self.is_gone = True


class Served:
    """A connection of ours, and a client of h2's that talks to it."""

    def __init__(self, settings: dict[int, int] | None = None) -> None:
        self.calls: list[Recorded] = []
        self.wire = Wire()
        self.connection = Connection(self._open)
        self.connection.connection_made(self.wire)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        if settings:
            self.client.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        self.client.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.talk()

    def _open(self, stream: Stream) -> Recorded:
        self.calls.append(Recorded(stream))
        return self.calls[-1]

    def talk(self) -> list[h2.events.Event]:
        """Carries bytes both ways until there are none; what the client made of ours."""
        new: list[h2.events.Event] = []
        while True:
            sent = self.client.data_to_send()
            if sent:
                self.connection.data_received(sent)
            got = self.wire.take()
            if got:
                new += self.client.receive_data(got)
            if not sent and not got:
                self.events += new
                return new

    def request(
        self, body: bytes = b"", *, end: bool = True, fields: Sequence[tuple[str, str]] = REQUEST
    ) -> int:
        """Opens a stream."""
        id = self.client.get_next_available_stream_id()
        self.client.send_headers(id, list(fields), end_stream=end and not body)
        if body:
            self.client.send_data(id, body, end_stream=end)
        self.talk()
        return id


def raw(*sent: bytes) -> tuple[Served, bytes]:
    """Bytes after a client's hello, and what came back of ours since."""
    served = Served()
    served.connection.data_received(b"".join(sent))
    return served, served.wire.take()


def error_codes(data: bytes, kind: int) -> list[int]:
    """The codes of all RST_STREAM or GOAWAY frames."""
    codes = []
    while data:
        head, flags, _ = frames.HEAD.unpack_from(data)
        del flags
        payload, data = data[9 : 9 + (head >> 8)], data[9 + (head >> 8) :]
        if head & 0xFF == kind:
            codes.append(int.from_bytes(payload[4:8] if kind == frames.GOAWAY else payload, "big"))
    return codes


def test_a_request_is_read_and_answered_in_one_write() -> None:
    served = Served()
    id = served.request(b"hello")
    stream = served.calls[0].stream
    assert dict(stream.headers) == dict(REQUEST)
    assert (stream.take(2), stream.take(3), stream.take(1)) == (b"he", b"llo", b"")
    assert stream.answer(HEAD, b"world", TRAILERS)
    events = served.talk()
    assert [type(e) for e in events] == [
        h2.events.ResponseReceived,
        h2.events.DataReceived,
        h2.events.TrailersReceived,
        h2.events.StreamEnded,
    ]
    assert events[0].headers == [(":status", "200"), ("content-type", "application/grpc")]
    assert events[2].headers == [("grpc-status", "0")]
    assert events[0].stream_id == id


def test_a_request_without_a_body_has_ended() -> None:
    served = Served()
    served.request()
    assert served.calls[0].times_received == 1
    assert served.calls[0].stream.take(5) == b""


def test_a_body_that_ends_too_early_is_an_error() -> None:
    served = Served()
    served.request(b"abc")
    with pytest.raises(Exception, match="unexpected EOF"):
        served.calls[0].stream.take(4)


def test_trailers_end_the_body() -> None:
    served = Served()
    id = served.request(b"x", end=False)
    assert served.calls[0].stream.take(2) is None
    served.client.send_headers(id, [("some", "trailer")], end_stream=True)
    served.talk()
    assert served.calls[0].stream.received_all


def test_many_streams_are_open_at_once() -> None:
    served = Served()
    ids = [served.request(end=False) for _ in range(500)]
    assert len(served.calls) == 500
    for call in served.calls:
        assert call.stream.answer(HEAD, b"", TRAILERS)
    ended = {e.stream_id for e in served.talk() if isinstance(e, h2.events.TrailersReceived)}
    assert ended == set(ids)


def test_a_message_larger_than_every_window_is_granted_as_it_comes() -> None:
    served = Served()
    body = bytes(range(256)) * (3 * WINDOW_BYTES // 256)
    id = served.request(end=False)
    stream = served.calls[0].stream
    assert stream.take(len(body)) is None
    at = 0
    while at < len(body):
        step = min(served.client.local_flow_control_window(id), 16384, len(body) - at)
        assert step > 0, f"no window after {at} bytes"
        served.client.send_data(id, body[at : at + step])
        at += step
        served.talk()
    assert stream.take(len(body)) == body


def test_what_nobody_reads_stops_its_stream_but_no_other() -> None:
    served = Served()
    id = served.request(end=False)
    while served.client.local_flow_control_window(id) > 0:
        served.client.send_data(id, bytes(min(served.client.local_flow_control_window(id), 16384)))
        served.talk()
    other = served.request(end=False)
    assert served.client.local_flow_control_window(other) == WINDOW_BYTES
    stream = served.calls[0].stream
    assert stream.take(WINDOW_BYTES) == bytes(WINDOW_BYTES)
    served.talk()
    assert served.client.local_flow_control_window(id) == WINDOW_BYTES


def test_padding_is_no_body_but_counts_for_the_window() -> None:
    served = Served()
    id = served.request(end=False)
    served.client.send_data(id, b"abc", pad_length=200)
    served.talk()
    stream = served.calls[0].stream
    assert (stream.take(4), stream.take(3)) == (None, b"abc")
    assert stream.receive_window == WINDOW_BYTES - 204


def test_an_answer_waits_for_the_clients_windows() -> None:
    async def scene() -> None:
        served = Served({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        id = served.request()
        stream = served.calls[0].stream
        assert not stream.answer(HEAD, bytes(1001), TRAILERS)
        await stream.send_headers(HEAD)
        sending = asyncio.ensure_future(stream.send(bytes(5000)))
        received = 0
        for _ in range(20):
            await asyncio.sleep(0)
            for event in served.talk():
                if isinstance(event, h2.events.DataReceived):
                    received += len(event.data)
                    served.client.acknowledge_received_data(event.flow_controlled_length, id)
        assert sending.done()
        assert received == 5000
        await stream.finish(TRAILERS)
        assert any(isinstance(e, h2.events.StreamEnded) for e in served.talk())

    asyncio.run(scene())


def test_an_answer_waits_for_a_client_that_does_not_read() -> None:
    async def scene() -> None:
        served = Served()
        served.request()
        stream = served.calls[0].stream
        served.connection.pause_writing()
        assert not stream.answer(HEAD, b"", TRAILERS)
        finishing = asyncio.ensure_future(stream.finish(TRAILERS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not finishing.done()
        served.connection.resume_writing()
        await finishing

    asyncio.run(scene())


def test_frames_are_as_large_as_the_client_allows() -> None:
    async def scene() -> None:
        served = Served({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        served.client.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: 100_000})
        served.client.increment_flow_control_window(1 << 20)
        served.request()
        await served.calls[0].stream.send_headers(HEAD)
        await served.calls[0].stream.send(bytes(150_000))
        sizes = [len(e.data) for e in served.talk() if isinstance(e, h2.events.DataReceived)]
        assert sizes == [100_000, 50_000]

    asyncio.run(scene())


def test_a_client_that_is_still_sending_is_told_to_stop() -> None:
    async def scene() -> None:
        served = Served()
        id = served.request(b"x", end=False)
        await served.calls[0].stream.finish(HEAD)
        # What crosses the reset is no error.
        served.client.send_data(id, b"more")
        events = served.talk()
        assert [e.error_code for e in events if isinstance(e, h2.events.StreamReset)] == [0]
        served.request()
        assert len(served.calls) == 2

    asyncio.run(scene())


def test_a_client_that_shrinks_its_table_is_told_so_once() -> None:
    served = Served({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0})
    for call in range(2):
        served.request()
        assert served.calls[call].stream.answer(HEAD, b"", TRAILERS)
        # h2's decoder refuses a block without the update.
        assert any(isinstance(e, h2.events.StreamEnded) for e in served.talk())


@pytest.mark.parametrize("reading", [True, False])
def test_a_reset_ends_the_call_and_wakes_who_waits(reading: bool) -> None:
    async def scene() -> None:
        served = Served({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        id = served.request(end=False)
        stream = served.calls[0].stream
        waiting: asyncio.Future[object] = asyncio.ensure_future(
            stream.read(5) if reading else stream.send(b"x")
        )
        await asyncio.sleep(0)
        served.client.reset_stream(id)
        served.talk()
        assert served.calls[0].is_gone
        with pytest.raises(Gone):
            await waiting

    asyncio.run(scene())


def test_a_lost_connection_ends_every_call() -> None:
    served = Served()
    served.request(end=False)
    served.request()
    served.connection.connection_lost(None)
    assert [call.is_gone for call in served.calls] == [True, True]


def test_the_end_of_the_server_says_goodbye() -> None:
    served = Served()
    served.request(end=False)
    served.connection.end()
    assert served.wire.closed
    assert served.calls[0].is_gone
    assert error_codes(served.wire.take(), frames.GOAWAY) == [frames.NO_ERROR]


def test_ping_is_answered() -> None:
    served = Served()
    served.client.ping(b"12345678")
    assert [e.ping_data for e in served.talk() if isinstance(e, h2.events.PingAckReceived)] == [b"12345678"]


def head(kind: int, flags: int, id: int, payload: bytes = b"") -> bytes:
    """Short for a frame."""
    return frames.frame(kind, flags, id, payload)


OPEN = head(frames.HEADERS, frames.END_HEADERS, 1, BLOCK)
ENDED = head(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, BLOCK)

# RFC 9113: what has to end the connection, and with which code.
CONNECTION_ERRORS = {
    "4.2 a frame larger than SETTINGS_MAX_FRAME_SIZE": (
        head(frames.PING, 0, 0, bytes(frames.MAX_PAYLOAD_BYTES + 1)),
        frames.FRAME_SIZE_ERROR,
    ),
    "4.3 a header block that cannot be decoded": (
        head(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        frames.COMPRESSION_ERROR,
    ),
    "5.1 DATA on an idle stream": (head(frames.DATA, 0, 1, b"x"), frames.PROTOCOL_ERROR),
    "5.1 RST_STREAM on an idle stream": (head(frames.RST_STREAM, 0, 1, bytes(4)), frames.PROTOCOL_ERROR),
    "5.1 WINDOW_UPDATE on an idle stream": (
        head(frames.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        frames.PROTOCOL_ERROR,
    ),
    "5.1.1 an even stream": (head(frames.HEADERS, frames.END_HEADERS, 2, BLOCK), frames.PROTOCOL_ERROR),
    "5.1.1 a stream that goes back": (
        head(frames.HEADERS, frames.END_HEADERS, 5, BLOCK)
        + head(frames.HEADERS, frames.END_HEADERS, 3, BLOCK),
        frames.STREAM_CLOSED,
    ),
    "6.1 DATA of the connection": (head(frames.DATA, 0, 0, b"x"), frames.PROTOCOL_ERROR),
    "6.1 more padding than payload": (
        OPEN + head(frames.DATA, frames.PADDED, 1, b"\5abc"),
        frames.PROTOCOL_ERROR,
    ),
    "6.2 HEADERS of the connection": (
        head(frames.HEADERS, frames.END_HEADERS, 0, BLOCK),
        frames.PROTOCOL_ERROR,
    ),
    "6.3 PRIORITY of the connection": (head(frames.PRIORITY, 0, 0, bytes(5)), frames.PROTOCOL_ERROR),
    "6.4 RST_STREAM of the connection": (head(frames.RST_STREAM, 0, 0, bytes(4)), frames.PROTOCOL_ERROR),
    "6.4 RST_STREAM of a wrong length": (
        OPEN + head(frames.RST_STREAM, 0, 1, bytes(3)),
        frames.FRAME_SIZE_ERROR,
    ),
    "6.5 SETTINGS of a stream": (head(frames.SETTINGS, 0, 1), frames.PROTOCOL_ERROR),
    "6.5 SETTINGS of a wrong length": (head(frames.SETTINGS, 0, 0, bytes(5)), frames.FRAME_SIZE_ERROR),
    "6.5 SETTINGS that acknowledge with a payload": (
        head(frames.SETTINGS, frames.ACK, 0, bytes(6)),
        frames.FRAME_SIZE_ERROR,
    ),
    "6.5.2 ENABLE_PUSH of 2": (head(frames.SETTINGS, 0, 0, b"\0\2\0\0\0\2"), frames.PROTOCOL_ERROR),
    "6.5.2 a window above 2^31-1": (
        head(frames.SETTINGS, 0, 0, b"\0\4\x80\0\0\0"),
        frames.FLOW_CONTROL_ERROR,
    ),
    "6.5.2 a frame size below 16384": (head(frames.SETTINGS, 0, 0, b"\0\5\0\0\0\1"), frames.PROTOCOL_ERROR),
    "6.6 PUSH_PROMISE of a client": (OPEN + head(frames.PUSH_PROMISE, 0, 1, bytes(4)), frames.PROTOCOL_ERROR),
    "6.7 PING of a stream": (head(frames.PING, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
    "6.7 PING of a wrong length": (head(frames.PING, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR),
    "6.8 GOAWAY of a stream": (head(frames.GOAWAY, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE of the connection by 0": (
        head(frames.WINDOW_UPDATE, 0, 0, bytes(4)),
        frames.PROTOCOL_ERROR,
    ),
    "6.9 WINDOW_UPDATE of a wrong length": (
        head(frames.WINDOW_UPDATE, 0, 0, bytes(3)),
        frames.FRAME_SIZE_ERROR,
    ),
    "6.9.1 a window of the connection above 2^31-1": (
        head(frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
        frames.FLOW_CONTROL_ERROR,
    ),
    "6.10 CONTINUATION of nothing": (
        OPEN + head(frames.CONTINUATION, frames.END_HEADERS, 1, BLOCK),
        frames.PROTOCOL_ERROR,
    ),
    "6.10 another frame inside of a header block": (
        head(frames.HEADERS, 0, 1, BLOCK) + head(frames.PING, 0, 0, bytes(8)),
        frames.PROTOCOL_ERROR,
    ),
    "6.10 CONTINUATION of another stream": (
        head(frames.HEADERS, 0, 1, BLOCK) + head(frames.CONTINUATION, frames.END_HEADERS, 3),
        frames.PROTOCOL_ERROR,
    ),
    "10.5 a header block without an end": (
        head(frames.HEADERS, 0, 1, BLOCK)
        + head(frames.CONTINUATION, 0, 1) * (headers.MAX_LIST_BYTES // frames.HEAD_BYTES + 1),
        frames.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize("rule", CONNECTION_ERRORS)
def test_who_breaks_a_rule_of_the_connection_loses_it(rule: str) -> None:
    sent, code = CONNECTION_ERRORS[rule]
    served, got = raw(sent)
    assert error_codes(got, frames.GOAWAY) == [code]
    assert served.wire.closed
    assert all(call.is_gone for call in served.calls)


# RFC 9113: what ends one stream; the next request is served.
STREAM_ERRORS = {
    "5.1 DATA after the end": (ENDED + head(frames.DATA, 0, 1, b"x"), frames.STREAM_CLOSED),
    "5.1 HEADERS after the end": (ENDED + ENDED, frames.STREAM_CLOSED),
    "6.9 WINDOW_UPDATE of a stream by 0": (
        OPEN + head(frames.WINDOW_UPDATE, 0, 1, bytes(4)),
        frames.PROTOCOL_ERROR,
    ),
    "6.9.1 a window of a stream above 2^31-1": (
        OPEN + head(frames.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"),
        frames.FLOW_CONTROL_ERROR,
    ),
    "8.1 trailers that don't end": (OPEN + OPEN, frames.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("rule", STREAM_ERRORS)
def test_who_breaks_a_rule_of_a_stream_loses_the_stream(rule: str) -> None:
    sent, code = STREAM_ERRORS[rule]
    served, got = raw(sent, head(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, BLOCK))
    assert error_codes(got, frames.RST_STREAM) == [code]
    assert error_codes(got, frames.GOAWAY) == []
    assert served.calls[0].is_gone
    assert not served.calls[-1].is_gone
    assert served.calls[-1].stream.id == 3


MALFORMED: dict[str, list[tuple[str, str]]] = {
    "8.2.1 a name in capitals": [*REQUEST, ("Some", "x")],
    "8.2.2 a header of a connection": [*REQUEST, ("connection", "close")],
    "8.2.2 te of another value": [*REQUEST[:4], ("te", "gzip")],
    "8.3 a pseudo header after others": [*REQUEST[:3], ("a", "b"), (":authority", "x")],
    "8.3 an unknown pseudo header": [(":status", "200"), *REQUEST],
    "8.3.1 no path": [f for f in REQUEST if f[0] != ":path"],
    "8.3.1 a path twice": [(":path", "/x"), *REQUEST],
}


@pytest.mark.parametrize("rule", MALFORMED)
def test_a_malformed_request_is_reset_and_never_opened(rule: str) -> None:
    block = hpack.Encoder().encode(MALFORMED[rule])
    served, got = raw(
        head(frames.HEADERS, frames.END_HEADERS, 1, block),
        head(frames.DATA, frames.END_STREAM, 1, b"what crosses the reset"),
    )
    assert error_codes(got, frames.RST_STREAM) == [frames.PROTOCOL_ERROR]
    assert error_codes(got, frames.GOAWAY) == []
    assert served.calls == []


def test_priorities_and_unknown_frames_change_nothing() -> None:
    served, got = raw(
        head(frames.PRIORITY, 0, 1, bytes(5)),
        head(0x77, 0xFF, 9, b"whatever"),
        head(
            frames.HEADERS,
            frames.END_HEADERS | frames.PRIORITIZED | frames.PADDED,
            1,
            b"\2" + bytes(5) + BLOCK + b"\0\0",
        ),
    )
    assert got == b""
    assert dict(served.calls[0].stream.headers) == dict(REQUEST)


def test_a_block_may_come_in_pieces() -> None:
    served, _ = raw(
        head(frames.HEADERS, frames.END_STREAM, 1, BLOCK[:3]),
        head(frames.CONTINUATION, 0, 1, BLOCK[3:5]),
        head(frames.CONTINUATION, frames.END_HEADERS, 1, BLOCK[5:]),
    )
    assert dict(served.calls[0].stream.headers) == dict(REQUEST)
    assert served.calls[0].stream.received_all


def test_what_is_no_http2_is_refused() -> None:
    served = Served()
    served.connection = Connection(served._open)
    served.connection.connection_made(served.wire)
    served.wire.take()
    served.connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert served.wire.closed
    assert error_codes(served.wire.take(), frames.GOAWAY) == [frames.PROTOCOL_ERROR]


def test_pings_of_a_client_that_reads_no_answers_end_the_connection() -> None:
    served = Served()
    served.connection.pause_writing()
    served.connection.data_received(head(frames.PING, 0, 0, bytes(8)) * 1500)
    assert error_codes(served.wire.take(), frames.GOAWAY) == [frames.ENHANCE_YOUR_CALM]


def test_a_stream_that_ignores_its_window_is_reset() -> None:
    served, got = raw(OPEN, head(frames.DATA, 0, 1, bytes(16384)) * (WINDOW_BYTES // 16384 + 1))
    assert error_codes(got, frames.RST_STREAM) == [frames.FLOW_CONTROL_ERROR]
    assert served.calls[0].is_gone


@given(cuts=st.lists(st.integers(1, 40), max_size=60))
def test_it_does_not_matter_how_bytes_are_cut(cuts: list[int]) -> None:
    sent = (
        HELLO
        + OPEN
        + head(frames.PING, 0, 0, bytes(8))
        + head(frames.DATA, frames.END_STREAM, 1, b"0123456789")
    )
    calls: list[Recorded] = []

    def opened(stream: Stream) -> Recorded:
        calls.append(Recorded(stream))
        return calls[-1]

    wire = Wire()
    connection = Connection(opened)
    connection.connection_made(wire)
    wire.take()
    for cut in cuts:
        connection.data_received(sent[:cut])
        sent = sent[cut:]
    connection.data_received(sent)
    assert calls[0].stream.take(10) == b"0123456789"
    assert calls[0].stream.received_all
    assert wire.take() == head(frames.SETTINGS, frames.ACK, 0) + head(frames.PING, frames.ACK, 0, bytes(8))


_NAMES = st.sampled_from(["user-agent", "containerd-namespace", "grpc-timeout", "x"])
_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)


@given(
    requests=st.lists(
        st.tuples(
            st.lists(st.tuples(_NAMES, _VALUES), max_size=4),
            st.booleans(),  # sent as what may not be indexed
            st.sampled_from([None, None, None, 0, 60, 4096]),  # a new size of the table first
        ),
        max_size=30,
    )
)
def test_headers_are_what_hpack_makes_of_them_however_often_they_come(
    requests: list[tuple[list[tuple[str, str]], bool, int | None]],
) -> None:
    encoder, judge, reader = hpack.Encoder(), hpack.Decoder(), headers.Reader()
    for fields, sensitive, size in requests:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode([(n, v, sensitive) for n, v in (*REQUEST, *fields)])
        assert reader.request(block) == dict(judge.decode(block))


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z-]{1,200}", fullmatch=True),
            st.text(st.characters(max_codepoint=0xFF), max_size=20000),
        ),
        max_size=3,
    )
)
def test_blocks_of_ours_are_what_hpack_reads(fields: list[tuple[str, str]]) -> None:
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    expected = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in fields]
    assert [tuple(field) for field in decoder.decode(headers.block(fields), raw=True)] == expected


@given(blocks=st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_are_the_same_fields_or_refused_by_both(blocks: list[bytes]) -> None:
    judge, reader = hpack.Decoder(headers.MAX_LIST_BYTES), headers.Reader()
    for block in blocks:
        try:
            expected = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in judge.decode(block, raw=True)]
        except (hpack.HPACKError, IndexError):
            with pytest.raises(frames.ConnectionFailure):
                reader.fields(block)
            return
        assert reader.fields(block) == expected
