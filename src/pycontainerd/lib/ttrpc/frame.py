"""Frames of ttrpc: bytes in, frames out, without I/O.

     0               4               8      9      10
    +---------------+---------------+------+------+---------+
    | length u32 BE | stream u32 BE | type | flags | payload |
    +---------------+---------------+------+------+---------+

`length` counts the payload alone and is at most 4 MiB. The body of a longer frame is thrown away as it arrives, so a
peer that announces 4 GiB costs no memory, and the stream goes on after it.

Spec: ttrpc PROTOCOL.md, "Message Frame"
"""

from __future__ import annotations

from struct import Struct

from pycontainerd.lib.errdefs import ResourceExhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

MAX_PAYLOAD: Final = 4 << 20  # bytes
LARGE: Final = 64 << 10
REQUEST: Final = 1
RESPONSE: Final = 2
DATA: Final = 3

REMOTE_CLOSED: Final = 0x1
REMOTE_OPEN: Final = 0x2
NO_DATA: Final = 0x4

_HEADER: Final = Struct(">IIBB")
HEADER_SIZE: Final = _HEADER.size


class Frame:
    """One frame. `oversize_bytes` is its announced length when that was over the cap; its payload is then empty.

    A large payload may be a bytearray, which is the receiver's alone: that spares a copy of it.
    """

    __slots__ = ("flags", "kind", "oversize_bytes", "payload", "stream_id")

    def __init__(
        self, stream_id: int, kind: int, flags: int, payload: bytes, oversize_bytes: int = 0
    ) -> None:
        self.stream_id = stream_id
        self.kind = kind
        self.flags = flags
        self.payload = payload
        self.oversize_bytes = oversize_bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Frame(stream_id={self.stream_id}, kind={self.kind}, flags={self.flags}, {len(self.payload)} bytes)"

    def _key(self) -> tuple[int, int, int, bytes, int]:
        return self.stream_id, self.kind, self.flags, self.payload, self.oversize_bytes


def oversize_error(size_bytes: int) -> ResourceExhausted:
    """The status both sides give for a payload over the cap."""
    return ResourceExhausted(f"message length {size_bytes} exceed maximum message size of {MAX_PAYLOAD}")


def encode(stream_id: int, kind: int, flags: int, payload: bytes, more_bytes: int = 0) -> bytes:
    """The bytes of one frame, less the last `more_bytes` of its payload. Raises ResourceExhausted for one over 4 MiB."""
    length = len(payload) + more_bytes
    if length > MAX_PAYLOAD:
        raise oversize_error(length)
    return _HEADER.pack(length, stream_id, kind, flags) + payload


class FrameReader:
    """Cuts a byte stream into frames; holds at most one header and one payload within the cap."""

    __slots__ = ("_buffer", "_discard", "_has", "_header")

    def __init__(self) -> None:
        self._header = b""  # or its beginning
        self._buffer = bytearray()  # room for a payload that is not whole yet; empty between payloads
        self._has = 0  # bytes of it
        self._discard = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether nothing of a frame is held or awaited."""
        return not self._header and not self._discard

    @property
    def buffered_bytes(self) -> int:
        """How much of an unfinished frame is held."""
        return len(self._header) + self._has

    def room(self) -> memoryview | None:
        """Where the rest of a large payload belongs, for who can receive into it and then says so to `filled`; None for less."""
        if len(self._buffer) - self._has < LARGE:
            return None
        return memoryview(self._buffer)[self._has :]

    def filled(self, size_bytes: int) -> list[Frame]:
        """So many of the next bytes of the stream are in `room` already: as `feed`."""
        frames: list[Frame] = []
        self._has += size_bytes
        self._finish_if_whole(frames)
        return frames

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Takes the next bytes of the stream and gives the frames that are now whole, in order."""
        frames: list[Frame] = []
        view = memoryview(data)
        while view:
            if self._discard:
                skipped = min(self._discard, len(view))
                self._discard -= skipped
                view = view[skipped:]
            elif self._buffer:
                view = self._go_on(view, frames)
            else:
                view = self._begin(view, frames)
        return frames

    def _begin(self, view: memoryview, frames: list[Frame]) -> memoryview:
        """Takes a header, or what there is of it, and the payload if it is whole; gives what comes after."""
        at = HEADER_SIZE - len(self._header)
        self._header += bytes(view[:at])
        if len(self._header) < HEADER_SIZE:
            return view[at:]
        length, stream_id, kind, flags = _HEADER.unpack(self._header)
        end = at + length
        if length > MAX_PAYLOAD:
            frames.append(Frame(stream_id, kind, flags, b"", length))
            self._discard = length
        elif len(view) >= end:
            frames.append(Frame(stream_id, kind, flags, bytes(view[at:end])))
            self._header = b""
            return view[end:]
        else:
            self._buffer = bytearray(length)
            return self._go_on(view[at:], frames)
        self._header = b""
        return view[at:]

    def _go_on(self, view: memoryview, frames: list[Frame]) -> memoryview:
        """Takes more of a payload that came in pieces."""
        end = min(self._has + len(view), len(self._buffer))
        taken = end - self._has
        self._buffer[self._has : end] = view[:taken]
        self._has = end
        self._finish_if_whole(frames)
        return view[taken:]

    def _finish_if_whole(self, frames: list[Frame]) -> None:
        if self._has < len(self._buffer):
            return
        length, stream_id, kind, flags = _HEADER.unpack(self._header)
        payload: Any = self._buffer if kind == DATA and length >= LARGE else bytes(self._buffer)
        frames.append(Frame(stream_id, kind, flags, payload))
        self._header, self._buffer, self._has = b"", bytearray(), 0
