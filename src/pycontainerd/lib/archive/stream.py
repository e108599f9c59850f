"""A layer's bytes: compression found by magic, inflated in bounded pieces, hashed on the way (the diffID).

    thread: read -> inflate -> hash -> a few pieces ahead -> whoever reads the stream

Spec: image-spec layer.md#media-types, RFC 1952, RFC 8878
"""

from __future__ import annotations

import _queue
import _thread
import hashlib
import os

from pycontainerd.lib import errdefs

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final, Protocol

    class Inflater(Protocol):
        """Inflates lazily, piece by piece; `feed(b"")` means the end of the input."""

        def feed(self, data: bytes) -> Iterator[bytes]: ...


READ_SIZE: Final = 256 * 1024
PIECE_SIZE: Final = 512 * 1024  # no inflated piece is larger, whatever the ratio
_AHEAD: Final = 4  # pieces
GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class _Plain:
    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data


class _Members:
    """Inflates a chain of gzip members or zstd frames, in pieces of at most PIECE_SIZE."""

    def __init__(self, start: Callable[[], Any], name: str) -> None:
        self._start = start
        self._name = name
        self._member: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not data and self._member is not None:
            raise errdefs.Unknown(f"{self._name}: unexpected end of the layer")
        more = bool(data)
        while more:
            if self._member is None:
                # Zero padding between and after members is allowed; anything else must start a member.
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._member = self._start()
            piece = self._inflate(data)
            if piece:
                yield piece
            if self._member.eof:
                data, self._member = self._member.unused_data, None
                more = bool(data)
            else:
                data = bytes(getattr(self._member, "unconsumed_tail", b""))
                # A full piece: the library may hold more output of the input it has taken.
                more = (
                    bool(data) or len(piece) == PIECE_SIZE or not getattr(self._member, "needs_input", True)
                )

    def _inflate(self, data: bytes) -> bytes:
        try:
            return bytes(self._member.decompress(data, PIECE_SIZE))
        except Exception as error:  # zlib.error, IsalError, ZstdError: three libraries, one meaning
            raise errdefs.Unknown(f"{self._name}: the layer is corrupt: {error}") from error


def preload(*, zstd: bool = False) -> None:
    """Loads what layers need, some of them that for zstd: who forks workers does it for all of them."""
    if not zstd:
        _gzip()
        return
    try:
        _zstd()
    except errdefs.Unimplemented:
        return  # a layer that needs it is told so


def _gzip() -> _Members:
    library: Any
    try:
        from isal import isal_zlib as library
    except ImportError:  # no wheel for this architecture
        import zlib as library
    return _Members(lambda: library.decompressobj(31), "gzip")


def _zstd() -> _Members:
    try:
        from backports import zstd
    except ImportError:
        raise errdefs.Unimplemented(
            "zstd layers need the backports.zstd package on this Python", hint="pip install backports.zstd"
        ) from None
    return _Members(zstd.ZstdDecompressor, "zstd")


def inflater(head: bytes) -> Inflater:
    """The inflater for a stream that begins with `head`; plain when no magic matches."""
    if head.startswith(GZIP_MAGIC):
        return _gzip()
    if head.startswith(ZSTD_MAGIC):
        return _zstd()
    return _Plain()


class _Ahead:
    """The inflated pieces of a borrowed fd, made by a thread that stays a few pieces ahead; hashed and counted by it.

    Inflating, hashing and writing files all leave the interpreter's lock, so that they use more than one processor.
    """

    def __init__(self, fd: int, limit_bytes: int) -> None:
        self._fd = fd
        self._limit = limit_bytes
        self._stopped = False
        self._pieces: _queue.SimpleQueue[bytes | BaseException | None] = _queue.SimpleQueue()
        self._room: _queue.SimpleQueue[None] = (
            _queue.SimpleQueue()
        )  # one item for each piece that may be made
        for _ in range(_AHEAD):
            self._room.put(None)
        self._ended = False
        self.hash = hashlib.sha256()
        self.size_bytes = 0
        _thread.start_new_thread(self._work, ())

    def next(self) -> bytes:
        """The next piece; empty at the end. Raises what has stopped the thread."""
        if self._ended:
            return b""
        item = self._pieces.get()
        if isinstance(item, bytes):
            self._room.put(None)
            return item
        self._ended = True
        if item is not None:
            raise item
        return b""

    def close(self) -> None:
        """Ends the thread: its fd may be closed after that."""
        self._stopped = True
        self._room.put(None)
        while not self._ended:
            self._ended = not isinstance(self._pieces.get(), bytes)

    def _work(self) -> None:
        try:
            for piece in self._inflated():
                self.hash.update(piece)
                self.size_bytes += len(piece)
                if self._limit and self.size_bytes > self._limit:
                    raise errdefs.ResourceExhausted(f"the layer inflates to more than {self._limit} bytes")
                self._room.get()
                if self._stopped:
                    break
                self._pieces.put(piece)
        except BaseException as error:  # noqa: BLE001 - raised again where the piece is missed
            self._pieces.put(error)
        else:
            self._pieces.put(None)

    def _inflated(self) -> Iterator[bytes]:
        inflater_: Inflater | None = None
        while not self._stopped:
            data = os.read(self._fd, READ_SIZE)
            inflater_ = inflater_ or inflater(data)
            yield from inflater_.feed(data)
            if not data:
                return


class LayerStream:
    """The uncompressed bytes of a layer read from a borrowed fd, with their sha256 and count. Its owner closes it.

    limit_bytes: refuse a layer that inflates to more (0: no limit).
    """

    def __init__(self, fd: int, *, limit_bytes: int = 0) -> None:
        self._ahead = _Ahead(fd, limit_bytes)
        self._piece = memoryview(b"")

    @property
    def size_bytes(self) -> int:
        """All of it, once finished."""
        return self._ahead.size_bytes

    def close(self) -> None:
        """Lets the fd go; idempotent."""
        self._ahead.close()

    def next_piece(self, at_most: int) -> memoryview:
        """Some of the bytes that come next, at most that many; empty at the end only."""
        if not self._piece:
            self._piece = memoryview(self._ahead.next())
        piece = self._piece[:at_most]
        self._piece = self._piece[at_most:]
        return piece

    def read(self, count: int) -> bytes:
        """Exactly that many bytes. Unknown when the stream ends before."""
        if len(self._piece) >= count:
            return bytes(self.next_piece(count))
        parts = []
        left = count
        while left:
            piece = self.next_piece(left)
            if not piece:
                raise errdefs.Unknown("tar: unexpected end of the layer")
            parts.append(piece)
            left -= len(piece)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        """Drops that many bytes."""
        while count:
            piece = self.next_piece(count)
            if not piece:
                raise errdefs.Unknown("tar: unexpected end of the layer")
            count -= len(piece)

    def at_end(self) -> bool:
        """Whether no byte is left."""
        if not self._piece:
            self._piece = memoryview(self._ahead.next())
        return not self._piece

    def finish(self) -> str:
        """Reads what is left and gives the diffID, "sha256:<hex>"."""
        while self.next_piece(PIECE_SIZE):
            continue
        return "sha256:" + self._ahead.hash.hexdigest()
