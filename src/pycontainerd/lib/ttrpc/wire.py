"""The three messages inside ttrpc frames: Request, Response and the Status in it.

Hand-coded, because every RPC of every program passes here twice and the general codec's tables need not be loaded
for a client that speaks to one service.

    ttrpc.Request   { 1 service, 2 method, 3 payload, 4 timeout_nano, 5 metadata [KeyValue { 1 key, 2 value }] }
    ttrpc.Response  { 1 status google.rpc.Status { 1 code, 2 message, 3 details }, 2 payload }

Spec: ttrpc request.proto, google.rpc.Status
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

_INT64_MASK: Final = (1 << 64) - 1


class Request:
    """A decoded request. Metadata keys are lower case; a repeated key keeps its first value, as containerd reads it."""

    __slots__ = ("metadata", "method", "payload", "service", "timeout_nanos")

    def __init__(
        self, service: str, method: str, payload: bytes, timeout_nanos: int, metadata: dict[str, str]
    ) -> None:
        self.service = service
        self.method = method
        self.payload = payload
        self.timeout_nanos = timeout_nanos
        self.metadata = metadata


def encode_request(
    service: str, method: str, payload: bytes, timeout_nanos: int, metadata: Mapping[str, str]
) -> bytes:
    """The bytes of a ttrpc.Request; metadata keys are lower-cased."""
    parts = [_text(1, service), _text(2, method), _bytes(3, payload)]
    if timeout_nanos:
        parts.append(b"\x20" + _varint(timeout_nanos & _INT64_MASK))
    for key, value in metadata.items():
        pair = _text(1, key.lower()) + _text(2, value)
        parts.append(b"\x2a" + _varint(len(pair)) + pair)  # an empty pair is still a pair
    return b"".join(parts)


def decode_request(data: bytes) -> Request:
    """Raises InvalidArgument for bytes that are no ttrpc.Request."""
    service = method = ""
    payload = b""
    timeout_nanos = 0
    metadata: dict[str, str] = {}
    for number, value in _fields(data):
        if number == 1:
            service = _to_text(value)
        elif number == 2:
            method = _to_text(value)
        elif number == 3:
            payload = _to_bytes(value)
        elif number == 4:
            timeout_nanos = _to_signed(value)
        elif number == 5:
            pair = dict(_fields(_to_bytes(value)))
            metadata.setdefault(_to_text(pair.get(1, b"")).lower(), _to_text(pair.get(2, b"")))
    return Request(service, method, payload, timeout_nanos, metadata)


def encode_response(code: int, message: str, payload: bytes) -> bytes:
    """The bytes of a ttrpc.Response; code 0 leaves an empty status, as the Go server sends it."""
    status = b""
    if code:
        status = b"\x08" + _varint(code & _INT64_MASK) + _text(2, message)
    head = b"\x0a" + _varint(len(status)) + status if code else b""
    return head + _bytes(2, payload)


def decode_response(data: bytes) -> tuple[int, str, bytes]:
    """(code, message, payload). Raises InvalidArgument for bytes that are no ttrpc.Response."""
    code, message, payload = 0, "", b""
    for number, value in _fields(data):
        if number == 1:
            status = dict(_fields(_to_bytes(value)))
            code = _to_signed(status.get(1, 0))
            message = _to_text(status.get(2, b""))
        elif number == 2:
            payload = _to_bytes(value)
    return code, message, payload


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(number: int, value: bytes) -> bytes:
    if not value:
        return b""
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while shift < 70:
        if at >= len(data):
            raise InvalidArgument("unexpected EOF")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & _INT64_MASK, at
        shift += 7
    raise InvalidArgument("variable length integer overflow")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Every field of a message in order: an int for varint and fixed fields, bytes for length-delimited ones."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise InvalidArgument("invalid field number")
        if kind == 0:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _read_varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise InvalidArgument(f"cannot parse reserved wire type {kind}")
        if size > len(data) - at:
            raise InvalidArgument("unexpected EOF")
        chunk = data[at : at + size]
        at += size
        yield number, chunk if kind == 2 else int.from_bytes(chunk, "little")


def _to_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise InvalidArgument("wrong wire type for a length-delimited field")
    return value


def _to_text(value: int | bytes) -> str:
    try:
        return _to_bytes(value).decode()
    except UnicodeDecodeError as e:
        raise InvalidArgument("string field contains invalid UTF-8") from e


def _to_signed(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise InvalidArgument("wrong wire type for an integer field")
    return value - (1 << 64) if value >> 63 else value
