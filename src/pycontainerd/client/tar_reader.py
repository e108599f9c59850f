"""Members of a tar stream, one after the other, as image archives hold them: nothing is extracted.

Spec: tar(5): ustar, GNU and PAX headers
"""

from __future__ import annotations

from pycontainerd.lib import errdefs
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final, Protocol

    class Source(Protocol):
        """What an archive is read from."""

        def read(self, size: int, /) -> bytes:
            """At most `size` bytes; fewer only at the end."""
            ...


BLOCK: Final = 512
CHUNK: Final = 1 << 20


class Member:
    """One entry of a tar stream: a regular file's bytes come from `read`, or a link's target."""

    __slots__ = ("kind", "link", "name", "size")

    def __init__(self, name: str, kind: str, size: int, link: str) -> None:
        self.name = name
        self.kind = kind
        self.size = size
        self.link = link


class TarReader:
    """Members of a ustar, GNU or PAX stream in order; InvalidArgument (`unexpected EOF`) for anything else."""

    def __init__(self, stream: Source) -> None:
        self._stream = stream
        self._left = 0

    def __iter__(self) -> Iterator[Member]:
        overrides: dict[str, str] = {}
        while True:
            self._skip(self._left)
            self._left = 0
            header = self._exactly(BLOCK)
            if not header.strip(b"\0"):
                return
            size = _number(header[124:136])
            kind = chr(header[156])
            if kind in "xgLK":
                data = self._exactly(_checked(size, CHUNK))
                self._skip(-size % BLOCK)
                overrides.update(_overrides(kind, data))
                continue
            size = int(overrides.get("size", size))
            name = overrides.get("path") or _text(header[:100])
            prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
            if prefix and "path" not in overrides:
                name = f"{prefix}/{name}"
            link = overrides.get("linkpath") or _text(header[157:257])
            overrides = {}
            member = Member(
                clean(name), {"0": "file", "\0": "file", "2": "link"}.get(kind, "other"), size, link
            )
            self._left = size + (-size % BLOCK)
            self._pad = -size % BLOCK
            yield member

    def read(self) -> Iterator[bytes]:
        """The bytes of the member at hand."""
        while self._left > self._pad:
            chunk = self._stream.read(min(CHUNK, self._left - self._pad))
            if not chunk:
                raise errdefs.InvalidArgument("unexpected EOF", hint="the archive is cut off")
            self._left -= len(chunk)
            yield chunk

    def document(self) -> bytes:
        """The whole member, which must not be larger than a document may be."""
        _checked(self._left - self._pad, oci.MAX_DOCUMENT_BYTES)
        return b"".join(self.read())

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise errdefs.InvalidArgument("unexpected EOF", hint="is it a tar archive, and whole?")
        return data

    def _skip(self, size: int) -> None:
        while size > 0:
            chunk = self._stream.read(min(CHUNK, size))
            if not chunk:
                raise errdefs.InvalidArgument("unexpected EOF", hint="the archive is cut off")
            size -= len(chunk)


def _checked(size: int, limit: int) -> int:
    if not 0 <= size <= limit:
        raise errdefs.InvalidArgument(
            f"an entry of the archive has {size} bytes, at most {limit} make sense there"
        )
    return size


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: base 256
        return _checked(int.from_bytes(field[1:], "big"), 1 << 60)
    text = field.strip(b" \0")
    if set(text) - set(b"01234567"):
        raise errdefs.InvalidArgument("archive/tar: invalid tar header", hint="is it a tar archive?")
    return int(text or b"0", 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _overrides(kind: str, data: bytes) -> dict[str, str]:
    if kind in "LK":
        return {"path" if kind == "L" else "linkpath": _text(data)}
    out: dict[str, str] = {}
    while data:
        size_text, _, _ = data.partition(b" ")
        if not size_text.isdigit() or not 0 < int(size_text) <= len(data):
            raise errdefs.InvalidArgument("archive/tar: invalid tar header")
        record = data[len(size_text) + 1 : int(size_text)].rstrip(b"\n")
        key, _, value = record.partition(b"=")
        out[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[int(size_text) :]
    if "size" in out and not (out["size"].isascii() and out["size"].isdigit()):
        raise errdefs.InvalidArgument("archive/tar: invalid tar header")
    return out if kind == "x" else {}


def clean(name: str) -> str:
    """A member's name without empty parts and dots."""
    return "/".join(part for part in name.split("/") if part not in {"", "."})
