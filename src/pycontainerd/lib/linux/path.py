"""Paths inside a root that somebody else wrote: every step is a descriptor, no symlink leads out.

Man:     openat2(2)
"""

from __future__ import annotations

import errno
import os
import stat as _stat

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.constants import number
from pycontainerd.lib.linux.libc import fs_bytes, syscall

RESOLVE_NO_XDEV = 1
RESOLVE_NO_MAGICLINKS = 2
RESOLVE_NO_SYMLINKS = 4
RESOLVE_BENEATH = 8
RESOLVE_IN_ROOT = 16

O_PATH = os.O_PATH | os.O_CLOEXEC
_RETRIES = 128
_MAX_LINKS = 40


class OpenHow(ctypes.Structure):
    """struct open_how of linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_openat2 = syscall(
    number("openat2"), "openat2", ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(OpenHow), ctypes.c_size_t
)


def openat2(dirfd: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), close-on-exec; retried on EAGAIN, which a rename elsewhere on the machine can cause."""
    how = OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    raw = fs_bytes(path)
    for attempt in range(_RETRIES):
        try:
            return _openat2(dirfd, raw, how, ctypes.sizeof(how))
        except BlockingIOError:
            if attempt == _RETRIES - 1:
                raise
    raise AssertionError("unreachable")


def open_in_root(
    root_fd: int, path: str | bytes, flags: int = O_PATH, *, mode: int = 0, follow: bool = True
) -> int:
    """Opens a path as a process with that root would; the descriptor is the caller's.

    With follow=False a symlink anywhere in the path is ELOOP.
    """
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    if not follow:
        resolve |= RESOLVE_NO_SYMLINKS
    return openat2(root_fd, fs_bytes(path).lstrip(b"/") or b".", flags, mode=mode, resolve=resolve)


def split(path: bytes) -> list[bytes]:
    """The components of a path with `.` dropped and `..` applied in the text, as the kernel does at a root."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return parts


def make_dirs_in_root(root_fd: int, path: str | bytes, *, mode: int = 0o755) -> int:
    """Opens a directory in the root, first making what is missing; an O_PATH descriptor, the caller's.

    A dangling symlink is followed inside the root and its target made, as images with /var/run -> /run need.
    """
    raw = fs_bytes(path)
    try:
        return open_in_root(root_fd, raw, O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    todo = split(raw)
    done: list[bytes] = []
    links = 0
    while todo:
        name = todo.pop(0)
        here = b"/".join([*done, name])
        parent_fd = open_in_root(root_fd, b"/".join(done), O_PATH | os.O_DIRECTORY)
        try:
            try:
                os.mkdir(name, mode, dir_fd=parent_fd)
            except FileExistsError:
                if _stat.S_ISLNK(os.lstat(name, dir_fd=parent_fd).st_mode):
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(raw)) from None
                    target = os.readlink(name, dir_fd=parent_fd)
                    base = [] if target.startswith(b"/") else done
                    todo = [*split(b"/".join([*base, target])), *todo]
                    done = []
                    continue
        finally:
            os.close(parent_fd)
        done = split(here)
    return open_in_root(root_fd, b"/".join(done), O_PATH | os.O_DIRECTORY)


def make_file_in_root(root_fd: int, path: str | bytes, *, mode: int = 0o755) -> int:
    """Opens a file in the root, first making it and its parents when missing; an O_PATH descriptor.

    A dangling symlink is followed inside the root and its target made.
    """
    raw = fs_bytes(path)
    for _link in range(_MAX_LINKS):
        try:
            return open_in_root(root_fd, raw)
        except FileNotFoundError:
            pass
        parts = split(raw)
        if not parts:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), "/")
        parent_fd = make_dirs_in_root(root_fd, b"/".join(parts[:-1]))
        try:
            return _create(parent_fd, parts[-1], mode)
        except FileExistsError:
            target = os.readlink(parts[-1], dir_fd=parent_fd)
            raw = target if target.startswith(b"/") else b"/".join([*parts[:-1], target])
        finally:
            os.close(parent_fd)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))


def _create(parent_fd: int, name: bytes, mode: int) -> int:
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY
    os.close(openat2(parent_fd, name, flags, mode=mode, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS))
    return openat2(parent_fd, name, O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_BENEATH)
