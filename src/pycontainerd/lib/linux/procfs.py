"""A procfs that is known to be one: opened once, checked by magic, reached by descriptor.

Man:     proc(5), statfs(2)
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux import mount as m
from pycontainerd.lib.linux.libc import prototype
from pycontainerd.lib.linux.path import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2

PROC_SUPER_MAGIC = 0x9FA0
PROC_ROOT_INO = 1


class Statfs(ctypes.Structure):
    """struct statfs: only the type is read; the rest is room."""

    _fields_ = (("f_type", ctypes.c_long), ("_rest", ctypes.c_byte * 248))


_fstatfs = prototype("fstatfs", ctypes.c_int, ctypes.POINTER(Statfs))


def filesystem_magic(fd: int) -> int:
    """f_type of the filesystem that an open file lies on."""
    found = Statfs()
    _fstatfs(fd, found)
    return int(found.f_type)


def is_procfs(fd: int) -> bool:
    """Whether an open file lies on a procfs."""
    return filesystem_magic(fd) == PROC_SUPER_MAGIC


def open_proc() -> int:
    """/proc of this mount namespace as an O_PATH descriptor, the caller's; OSError when it isn't a procfs."""
    fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if not is_procfs(fd):
        os.close(fd)
        raise OSError(22, "/proc is not a procfs")
    return fd


def private_proc() -> int:
    """A detached procfs of the calling process's pid namespace that shows processes only; the caller's.

    OSError EPERM where the kernel refuses a new procfs (a user namespace that sees a masked one).
    """
    context_fd = m.fsopen(b"proc")
    try:
        m.fsconfig_set(context_fd, b"subset", b"pid")
        m.fsconfig_create(context_fd)
        return m.fsmount(context_fd, attr=m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC)
    finally:
        os.close(context_fd)


def open_beneath(proc_fd: int, path: str, flags: int) -> int:
    """A file of that procfs and of nothing mounted over it; the caller's."""
    return openat2(proc_fd, path, flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)
