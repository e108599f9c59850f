"""Small files of a snapshot, read from the directories of its layers: nothing is mounted, and nothing of ctypes loaded.

Every step of a path is taken from its parent's descriptor and is never a symbolic link. Wherever a layer holds anything
but plain directories and files (links, devices, overlay's own marks), the snapshot is mounted and the kernel asked.

Spec: kernel Documentation/filesystems/overlayfs.rst (whiteouts, opaque directories, redirects)
"""

from __future__ import annotations

import errno
import os
import stat

from pycontainerd.client import image_spec
from pycontainerd.lib.errdefs import InvalidArgument, NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pycontainerd.lib.api.light import types

_PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERLAY: Final = ("trusted.overlay.", "user.overlay.")


class _UnclearError(Exception):
    """Only the kernel knows what is at this path."""


class SnapshotFiles:
    """Read access to a snapshot's files. A context manager; owns the mount that it may have needed."""

    __slots__ = ("_folders", "_mounted", "_mounts")

    def __init__(self, mounts: Sequence[types.Mount]) -> None:
        self._mounts = mounts
        self._folders = _folders(mounts)
        self._mounted: image_spec.ImageFiles | None = None

    def __enter__(self) -> SnapshotFiles:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._mounted is not None:
            self._mounted.__exit__(*exc_info)

    def read(self, path: str) -> bytes:
        """A regular file of at most image_spec.MAX_USER_FILE bytes; NotFound when it is missing or something else."""
        if self._mounted is None:
            try:
                return self._read(path)
            except _UnclearError:
                self._mounted = image_spec.open_mounts(self._mounts)
        return self._mounted.read(path)

    def _read(self, path: str) -> bytes:
        if not self._folders:
            raise _UnclearError
        for folder in self._folders:
            fd = _open(folder, path)
            if fd < 0:
                continue
            try:
                return _content(fd, path)
            finally:
                os.close(fd)
        raise NotFound(f"{path} of the image can't be read: No such file or directory")


def _folders(mounts: Sequence[types.Mount]) -> list[str]:
    """The directories of a snapshot's layers, the topmost first; none where that isn't what it is made of."""
    if len(mounts) != 1 or os.geteuid() != 0:  # others don't see overlay's marks
        return []
    if mounts[0].type == "bind":
        return [mounts[0].source]
    options = dict(option.partition("=")[::2] for option in mounts[0].options)
    lower = options.get("lowerdir", "")
    if mounts[0].type != "overlay" or not lower or "\\" in lower:
        return []
    return [*filter(None, [options.get("upperdir", "")]), *lower.split(":")]


def _open(folder: str, path: str) -> int:
    """What one layer has at a path, the caller's; -1 when it says nothing about it."""
    *parents, last = path.split("/")
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name, kind in (*((parent, stat.S_IFDIR) for parent in parents), (last, stat.S_IFREG)):
        try:
            step = os.open(name, _PATH, dir_fd=fd)
        except FileNotFoundError:
            return -1
        finally:
            os.close(fd)
        fd = step
        if not _is_plain(fd, kind):
            os.close(fd)
            raise _UnclearError
    return fd


def _is_plain(fd: int, kind: int) -> bool:
    """Whether an O_PATH descriptor is of that kind (no link, no whiteout) and without a mark of overlay's."""
    if stat.S_IFMT(os.fstat(fd).st_mode) != kind:
        return False
    try:
        names = os.listxattr(f"/proc/self/fd/{fd}")
    except OSError as error:
        return error.errno == errno.ENOTSUP
    return not any(name.startswith(_OVERLAY) for name in names)


def _content(path_fd: int, path: str) -> bytes:
    # What was looked at is what is opened: whoever writes to the snapshot can't put a device in its place.
    fd = os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        data = b"" if found.st_size > image_spec.MAX_USER_FILE else os.read(fd, image_spec.MAX_USER_FILE + 1)
    finally:
        os.close(fd)
    if max(len(data), found.st_size) > image_spec.MAX_USER_FILE:
        raise InvalidArgument(
            f"{path} of the image is larger than {image_spec.MAX_USER_FILE} bytes: invalid argument"
        )
    return data
