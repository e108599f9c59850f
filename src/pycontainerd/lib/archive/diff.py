"""What changed between two directories, as a layer: members in path order, removals as whiteouts.

Two files are the same when type, owner, mode, device, size, time and capabilities agree; where a time has no
nanoseconds (it may have come from a tar) the contents are compared as well, as containerd's walking differ does. The
members are its, too: whole seconds, the time 0 for whiteouts (as since containerd 2.0), no attribute but capabilities.

Spec:    image-spec layer.md#change-types, #representing-changes
Runs in: the layer worker, in a mount namespace of its own
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from pycontainerd.lib import errdefs
from pycontainerd.lib.archive import tar
from pycontainerd.lib.archive.apply import WHITEOUT
from pycontainerd.lib.archive.tarwrite import end_of_archive, member_header, padding

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

_DIR: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1 << 20
_CAPABILITY: Final = "security.capability"
_SECOND: Final = 1_000_000_000


def write_diff(
    left: list[dict[str, Any]],
    right: list[dict[str, Any]],
    out_fd: int,
    compression: str,
    latest_nanos: int | None = None,
) -> str:
    """Mounts both sides, writes the layer to `out_fd` and gives its diffID. Mounts are containerd's, as JSON objects.

    No member is written with a time after `latest_nanos` (SOURCE_DATE_EPOCH).
    """
    from pycontainerd.lib.archive.mounted import mounted

    with mounted(left) as left_fd, mounted(right) as right_fd:
        sink = Sink(out_fd, compression, latest_nanos)
        diff_directories(left_fd, right_fd, sink)
        return sink.close()


class Sink:
    """The layer being written: hashed before it is compressed."""

    def __init__(self, fd: int, compression: str, latest_nanos: int | None = None) -> None:
        self._fd = fd
        self._hash = hashlib.sha256()
        self._compressor = _compressor(compression)
        self._latest_nanos = latest_nanos
        self._written_dirs: set[bytes] = set()
        # Of inodes with several names: the one that was written, and those that need not be unless one is.
        self._first_names: dict[tuple[int, int], bytes] = {}
        self._unchanged_names: dict[tuple[int, int], list[bytes]] = {}

    def write(self, data: bytes) -> None:
        """Appends to the uncompressed stream."""
        self._hash.update(data)
        self._put(self._compressor.compress(data) if self._compressor else data)

    def close(self) -> str:
        """Ends the archive and gives the diffID."""
        self.write(end_of_archive())
        if self._compressor:
            self._put(self._compressor.flush())
        return "sha256:" + self._hash.hexdigest()

    def whiteout(self, root_fd: int, path: bytes) -> None:
        """Says that `path` is gone, after the directories above it."""
        self._parents(root_fd, path)
        parent, _, name = path.rpartition(b"/")
        entry = tar.Entry(tar.REGULAR, (parent + b"/" if parent else b"") + WHITEOUT + name)
        self.write(member_header(entry))

    def unchanged(self, root_fd: int, path: bytes, found: os.stat_result) -> None:
        """A name both sides have. It is written only as a link, to a name of the same file that is new."""
        if found.st_nlink < 2 or stat.S_ISDIR(found.st_mode):
            return
        inode = (found.st_dev, found.st_ino)
        if inode in self._first_names:
            self._link(root_fd, path, found, self._first_names[inode])
        else:
            self._unchanged_names.setdefault(inode, []).append(path)

    def add(self, root_fd: int, path: bytes, found: os.stat_result, dir_fd: int) -> None:
        """Adds one file of the right side, after the directories above it."""
        if stat.S_ISSOCK(found.st_mode):
            return  # a layer can't hold one
        if found.st_nlink < 2 or stat.S_ISDIR(found.st_mode):
            self._add(root_fd, path, found, dir_fd)
            return
        inode = (found.st_dev, found.st_ino)
        first = self._first_names.setdefault(inode, path)
        if first != path:
            self._link(root_fd, path, found, first)
            return
        self._add(root_fd, path, found, dir_fd)
        for other in self._unchanged_names.pop(inode, ()):
            self._link(root_fd, other, found, first)

    def _add(self, root_fd: int, path: bytes, found: os.stat_result, dir_fd: int) -> None:
        self._parents(root_fd, path)
        entry = self._entry(path, found)
        name = path.rpartition(b"/")[2]
        if stat.S_ISDIR(found.st_mode):
            self._written_dirs.add(path)
        elif stat.S_ISLNK(found.st_mode):
            entry.linkname = os.readlink(name, dir_fd=dir_fd)
        if not stat.S_ISREG(found.st_mode):
            self.write(member_header(entry))
            return
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            entry.xattrs = _capability(fd)
            self.write(member_header(entry))
            self._copy(fd, entry.size_bytes)
        finally:
            os.close(fd)

    def _link(self, root_fd: int, path: bytes, found: os.stat_result, first: bytes) -> None:
        self._parents(root_fd, path)
        entry = self._entry(path, found)
        entry.kind, entry.linkname, entry.size_bytes = tar.HARDLINK, first, 0
        self.write(member_header(entry))

    def _parents(self, root_fd: int, path: bytes) -> None:
        parts = path.split(b"/")[:-1]
        for depth in range(1, len(parts) + 1):
            parent = b"/".join(parts[:depth])
            if parent not in self._written_dirs:
                self._written_dirs.add(parent)
                found = os.stat(parent, dir_fd=root_fd, follow_symlinks=False)
                self.write(member_header(self._entry(parent, found)))

    def _entry(self, path: bytes, found: os.stat_result) -> tar.Entry:
        entry = _entry(path, found)
        if self._latest_nanos is not None:
            entry.mtime_nanos = min(entry.mtime_nanos, self._latest_nanos)
        entry.mtime_nanos -= entry.mtime_nanos % _SECOND
        return entry

    def _copy(self, fd: int, size: int) -> None:
        left = size
        while left:
            data = os.read(fd, min(left, _CHUNK))
            if not data:
                raise errdefs.Aborted("a file shrank while its layer was written")
            left -= len(data)
            self.write(data)
        self.write(padding(size))

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


def _compressor(compression: str) -> Any:
    if compression == "gzip":
        import zlib

        return zlib.compressobj(6, zlib.DEFLATED, 31)
    if compression == "zstd":
        from backports import zstd

        return zstd.ZstdCompressor()
    return None


def _entry(path: bytes, found: os.stat_result) -> tar.Entry:
    kinds = {
        stat.S_IFREG: tar.REGULAR,
        stat.S_IFDIR: tar.DIRECTORY,
        stat.S_IFLNK: tar.SYMLINK,
        stat.S_IFCHR: tar.CHAR,
        stat.S_IFBLK: tar.BLOCKDEV,
        stat.S_IFIFO: tar.FIFO,
    }
    kind = kinds[stat.S_IFMT(found.st_mode)]
    entry = tar.Entry(kind, path + b"/" if kind == tar.DIRECTORY else path)
    entry.mode = stat.S_IMODE(found.st_mode)
    entry.uid, entry.gid, entry.mtime_nanos = found.st_uid, found.st_gid, found.st_mtime_ns
    if kind == tar.REGULAR:
        entry.size_bytes = found.st_size
    elif kind in (tar.CHAR, tar.BLOCKDEV):
        entry.devmajor, entry.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return entry


def _capability(fd: int) -> dict[bytes, bytes]:
    try:
        return {_CAPABILITY.encode(): os.getxattr(fd, _CAPABILITY)}
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return {}
        raise


def diff_directories(left_fd: int, right_fd: int, sink: Sink) -> None:
    """Walks both trees in path order and adds every difference to the sink; the fds are borrowed."""
    for path, left, right, dirs in _walk(left_fd, right_fd, b""):
        if right is None:
            sink.whiteout(right_fd, path)
        elif left is None or not _same(path, left, right, dirs):
            sink.add(right_fd, path, right, dirs[1])
        else:
            sink.unchanged(right_fd, path, right)


def _walk(
    left_fd: int, right_fd: int, path: bytes
) -> Iterator[tuple[bytes, os.stat_result | None, os.stat_result | None, tuple[int, int]]]:
    """(path, left stat, right stat, the two directories), for everything that one or both sides have."""
    names = set(_names(left_fd)) | set(_names(right_fd))
    for name in sorted(names):
        left, right = _stat(left_fd, name), _stat(right_fd, name)
        full = path + b"/" + name if path else name
        yield full, left, right, (left_fd, right_fd)
        if right is None or not stat.S_ISDIR(right.st_mode):
            continue
        inner_left = os.open(name, _DIR, dir_fd=left_fd) if left and stat.S_ISDIR(left.st_mode) else -1
        inner_right = os.open(name, _DIR, dir_fd=right_fd)
        try:
            yield from _walk(inner_left, inner_right, full)
        finally:
            os.close(inner_right)
            if inner_left >= 0:
                os.close(inner_left)


def _names(fd: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(fd)] if fd >= 0 else []


def _stat(fd: int, name: bytes) -> os.stat_result | None:
    if fd < 0:
        return None
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _same(path: bytes, left: os.stat_result, right: os.stat_result, dirs: tuple[int, int]) -> bool:
    """Whether nothing that a layer records differs."""
    if (left.st_mode, left.st_uid, left.st_gid, left.st_rdev) != (
        right.st_mode,
        right.st_uid,
        right.st_gid,
        right.st_rdev,
    ):
        return False
    if stat.S_ISDIR(left.st_mode):
        return True
    if left.st_size != right.st_size or left.st_mtime_ns != right.st_mtime_ns:
        return False
    name = path.rpartition(b"/")[2]
    whole_seconds = left.st_mtime_ns % _SECOND == 0
    if stat.S_ISLNK(left.st_mode):
        return not whole_seconds or os.readlink(name, dir_fd=dirs[0]) == os.readlink(name, dir_fd=dirs[1])
    if not stat.S_ISREG(left.st_mode) or (left.st_dev, left.st_ino) == (right.st_dev, right.st_ino):
        return True
    return _same_contents(name, dirs, compare_data=whole_seconds)


def _same_contents(name: bytes, dirs: tuple[int, int], *, compare_data: bool) -> bool:
    fds = [os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd) for fd in dirs]
    try:
        if _capability(fds[0]) != _capability(fds[1]):
            return False
        while compare_data:
            data = os.read(fds[0], _CHUNK)
            if data != os.read(fds[1], _CHUNK):
                return False
            if not data:
                break
        return True
    finally:
        for fd in fds:
            os.close(fd)
