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
    from typing import Final

MAX_PAYLOAD: Final = 4 << 20  # bytes
REQUEST: Final = 1
RESPONSE: Final = 2
DATA: Final = 3

REMOTE_CLOSED: Final = 0x1
REMOTE_OPEN: Final = 0x2
NO_DATA: Final = 0x4

_HEADER: Final = Struct(">IIBB")
HEADER_SIZE: Final = _HEADER.size


class Frame:
    """One frame. `oversize_bytes` is its announced length when that was over the cap; its payload is then empty."""

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


def encode(stream_id: int, kind: int, flags: int, payload: bytes) -> bytes:
    """The bytes of one frame. Raises ResourceExhausted for a payload over 4 MiB."""
    if len(payload) > MAX_PAYLOAD:
        raise oversize_error(len(payload))
    return _HEADER.pack(len(payload), stream_id, kind, flags) + payload


class FrameReader:
    """Cuts a byte stream into frames; holds at most one header and one payload within the cap."""

    __slots__ = ("_buffer", "_discard")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._discard = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether nothing of a frame is held or awaited."""
        return not self._buffer and not self._discard

    @property
    def buffered_bytes(self) -> int:
        """How much of an unfinished frame is held."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Takes the next bytes of the stream and gives the frames that are now whole, in order."""
        frames: list[Frame] = []
        view = memoryview(data)
        while view:
            if self._discard:
                skipped = min(self._discard, len(view))
                self._discard -= skipped
                view = view[skipped:]
                continue
            view = view[self._take(view) :]
            frame = self._next()
            if frame is not None:
                frames.append(frame)
        return frames

    def _take(self, view: memoryview) -> int:
        """Moves what the current frame still lacks from `view` into the buffer; gives how many bytes it took."""
        buffer = self._buffer
        wanted = HEADER_SIZE
        if len(buffer) >= HEADER_SIZE:
            wanted += int.from_bytes(buffer[:4], "big")
        taken = min(wanted - len(buffer), len(view))
        buffer += view[:taken]
        return taken

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < HEADER_SIZE:
            return None
        length, stream_id, kind, flags = _HEADER.unpack_from(buffer)
        if length > MAX_PAYLOAD:
            buffer.clear()
            self._discard = length
            return Frame(stream_id, kind, flags, b"", length)
        if len(buffer) < HEADER_SIZE + length:
            return None
        payload = bytes(buffer[HEADER_SIZE:])
        buffer.clear()
        return Frame(stream_id, kind, flags, payload)
