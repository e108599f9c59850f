"""Tar headers read by hand: ustar, PAX, GNU long names, base-256 numbers, GNU and PAX sparse maps.

A direct parser takes a fifth of tarfile's time per member and refuses what tarfile guesses about.

Spec: POSIX.1-2001 pax Interchange Format, GNU tar manual (Standard, Sparse Formats), image-spec layer.md
"""

from __future__ import annotations

from zlib import adler32

from pycontainerd.lib import errdefs

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.lib.archive.stream import LayerStream

BLOCK: Final = 512
SPECIAL_CAP: Final = 1 << 20  # PAX records and GNU long names, as archive/tar caps them
SPARSE_CAP: Final = 1 << 16  # fragments of one file
_ZERO: Final = bytes(BLOCK)
_OCTAL: Final = b"01234567"

REGULAR, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"


class Entry:
    """One member. Paths are bytes as they stand in the archive; sizes in bytes, times in nanoseconds."""

    __slots__ = (
        "devmajor", "devminor", "gid", "kind", "linkname", "mode", "mtime_nanos", "name", "size_bytes", "sparse",
        "stored_bytes", "uid", "xattrs",
    )  # fmt: skip

    def __init__(self, kind: bytes, name: bytes) -> None:
        self.kind = kind
        self.name = name
        self.linkname = b""
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size_bytes = 0
        self.stored_bytes = 0
        self.mtime_nanos = 0
        self.devmajor = 0
        self.devminor = 0
        self.xattrs: dict[bytes, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None


def _bad(what: str) -> errdefs.Unknown:
    return errdefs.Unknown(f"tar: invalid header: {what}")


def parse_number(field: bytes, what: str) -> int:
    """An octal or base-256 header field; nothing else passes (int() would take `1_0` and ` 0`)."""
    text = field.strip(b" \0")
    if text.isdigit():  # nearly always
        try:
            return int(text, 8)
        except ValueError:
            raise _bad(f"{what} {field!r} is no octal number") from None
    if field[0] & 0x80:
        # Two's complement, the first bit only marks the form (GNU).
        value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        return value
    if b"\0" in text:
        text = text[: text.index(b"\0")]
    if text.translate(None, _OCTAL):
        raise _bad(f"{what} {field!r} is no octal number")
    return int(text, 8) if text else 0


def parse_decimal(text: bytes, what: str) -> int:
    """A PAX decimal: ASCII digits with an optional minus."""
    digits = text.removeprefix(b"-")
    if not digits or set(digits) - frozenset(b"0123456789") or len(digits) > 20:
        raise _bad(f"{what} {text[:40]!r} is no decimal number")
    return int(text)


def parse_time(text: bytes) -> int:
    """A PAX time, `seconds[.fraction]`, as nanoseconds."""
    seconds, _, fraction = text.partition(b".")
    whole = parse_decimal(seconds, "time")
    nanos = parse_decimal((fraction + b"000000000")[:9], "time") if fraction else 0
    return whole * 1_000_000_000 + (-nanos if seconds.startswith(b"-") else nanos)


def parse_pax(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records `length key=value\\n` in order; GNU.sparse.offset may repeat."""
    records = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 21)
        if space < 0:
            raise _bad("PAX record without a length")
        end = at + parse_decimal(data[at:space], "PAX length")
        if end <= space or end > len(data) or data[end - 1] != 0x0A:
            raise _bad("PAX record of a wrong length")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise _bad("PAX record without `=`")
        records.append((key, value))
        at = end
    return records


def _sum(data: bytes) -> int:
    """The sum of at most 256 bytes, in a tenth of sum()'s time: of so few, Adler-32's first half is that and one. RFC 1950"""
    return (adler32(data) & 0xFFFF) - 1


class _Pending:
    """What special headers said about the member that follows."""

    def __init__(self) -> None:
        self.pax: list[tuple[bytes, bytes]] = []
        self.name = b""
        self.linkname = b""


class Reader:
    """Members of a stream. After `next_entry` the caller reads or skips `stored_bytes`, then calls `end_entry`."""

    def __init__(self, stream: LayerStream) -> None:
        self._stream = stream
        self._padding = 0

    def next_entry(self) -> Entry | None:
        """The next member's header, or None at the end. Unknown when the bytes are no tar."""
        pending = _Pending()
        while True:
            block = self._block()
            if block is None:
                return None
            kind = block[156:157]
            if kind in b"xLKg" and kind != b"\0":
                self._special(kind, block, pending)
                continue
            entry = self._entry(kind, block, pending)
            self._padding = -entry.stored_bytes % BLOCK
            return entry

    def end_entry(self) -> None:
        """Skips the padding behind a member's data."""
        if self._padding:
            self._stream.skip(self._padding)
            self._padding = 0

    def _block(self) -> bytes | None:
        """A header block with a good checksum; None at the end (a zero block, or nothing at all)."""
        if self._stream.at_end():
            return None
        block = self._stream.read(BLOCK)
        if block == _ZERO:
            return None
        wanted = parse_number(block[148:156], "checksum")
        plain = _sum(block[:256]) + _sum(block[256:]) - sum(block[148:156]) + 8 * 32
        if wanted != plain:
            signed = plain - 256 * sum(1 for byte in block[:148] + block[156:] if byte > 127)
            if wanted != signed:
                raise _bad("wrong checksum")
        return block

    def _special(self, kind: bytes, block: bytes, pending: _Pending) -> None:
        size = parse_number(block[124:136], "size")
        if not 0 <= size <= SPECIAL_CAP:
            raise _bad(f"special header of {size} bytes")
        data = self._stream.read(size)
        self._stream.skip(-size % BLOCK)
        if kind == b"x":
            pending.pax = parse_pax(data)
        elif kind == b"L":
            pending.name = data.rstrip(b"\0")
        elif kind == b"K":
            pending.linkname = data.rstrip(b"\0")
        # `g` records describe the archive, not its members' contents: containerd drops them as well.

    def _entry(self, kind: bytes, block: bytes, pending: _Pending) -> Entry:
        entry = Entry(kind, block[0:100].partition(b"\0")[0])
        if block[157]:
            entry.linkname = block[157:257].partition(b"\0")[0]
        entry.mode = parse_number(block[100:108], "mode")
        entry.uid = parse_number(block[108:116], "uid")
        entry.gid = parse_number(block[116:124], "gid")
        entry.size_bytes = parse_number(block[124:136], "size")
        entry.mtime_nanos = parse_number(block[136:148], "mtime") * 1_000_000_000
        if kind in (CHAR, BLOCKDEV):
            entry.devmajor = parse_number(block[329:337], "devmajor")
            entry.devminor = parse_number(block[337:345], "devminor")
        if block[345] and block[257:263] == b"ustar\0":
            entry.name = block[345:500].partition(b"\0")[0] + b"/" + entry.name
        if pending.name:
            entry.name = pending.name
        if pending.linkname:
            entry.linkname = pending.linkname
        if pending.pax:
            _apply_pax(entry, pending.pax)
        self._settle(entry, block, dict(pending.pax) if pending.pax else {})
        return entry

    def _settle(self, entry: Entry, block: bytes, pax: dict[bytes, bytes]) -> None:
        """Kind, name and sizes made consistent."""
        entry.stored_bytes = entry.size_bytes
        if entry.kind in b"\x007":
            entry.kind = DIRECTORY if entry.name.endswith(b"/") else REGULAR
        if entry.kind not in (REGULAR, b"S"):
            entry.size_bytes = entry.stored_bytes = 0
        if entry.size_bytes < 0:
            raise _bad(f"negative size of {entry.name[:80]!r}")
        if b"\0" in entry.name or b"\0" in entry.linkname:
            raise _bad("NUL in a name")
        if entry.kind == b"S":
            self._old_sparse(entry, block)
        elif b"GNU.sparse.major" in pax or b"GNU.sparse.map" in pax or b"GNU.sparse.numblocks" in pax:
            self._pax_sparse(entry, pax)
        if entry.sparse is not None:
            _check_sparse(entry)

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        """GNU's own sparse header: four fragments here, more in extension blocks."""
        entry.kind = REGULAR
        entry.sparse = _sparse_rows(block[386:482])
        entry.size_bytes = parse_number(block[483:495], "real size")
        extended = block[482]
        while extended:
            block = self._stream.read(BLOCK)
            entry.sparse += _sparse_rows(block[:504])
            extended = block[504]
            if len(entry.sparse) > SPARSE_CAP:
                raise _bad("sparse map too long")

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        if pax.get(b"GNU.sparse.name"):
            entry.name = pax[b"GNU.sparse.name"]
        size = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
        if size is None:
            raise _bad("sparse file without its size")
        entry.size_bytes = parse_decimal(size, "sparse size")
        if pax.get(b"GNU.sparse.major") == b"1":
            entry.sparse = self._sparse_map_in_data(entry)
        else:
            numbers = [
                parse_decimal(n, "sparse map") for n in pax.get(b"GNU.sparse.map", b"").split(b",") if n
            ]
            entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=False))

    def _sparse_map_in_data(self, entry: Entry) -> list[tuple[int, int]]:
        """PAX 1.0: decimal lines in front of the data, padded to whole blocks."""
        text = b""
        wanted = -1
        lines: list[bytes] = []
        while wanted < 0 or len(lines) < 1 + 2 * wanted:
            if entry.stored_bytes < BLOCK or len(text) > SPECIAL_CAP:
                raise _bad("sparse map too long")
            text += self._stream.read(BLOCK)
            entry.stored_bytes -= BLOCK
            lines = text.split(b"\n")[:-1]
            if lines and wanted < 0:
                wanted = parse_decimal(lines[0], "sparse count")
                if not 0 <= wanted <= SPARSE_CAP:
                    raise _bad("sparse map too long")
        numbers = [parse_decimal(line, "sparse map") for line in lines[1 : 1 + 2 * wanted]]
        return list(zip(numbers[::2], numbers[1::2], strict=True))


