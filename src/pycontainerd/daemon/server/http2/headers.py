"""Header blocks: read once and remembered for as long as the same bytes mean the same; written without any state.

Huffman's code is the hpack library's. A client that repeats a call sends the same bytes, which are
references into the table: nothing has to be decoded again until that has changed.

Spec: RFC 7541, RFC 9113 section 8
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import hpack
import hpack.huffman_table
import hpack.table

from pycontainerd.daemon.server.http2.frames import COMPRESSION_ERROR, ConnectionFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_LIST_BYTES: Final = 1 << 20
NO_TABLE: Final = (
    b"\x20"  # a dynamic table of no entries: at the head of the first block after the client shrank it
)
_REMEMBERED: Final = 64
_SIZE_UPDATE: Final = 0x20
_TABLE_BYTES: Final = 4096  # what a client may use when nothing else was agreed on; we never raise it
_MAX_SHIFT: Final = 28
_SHORT_BYTES: Final = 128
_STATIC: Final = [(n.decode(), v.decode()) for n, v in hpack.table.HeaderTable.STATIC_TABLE]
_REQUIRED: Final = frozenset((":method", ":scheme", ":path"))
_PSEUDO: Final = _REQUIRED | {":authority"}
_OF_A_CONNECTION: Final = frozenset(
    ("connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade")
)


class Malformed(Exception):
    """A request whose headers break HTTP's rules: its stream is reset, the connection goes on."""


class _Table:
    """RFC 7541 section 2.3.2: the fields that were sent before, the newest first."""

    __slots__ = ("_bytes", "_max_bytes", "entries")

    def __init__(self) -> None:
        self.entries: deque[tuple[str, str]] = deque()
        self._bytes = 0
        self._max_bytes = _TABLE_BYTES

    def add(self, field: tuple[str, str]) -> None:
        """The oldest go to make room; a field that finds none leaves the table empty."""
        self.entries.appendleft(field)
        self._bytes += _size(field)
        self._evict()

    def resize(self, max_bytes: int) -> None:
        """The client's wish, up to what we allow."""
        if max_bytes > _TABLE_BYTES:
            raise hpack.InvalidTableSizeError(f"a table of {max_bytes} bytes")
        self._max_bytes = max_bytes
        self._evict()

    def _evict(self) -> None:
        while self._bytes > self._max_bytes:
            self._bytes -= _size(self.entries.pop())


class Reader:
    """Reads the header blocks of one connection, in the order they come."""

    __slots__ = ("_known", "_table")

    def __init__(self) -> None:
        self._table = _Table()
        self._known: dict[bytes, Mapping[str, str]] = {}

    def request(self, block: bytes) -> Mapping[str, str]:
        """A request's headers, which the caller must not change; the last of a name counts.

        Raises Malformed, and ConnectionFailure for bytes that are no header block.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        entries = self._table.entries
        size, newest = len(entries), entries[0] if entries else None
        fields = self.fields(block)
        if len(entries) != size or (size and entries[0] is not newest):
            self._known.clear()  # numbers of entries have shifted
            return _checked(fields)
        headers = _checked(fields)
        if block[0] & 0xE0 != _SIZE_UPDATE:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = headers
        return headers

    def fields(self, block: bytes) -> list[tuple[str, str]]:
        """Names and values of any block; ConnectionFailure for bytes that are none."""
        try:
            return self._decode(block)
        except (hpack.HPACKError, IndexError) as e:
            raise ConnectionFailure(COMPRESSION_ERROR, f"header block: {e}") from e

    def _decode(self, block: bytes) -> list[tuple[str, str]]:
        """RFC 7541 section 6: a field per round."""
        fields: list[tuple[str, str]] = []
        at, end, size = 0, len(block), 0
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 0x7F)
                field = self._entry(index)
            elif first & 0x40:
                field, at = self._literal(block, at, 0x3F)
                self._table.add(field)
            elif first & 0x20:
                if fields:
                    raise hpack.HPACKDecodingError("a size of the table behind a field")
                max_bytes, at = _integer(block, at, 0x1F)
                self._table.resize(max_bytes)
                continue
            else:
                field, at = self._literal(block, at, 0x0F)
            size += _size(field)
            if size > MAX_LIST_BYTES:
                raise hpack.OversizedHeaderListError(f"more than {MAX_LIST_BYTES} bytes")
            fields.append(field)
        return fields

    def _entry(self, index: int) -> tuple[str, str]:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        if index == 0:
            raise hpack.InvalidTableIndexError("field 0")
        return self._table.entries[index - len(_STATIC) - 1]

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[tuple[str, str], int]:
        index, at = _integer(block, at, mask)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at


def _size(field: tuple[str, str]) -> int:
    """RFC 7541 section 4.1."""
    return 32 + len(field[0]) + len(field[1])


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """RFC 7541 section 5.1: the number that begins in the low bits of a byte, and where it ends."""
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    for shift in range(0, _MAX_SHIFT, 7):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise hpack.HPACKDecodingError("a number without an end")


def _string(block: bytes, at: int) -> tuple[str, int]:
    """RFC 7541 section 5.2: a string as Latin-1, which never fails, and where it ends."""
    is_coded = block[at] & 0x80
    length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise hpack.HPACKDecodingError("a string without its end")
    data = block[at:end]
    if not is_coded:
        return data.decode("latin-1"), end
    return _plain(data) if length <= _SHORT_BYTES else _decoded(data), end


def _decoded(data: bytes) -> str:
    plain: bytes = hpack.huffman_table.decode_huffman(data)
    return plain.decode("latin-1")


_plain: Final = lru_cache(maxsize=256)(_decoded)  # names of methods and clients, the same in every connection


def _checked(fields: list[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    regular = False
    for name, value in fields:
        if name.startswith(":"):
            if regular or name in headers or name not in _PSEUDO:
                raise Malformed(f"{name} where it may not stand")
        elif not name or name.lower() != name or name in _OF_A_CONNECTION:
            raise Malformed(f"a header named {name!r}")
        elif name == "te" and value != "trailers":
            raise Malformed(f"te: {value}")
        else:
            regular = True
        headers[name] = value
    if not headers.keys() >= _REQUIRED:
        raise Malformed("a request without method, scheme or path")
    return headers


def block(fields: Iterable[tuple[str, str]]) -> bytes:
    """A header block that neither needs nor changes the client's table; values are Latin-1."""
    return b"".join(_literal(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields)


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + _length(len(name)) + name + _length(len(value)) + value


def _length(size: int) -> bytes:
    """RFC 7541 section 5.1, of a string that isn't Huffman coded: seven bits here, seven in every byte that follows."""
    if size < 0x7F:
        return bytes((size,))
    out = bytearray((0x7F,))
    size -= 0x7F
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)
