"""Hand-made tar streams: members of any shape, also those that no tool would write."""

from __future__ import annotations

import gzip
import io

BLOCK = 512


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
    raw: dict[int, bytes] | None = None,
) -> bytes:
    """One ustar header block; `raw` overwrites bytes at offsets before the checksum is made."""
    block = bytearray(BLOCK)

    def put(at: int, value: bytes) -> None:
        block[at : at + len(value)] = value

    put(0, name[:100])
    put(100, b"%07o\0" % mode)
    put(108, b"%07o\0" % uid if uid < 1 << 21 else b"\x80" + uid.to_bytes(7, "big"))
    put(116, b"%07o\0" % gid if gid < 1 << 21 else b"\x80" + gid.to_bytes(7, "big"))
    put(124, b"%011o\0" % size)
    put(136, b"%011o\0" % mtime)
    put(156, kind)
    put(157, link[:100])
    put(257, b"ustar\x0000")
    put(329, b"%07o\0" % major)
    put(337, b"%07o\0" % minor)
    for at, value in (raw or {}).items():
        put(at, value)
    put(148, b" " * 8)
    put(148, b"%06o\0 " % sum(block))
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Data with its padding to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    """A regular file."""
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def directory(name: bytes, **fields: object) -> bytes:
    """A directory."""
    return header(name, kind=b"5", **{"mode": 0o755, **fields})  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes) -> bytes:
    """A symbolic link."""
    return header(name, kind=b"2", link=target, mode=0o777)


def hardlink(name: bytes, target: bytes) -> bytes:
    """A hard link."""
    return header(name, kind=b"1", link=target)


def pax(records: dict[bytes, bytes]) -> bytes:
    """A PAX header for the member that follows."""
    out = b""
    for key, value in records.items():
        body = b" " + key + b"=" + value + b"\n"
        size = len(body)
        while size != len(body) + len(str(size)):
            size = len(body) + len(str(size))
        out += str(size).encode() + body
    return header(b"PaxHeaders/x", kind=b"x", size=len(out)) + padded(out)


def end() -> bytes:
    """The two zero blocks at the end."""
    return bytes(2 * BLOCK)


def gzipped(data: bytes) -> bytes:
    """The stream as a gzip member."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as file_:
        file_.write(data)
    return out.getvalue()