def _sparse_rows(data: bytes) -> list[tuple[int, int]]:
    rows = []
    for at in range(0, len(data), 24):
        if not data[at]:
            break
        rows.append(
            (parse_number(data[at : at + 12], "sparse"), parse_number(data[at + 12 : at + 24], "sparse"))
        )
    return rows


def _check_sparse(entry: Entry) -> None:
    assert entry.sparse is not None
    at = 0
    for offset, length in entry.sparse:
        if offset < at or length < 0 or offset + length > entry.size_bytes:
            raise _bad(f"sparse map of {entry.name[:80]!r} is out of order")
        at = offset + length
    if sum(length for _, length in entry.sparse) != entry.stored_bytes:
        raise _bad(f"sparse map of {entry.name[:80]!r} does not match its data")


def _apply_pax(entry: Entry, records: list[tuple[bytes, bytes]]) -> None:
    offsets: list[int] = []
    lengths: list[int] = []
    for key, value in records:
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.linkname = value
        elif key == b"size":
            entry.size_bytes = parse_decimal(value, "size")
        elif key == b"uid":
            entry.uid = parse_decimal(value, "uid")
        elif key == b"gid":
            entry.gid = parse_decimal(value, "gid")
        elif key == b"mtime":
            entry.mtime_nanos = parse_time(value)
        elif key.startswith(b"SCHILY.xattr."):
            entry.xattrs[key.removeprefix(b"SCHILY.xattr.")] = value
        elif key == b"GNU.sparse.offset":
            offsets.append(parse_decimal(value, "sparse offset"))
        elif key == b"GNU.sparse.numbytes":
            lengths.append(parse_decimal(value, "sparse length"))
    if offsets:
        pairs = ",".join(f"{o},{n}" for o, n in zip(offsets, lengths, strict=False))
        records.append((b"GNU.sparse.map", pairs.encode()))
