"""Frames of HTTP/2: their heads, flags, settings and error codes.

Spec: RFC 9113 sections 4, 6 and 7
"""

from __future__ import annotations

from struct import Struct
from typing import Final

HEAD: Final = Struct(">IBI")  # length and type share the first four bytes
HEAD_BYTES: Final = 9
MAX_PAYLOAD_BYTES: Final = 16384  # what a peer may send when nothing else was agreed on; we never raise it
MAX_WINDOW_BYTES: Final = 2**31 - 1
DEFAULT_WINDOW_BYTES: Final = 65535
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

ACK: Final = 0x1  # of SETTINGS and PING
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
FLOW_CONTROL_ERROR: Final = 3
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11

_SETTING: Final = Struct(">HI")


class ConnectionFailure(Exception):
    """The peer broke a rule that ends the whole connection."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(what)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """A whole frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values.items()))


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings of a frame, in order; ConnectionFailure for what is out of their range."""
    if len(payload) % _SETTING.size:
        raise ConnectionFailure(FRAME_SIZE_ERROR, "SETTINGS of a broken length")
    found: list[tuple[int, int]] = list(_SETTING.iter_unpack(payload))
    for key, value in found:
        if key == ENABLE_PUSH and value > 1:
            raise ConnectionFailure(PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")
        if key == INITIAL_WINDOW_SIZE and value > MAX_WINDOW_BYTES:
            raise ConnectionFailure(FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE of {value}")
        if key == MAX_FRAME_SIZE and not MAX_PAYLOAD_BYTES <= value < 1 << 24:
            raise ConnectionFailure(PROTOCOL_ERROR, f"MAX_FRAME_SIZE of {value}")
    return found


def number(payload: bytes, kind: str) -> int:
    """The one 32-bit number of a RST_STREAM or WINDOW_UPDATE frame, without its reserved bit."""
    if len(payload) != 4:
        raise ConnectionFailure(FRAME_SIZE_ERROR, f"{kind} of {len(payload)} bytes")
    return int.from_bytes(payload, "big")


def without_padding(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFailure(FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFailure(PROTOCOL_ERROR, "more padding than there is payload")
    return payload[1 : len(payload) - padding]
