"""Header blocks: read once and remembered for as long as the same bytes mean the same; written without any state.

HPACK itself is the hpack library's. A client that repeats a call sends the same bytes, which are references into a
table: nothing has to be decoded again until that table has changed.

Spec: RFC 7541, RFC 9113 section 8
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import hpack

from pycontainerd.daemon.server.http2.frames import COMPRESSION_ERROR, ConnectionFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_LIST_BYTES: Final = 1 << 20
NO_TABLE: Final = (
    b"\x20"  # a dynamic table of no entries: at the head of the first block after the client shrank it
)
_REMEMBERED: Final = 64
_SIZE_UPDATE: Final = 0x20
_REQUIRED: Final = frozenset((":method", ":scheme", ":path"))
_PSEUDO: Final = _REQUIRED | {":authority"}
_OF_A_CONNECTION: Final = frozenset(
    ("connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade")
)


class Malformed(Exception):
    """A request whose headers break HTTP's rules: its stream is reset, the connection goes on."""


class Reader:
    """Reads the header blocks of one connection, in the order they come."""

    __slots__ = ("_decoder", "_known")

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(MAX_LIST_BYTES)
        self._known: dict[bytes, Mapping[str, str]] = {}

    def request(self, block: bytes) -> Mapping[str, str]:
        """A request's headers, which the caller must not change; the last of a name counts.

        Raises Malformed, and ConnectionFailure for bytes that are no header block.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        entries = self._decoder.header_table.dynamic_entries
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
            raw: Iterable[tuple[bytes, bytes]] = self._decoder.decode(block, raw=True)
        except hpack.HPACKError as e:
            raise ConnectionFailure(COMPRESSION_ERROR, f"header block: {e}") from e
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]


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
