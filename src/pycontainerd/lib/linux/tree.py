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


def copy_tree(source_fd: int, target_fd: int) -> None:
    """Copies what is below one directory into another (tmpcopyup): files, links, modes, owners; no mounts, no devices."""
    for name in os.listdir(_reopen(source_fd)):
        found = os.lstat(name, dir_fd=source_fd)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=target_fd)
            inner_fd = _open_entry(source_fd, name, os.O_RDONLY | os.O_DIRECTORY)
            made_fd = _open_entry(target_fd, name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                copy_tree(inner_fd, made_fd)
                os.fchown(made_fd, found.st_uid, found.st_gid)
                os.fchmod(made_fd, stat.S_IMODE(found.st_mode))
            finally:
                os.close(inner_fd)
                os.close(made_fd)
        elif kind == stat.S_IFREG:
            _copy_file(source_fd, target_fd, name, found)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target_fd, follow_symlinks=False)


def _reopen(fd: int) -> str:
    return f"/proc/self/fd/{fd}"  # an O_PATH descriptor can't be listed itself


def _open_entry(dirfd: int, name: str, flags: int) -> int:
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
    return openat2(dirfd, name, flags | os.O_NOFOLLOW, resolve=resolve)


def _copy_file(source_fd: int, target_fd: int, name: str, found: os.stat_result) -> None:
    from_fd = _open_entry(source_fd, name, os.O_RDONLY)
    to_fd = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target_fd
    )
    try:
        while chunk := os.read(from_fd, 1 << 20):
            while chunk:
                chunk = chunk[os.write(to_fd, chunk) :]
        os.fchown(to_fd, found.st_uid, found.st_gid)
        os.fchmod(to_fd, stat.S_IMODE(found.st_mode))
    finally:
        os.close(from_fd)
        os.close(to_fd)
