"""Writes tar members of layers: ustar where it fits, PAX records where it does not.

Spec: POSIX.1-2001 pax Interchange Format, image-spec layer.md#file-attributes
"""

from __future__ import annotations

from pycontainerd.lib.archive.tar import BLOCK

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.lib.archive.tar import Entry

_OCTAL_7 = 1 << 21
_OCTAL_11 = 1 << 33


def member_header(entry: Entry) -> bytes:
    """The header blocks of a member; `size_bytes` of data padded by `padding` must follow."""
    pax: dict[bytes, bytes] = {}
    name, linkname = entry.name, entry.linkname
    if len(name) > 100 or not name.isascii():
        pax[b"path"], name = name, name[:100]
    if len(linkname) > 100 or not linkname.isascii():
        pax[b"linkpath"], linkname = linkname, linkname[:100]
    seconds, nanos = divmod(entry.mtime_nanos, 1_000_000_000)
    if nanos or not 0 <= seconds < _OCTAL_11:
        pax[b"mtime"] = _pax_time(entry.mtime_nanos)
    numbers = {
        b"uid": (entry.uid, _OCTAL_7),
        b"gid": (entry.gid, _OCTAL_7),
        b"size": (entry.size_bytes, _OCTAL_11),
    }
    fitting = {}
    for key, (number, limit) in numbers.items():
        fitting[key] = number if number < limit else 0
        if number >= limit:
            pax[key] = b"%d" % number
    for name_, value in sorted(entry.xattrs.items()):
        pax[b"SCHILY.xattr." + name_] = value
    head = b""
    if pax:
        records = b"".join(_record(key, value) for key, value in sorted(pax.items()))
        base = b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2][:80]
        head = _block(base, b"x", len(records)) + records + padding(len(records))
    return head + _block(
        name,
        entry.kind,
        fitting[b"size"],
        mode=entry.mode,
        ids=(fitting[b"uid"], fitting[b"gid"]),
        mtime=seconds if 0 <= seconds < _OCTAL_11 else 0,
        linkname=linkname,
        device=(entry.devmajor, entry.devminor),
    )


def padding(size_bytes: int) -> bytes:
    """The zeros behind that much data."""
    return bytes(-size_bytes % BLOCK)


def end_of_archive() -> bytes:
    """Two zero blocks."""
    return bytes(2 * BLOCK)


def _pax_time(nanos: int) -> bytes:
    sign = b"-" if nanos < 0 else b""
    seconds, fraction = divmod(abs(nanos), 1_000_000_000)
    return sign + b"%d" % seconds + ((b".%09d" % fraction).rstrip(b"0") if fraction else b"")


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    size = len(body) + 1
    while len(b"%d" % size) + len(body) != size:
        size = len(b"%d" % size) + len(body)
    return b"%d" % size + body


def _block(
    name: bytes,
    kind: bytes,
    size: int,
    *,
    mode: int = 0o644,
    ids: tuple[int, int] = (0, 0),
    mtime: int = 0,
    linkname: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    block = bytearray(BLOCK)

    def put(at: int, value: bytes) -> None:
        block[at : at + len(value)] = value

    put(0, name)
    put(100, b"%07o\0" % mode)
    put(108, b"%07o\0" % ids[0])
    put(116, b"%07o\0" % ids[1])
    put(124, b"%011o\0" % size)
    put(136, b"%011o\0" % mtime)
    put(148, b" " * 8)
    put(156, kind)
    put(157, linkname)
    put(257, b"ustar\x0000")
    put(329, b"%07o\0" % device[0])
    put(337, b"%07o\0" % device[1])
    put(148, b"%06o\0 " % sum(block))
    return bytes(block)
