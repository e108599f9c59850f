"""Applies a layer to a directory: every path is resolved inside its root, and whiteouts do what the target needs.

Two kinds of target: an overlay upper directory (whiteouts become 0:0 devices and opaque xattrs; parents that only
lower layers have are copied up), and a plain directory that already holds the parent (whiteouts remove).

Spec:    image-spec layer.md#applying-changesets, overlayfs.rst#whiteouts-and-opaque-directories
Man:     openat2(2)
Runs in: the unpack worker
"""

from __future__ import annotations

import errno
import os
import stat

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.archive import tar
from pycontainerd.lib.archive.stream import LayerStream
from pycontainerd.lib.linux.path import open_in_root, split
from pycontainerd.lib.linux.tree import remove_tree

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
_MAX_ID: Final = (1 << 32) - 2
_MAX_MAJOR: Final = (1 << 12) - 1
_MAX_MINOR: Final = (1 << 20) - 1
_FD_CACHE: Final = 128
_OPEN_DIR: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Extended attributes a layer may set; the overlay's own and every other trusted one are the host's business.
_XATTRS: Final = (b"user.", b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


class Applied:
    """What was applied: the diffID and the size of the uncompressed tar stream, in bytes."""

    __slots__ = ("diff_id", "size_bytes")

    def __init__(self, diff_id: str, size_bytes: int) -> None:
        self.diff_id = diff_id
        self.size_bytes = size_bytes


def apply_layer(
    blob_fd: int,
    root_fd: int,
    *,
    overlay: bool,
    userxattr: bool = False,
    lower_fds: Sequence[int] = (),
    limit_bytes: int = 0,
) -> Applied:
    """Applies the layer read from `blob_fd` (any supported compression) to the directory `root_fd`; all fds borrowed.

    overlay: the target is an upper directory; lower_fds: its lower directories, newest first.
    Raises errdefs.Unknown for a stream that is no layer, InvalidArgument for a member that may not be, OSError for the
    file system's own failures (ENOSPC). What was written before stays: the caller drops the snapshot.
    """
    stream = LayerStream(blob_fd, limit_bytes=limit_bytes)
    target = Target(root_fd, overlay=overlay, userxattr=userxattr, lower_fds=lower_fds)
    old_umask = os.umask(0)
    try:
        with trace.span("layer.apply") as span:
            reader = tar.Reader(stream)
            count = 0
            while (entry := reader.next_entry()) is not None:
                target.apply(entry, stream)
                reader.end_entry()
                count += 1
            target.finish()
            diff_id = stream.finish()
            span.attributes["entries"] = count
    finally:
        os.umask(old_umask)
        target.close()
        stream.close()
    return Applied(diff_id, stream.size_bytes)


class Target:
    """The directory a layer is applied to, with its cache of open parents."""

    def __init__(self, root_fd: int, *, overlay: bool, userxattr: bool, lower_fds: Sequence[int]) -> None:
        self._root = root_fd
        self._overlay = overlay
        self._opaque = b"user.overlay.opaque" if userxattr else b"trusted.overlay.opaque"
        self._lower = lower_fds
        self._parents: dict[bytes, int] = {}
        self._dir_times: dict[bytes, int] = {}
        self._unpacked: set[bytes] = set()
        self._opaque_done: set[bytes] = set()

    def close(self) -> None:
        """Closes the cached parents."""
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()

    def apply(self, entry: tar.Entry, stream: LayerStream) -> None:
        """One member; reads exactly its stored bytes from the stream."""
        require_valid(entry)
        parts = split(entry.name)
        if not parts:
            stream.skip(entry.stored_bytes)
            if entry.kind == tar.DIRECTORY:
                self._finish_dir(self._root, b"", entry)
            return
        parent_path, name = b"/".join(parts[:-1]), parts[-1]
        parent_fd = self._parent(parent_path, create=not name.startswith(WHITEOUT))
        if name.startswith(WHITEOUT):
            stream.skip(entry.stored_bytes)
            if parent_fd >= 0 or self._overlay:
                self._whiteout(parent_fd, parent_path, name)
            return
        path = b"/".join(parts)
        self._create(entry, stream, parent_fd, name, path)
        if not self._overlay:
            self._remember(path)

    def finish(self) -> None:
        """Sets the directories' times, which writing into them has changed."""
        for path, nanos in self._dir_times.items():
            try:
                fd = open_in_root(self._root, path, _OPEN_DIR, follow=False) if path else self._root
            except (FileNotFoundError, NotADirectoryError):
                continue  # a later member of the layer replaced it
            try:
                os.utime(fd, ns=(nanos, nanos))
            finally:
                if fd != self._root:
                    os.close(fd)

    # Parents

    def _parent(self, path: bytes, *, create: bool) -> int:
        """A descriptor of a parent directory, cached; -1 when it is missing and `create` is false."""
        if not path:
            return self._root
        if path in self._parents:
            # To the end: the one that is evicted is never one that the current member uses.
            self._parents[path] = fd = self._parents.pop(path)
            return fd
        try:
            fd = open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            if not create and not self._overlay:
                return -1
            fd = self._make_parents(path)
        except NotADirectoryError:
            if not create:
                return -1
            raise errdefs.InvalidArgument(f"layer: {path!r} is used as a directory but is none") from None
        if len(self._parents) >= _FD_CACHE:
            os.close(self._parents.pop(next(iter(self._parents))))
        self._parents[path] = fd
        return fd

    def _make_parents(self, path: bytes) -> int:
        """Makes the missing directories of a path; those that a lower layer has are made like there."""
        done = b""
        fd = os.dup(self._root)
        for name in path.split(b"/"):
            done = done + b"/" + name if done else name
            try:
                step = open_in_root(self._root, done, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=fd)
                step = os.open(name, _OPEN_DIR, dir_fd=fd)
                self._copy_up(done, step)
            os.close(fd)
            fd = step
        return fd

    def _copy_up(self, path: bytes, fd: int) -> None:
        """Gives a new directory the owner, mode, attributes and time of the newest lower one of that path."""
        for lower_fd in self._lower:
            try:
                source = open_in_root(lower_fd, path, _OPEN_DIR, follow=False)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue
                raise
            try:
                found = os.fstat(source)
                os.fchown(fd, found.st_uid, found.st_gid)
                os.fchmod(fd, stat.S_IMODE(found.st_mode))
                for name in os.listxattr(source):
                    if os.fsencode(name).startswith(_XATTRS):
                        os.setxattr(fd, name, os.getxattr(source, name))
                self._dir_times[path] = found.st_mtime_ns
            finally:
                os.close(source)
            return

    def _forget_parents(self) -> None:
        """After a directory or link was replaced: cached parents may no longer be what their paths say."""
        self.close()

    # Whiteouts

    def _whiteout(self, parent_fd: int, parent_path: bytes, name: bytes) -> None:
        if name == OPAQUE:
            self._make_opaque(parent_fd, parent_path)
            return
        hidden = name.removeprefix(WHITEOUT)
        if hidden in (b"", b".", b"..") or hidden.startswith(WHITEOUT):
            return  # aufs' own files (.wh..wh.plnk and such): nothing of the image's
        if self._overlay:
            try:
                os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent_fd)
            except FileExistsError:
                return  # whiteouts hide lower layers only; this layer's own file stays
            return
        if (parent_path + b"/" + hidden if parent_path else hidden) not in self._unpacked:
            remove_tree(parent_fd, hidden)
            self._forget_parents()

    def _make_opaque(self, parent_fd: int, parent_path: bytes) -> None:
        # Once per directory: a layer may repeat the marker thousands of times.
        if parent_path in self._opaque_done or parent_fd < 0:
            return
        self._opaque_done.add(parent_path)
        if self._overlay:
            os.setxattr(parent_fd, self._opaque, b"y")
            return
        self._remove_unpacked_not(parent_fd, parent_path)
        self._forget_parents()

    def _remove_unpacked_not(self, fd: int, path: bytes) -> None:
        """Removes below a directory everything that this layer has not brought itself."""
        for name in os.listdir(fd):
            raw = os.fsencode(name)
            full = path + b"/" + raw if path else raw
            if full not in self._unpacked:
                remove_tree(fd, raw)
            elif stat.S_ISDIR(os.lstat(raw, dir_fd=fd).st_mode):
                inner = os.open(raw, _OPEN_DIR, dir_fd=fd)
                try:
                    self._remove_unpacked_not(inner, full)
                finally:
                    os.close(inner)

    def _remember(self, path: bytes) -> None:
        while path and path not in self._unpacked:
            self._unpacked.add(path)
            path = path.rpartition(b"/")[0]

    # Members

    def _create(
        self, entry: tar.Entry, stream: LayerStream, parent_fd: int, name: bytes, path: bytes
    ) -> None:
        kind = entry.kind
        if kind == tar.DIRECTORY:
            self._directory(entry, parent_fd, name, path)
        elif kind == tar.REGULAR:
            self._regular(entry, stream, parent_fd, name)
        elif kind == tar.SYMLINK:
            self._retry(parent_fd, name, lambda: os.symlink(entry.linkname, name, dir_fd=parent_fd))
            self._finish_special(entry, parent_fd, name)
        elif kind == tar.HARDLINK:
            self._hardlink(entry, parent_fd, name)
        elif kind in (tar.CHAR, tar.BLOCKDEV, tar.FIFO):
            self._node(entry, parent_fd, name)
        else:
            raise errdefs.InvalidArgument(f"layer: unhandled tar entry type {kind!r} of {entry.name[:80]!r}")

    def _retry(self, parent_fd: int, name: bytes, make: object) -> None:
        """Makes something, in place of what is there."""
        assert callable(make)
        try:
            make()
        except FileExistsError:
            self._remove(parent_fd, name)
            make()

    def _remove(self, parent_fd: int, name: bytes) -> None:
        if not stat.S_ISREG(os.lstat(name, dir_fd=parent_fd).st_mode):
            remaining = {path: fd for path, fd in self._parents.items() if fd == parent_fd}
            for path, fd in self._parents.items():
                if path not in remaining:
                    os.close(fd)
            self._parents = remaining
        remove_tree(parent_fd, name)

    def _directory(self, entry: tar.Entry, parent_fd: int, name: bytes, path: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent_fd).st_mode):
                self._remove(parent_fd, name)
                os.mkdir(name, 0o700, dir_fd=parent_fd)
        fd = os.open(name, _OPEN_DIR, dir_fd=parent_fd)
        try:
            self._finish_dir(fd, path, entry)
        finally:
            os.close(fd)

    def _finish_dir(self, fd: int, path: bytes, entry: tar.Entry) -> None:
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode & 0o7777)
        set_xattrs(fd, entry.xattrs)
        self._dir_times[path] = entry.mtime_nanos

    def _regular(self, entry: tar.Entry, stream: LayerStream, parent_fd: int, name: bytes) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent_fd)
        except FileExistsError:
            self._remove(parent_fd, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent_fd)
        try:
            if entry.sparse is not None:
                write_sparse(fd, entry, stream)
            else:
                write_data(fd, entry.size_bytes, stream)
            os.fchown(fd, entry.uid, entry.gid)
            # After chown(2), which clears the set-id bits and file capabilities.
            os.fchmod(fd, entry.mode & 0o7777)
            set_xattrs(fd, entry.xattrs)
            os.utime(fd, ns=(entry.mtime_nanos, entry.mtime_nanos))
        finally:
            os.close(fd)

    def _hardlink(self, entry: tar.Entry, parent_fd: int, name: bytes) -> None:
        parts = split(entry.linkname)
        if not parts:
            raise errdefs.InvalidArgument(f"layer: hard link {entry.name[:80]!r} to the root directory")
        source_path = b"/".join(parts[:-1])
        source_fd = self._parent(source_path, create=False)
        if source_fd < 0:
            raise errdefs.InvalidArgument(f"layer: hard link {entry.name[:80]!r} to what is not there")
        if (source_fd, parts[-1]) == (parent_fd, name):
            return
        try:
            # linkat without AT_SYMLINK_FOLLOW: a link to a symlink is a link to the symlink itself.
            self._retry(
                parent_fd,
                name,
                lambda: os.link(
                    parts[-1], name, src_dir_fd=source_fd, dst_dir_fd=parent_fd, follow_symlinks=False
                ),
            )
        except FileNotFoundError:
            raise errdefs.InvalidArgument(
                f"layer: hard link {entry.name[:80]!r} to {entry.linkname[:80]!r}, which is not there"
            ) from None

    def _node(self, entry: tar.Entry, parent_fd: int, name: bytes) -> None:
        kind = {tar.CHAR: stat.S_IFCHR, tar.BLOCKDEV: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[entry.kind]
        device = 0 if entry.kind == tar.FIFO else os.makedev(entry.devmajor, entry.devminor)
        mode = kind | (entry.mode & 0o7777)
        self._retry(parent_fd, name, lambda: os.mknod(name, mode, device, dir_fd=parent_fd))
        self._finish_special(entry, parent_fd, name)

    def _finish_special(self, entry: tar.Entry, parent_fd: int, name: bytes) -> None:
        os.chown(name, entry.uid, entry.gid, dir_fd=parent_fd, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            # The node is ours and new, and nobody else writes here: no symlink can have taken its name.
            os.chmod(name, entry.mode & 0o7777, dir_fd=parent_fd)
        nanos = entry.mtime_nanos
        os.utime(name, ns=(nanos, nanos), dir_fd=parent_fd, follow_symlinks=False)


def require_valid(entry: tar.Entry) -> None:
    """Raises InvalidArgument for owners and devices that the kernel would take for others."""
    if 0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID and not (entry.devmajor or entry.devminor):
        return
    for what, value, top in (
        ("uid", entry.uid, _MAX_ID),
        ("gid", entry.gid, _MAX_ID),
        ("device major", entry.devmajor, _MAX_MAJOR),
        ("device minor", entry.devminor, _MAX_MINOR),
    ):
        if not 0 <= value <= top:
            raise errdefs.InvalidArgument(f"layer: {what} {value} of {entry.name[:80]!r} is out of range")


def set_xattrs(fd: int, xattrs: dict[bytes, bytes]) -> None:
    """Sets the allowed attributes; a file system without them is no error, as in containerd."""
    for name, value in xattrs.items():
        if not name.startswith((b"user.overlay.",)) and name.startswith(_XATTRS):
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM) or name.startswith(b"security."):
                    raise


def write_data(fd: int, size_bytes: int, stream: LayerStream) -> None:
    """Copies that many bytes of the stream into a file."""
    left = size_bytes
    while left:
        piece = stream.next_piece(left)
        if not piece:
            raise errdefs.Unknown("tar: unexpected end of the layer")
        left -= len(piece)
        while piece:
            piece = piece[os.write(fd, piece) :]


def write_sparse(fd: int, entry: tar.Entry, stream: LayerStream) -> None:
    """Writes the fragments of a sparse file; holes stay holes."""
    assert entry.sparse is not None
    for offset, length in entry.sparse:
        os.lseek(fd, offset, os.SEEK_SET)
        write_data(fd, length, stream)
    os.ftruncate(fd, entry.size_bytes)
