"""Removing a directory tree by descriptors, never crossing into a mount and never following a link.

Man:     unlinkat(2), statx(2)
"""

from __future__ import annotations

import errno
import os
import stat

from pycontainerd.lib.linux.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2


def remove_tree(dirfd: int, name: str | bytes) -> None:
    """Removes dirfd/name and all below it; nothing there is fine. EXDEV: a mount is in the way."""
    try:
        found = os.lstat(name, dir_fd=dirfd)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=dirfd)
        return
    fd = openat2(
        dirfd,
        name,
        os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW,
        resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    )
    try:
        for entry in os.listdir(fd):
            remove_tree(fd, entry)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=dirfd)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
