"""ttrpc frames: bytes of the wire specification, arbitrary cuts, the cap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib.errdefs import ResourceExhausted
from pycontainerd.lib.ttrpc.frame import (
    DATA,
    LARGE,
    MAX_PAYLOAD,
    NO_DATA,
    REMOTE_CLOSED,
    REQUEST,
    Frame,
    FrameReader,
    encode,
)

frames = st.builds(
    Frame,
    stream_id=st.integers(0, 2**32 - 1),
    kind=st.integers(0, 255),
    flags=st.integers(0, 255),
    payload=st.binary(max_size=300),
)


def test_header_is_length_stream_type_flags_in_big_endian() -> None:
    assert encode(3, REQUEST, 0, b"hi").hex() == "000000020000000301006869"
    assert encode(1, DATA, REMOTE_CLOSED | NO_DATA, b"").hex() == "00000000000000010305"


@given(st.lists(frames, max_size=5), st.data())
def test_frames_survive_any_cut_of_the_stream(expected: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode(f.stream_id, f.kind, f.flags, f.payload) for f in expected)
    reader, got = FrameReader(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert got == expected
    assert reader.buffered_bytes == 0


@given(st.integers(LARGE - 2, LARGE + 2), st.lists(st.integers(1, 40_000), min_size=1, max_size=8))
def test_large_payloads_survive_any_cut_too(size: int, cuts: list[int]) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    stream = encode(1, DATA, 0, payload[:7], size - 7) + payload[7:size] + encode(3, DATA, 0, b"next")
    reader, got = FrameReader(), []
    for cut in cuts:
        got += reader.feed(stream[:cut])
        stream = stream[cut:]
    got += reader.feed(stream)
    assert [(f.stream_id, bytes(f.payload)) for f in got] == [(1, payload[:size]), (3, b"next")]
    assert reader.is_between_frames


@given(st.integers(LARGE - 2, 3 * LARGE), st.lists(st.integers(1, 90_000), min_size=1, max_size=8))
def test_what_is_received_into_the_room_is_the_same(size: int, cuts: list[int]) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    stream = encode(1, DATA, 0, payload[:7], size - 7) + payload[7:size] + encode(3, DATA, 0, b"next")
    reader, got = FrameReader(), []
    for cut in cuts:
        if (room := reader.room()) is None:
            got += reader.feed(stream[:cut])
            stream = stream[cut:]
            continue
        piece = stream[: min(cut, len(room))]
        room[: len(piece)] = piece
        got += reader.filled(len(piece))
        stream = stream[len(piece) :]
    got += reader.feed(stream)
    assert [(f.stream_id, bytes(f.payload)) for f in got] == [(1, payload[:size]), (3, b"next")]
    assert reader.is_between_frames


def test_there_is_room_for_the_rest_of_a_large_payload_only() -> None:
    reader = FrameReader()
    stream = encode(1, DATA, 0, b"", 2 * LARGE) + bytes(LARGE)
    assert reader.room() is None
    assert reader.feed(stream) == []
    room = reader.room()
    assert room is not None
    assert len(room) == LARGE
    assert reader.filled(1) == []
    assert reader.room() is None


@given(st.binary(max_size=4000))
def test_any_bytes_are_taken_without_error_and_without_hoarding(junk: bytes) -> None:
    reader = FrameReader()
    reader.feed(junk)
    assert reader.buffered_bytes <= len(junk)


def test_largest_payload_passes_and_one_byte_more_does_not() -> None:
    largest = bytes(MAX_PAYLOAD)
    (whole,) = FrameReader().feed(encode(1, REQUEST, 0, largest))
    assert whole.payload == largest
    with pytest.raises(
        ResourceExhausted, match="message length 4194305 exceed maximum message size of 4194304"
    ):
        encode(1, REQUEST, 0, largest + b"x")


def test_oversized_frame_is_reported_at_once_thrown_away_and_survived() -> None:
    reader = FrameReader()
    (oversize,) = reader.feed((MAX_PAYLOAD + 1).to_bytes(4, "big") + bytes.fromhex("0000000701") + b"\0")
    assert (oversize.stream_id, oversize.oversize_bytes, oversize.payload) == (7, MAX_PAYLOAD + 1, b"")
    for _ in range(4):
        assert reader.feed(bytes(1 << 20)) == []
        assert reader.buffered_bytes == 0
    assert reader.feed(b"\0" + encode(9, REQUEST, 0, b"next")) == [Frame(9, REQUEST, 0, b"next")]
