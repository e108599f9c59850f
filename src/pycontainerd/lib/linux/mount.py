"""The mount system calls, classic and by file descriptor.

Man:     mount(2), umount2(2), pivot_root(2), open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2),
         mount_setattr(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.constants import number
from pycontainerd.lib.linux.libc import AT_EMPTY_PATH, AT_RECURSIVE, fs_bytes, prototype, syscall

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_char_p, _int, _uint, _ulong = ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_ulong


class MountAttr(ctypes.Structure):
    """struct mount_attr of linux/mount.h."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_mount = prototype("mount", _char_p, _char_p, _char_p, _ulong, _char_p)
_umount2 = prototype("umount2", _char_p, _int)
_pivot_root = syscall(number("pivot_root"), "pivot_root", _char_p, _char_p)
_open_tree = syscall(number("open_tree"), "open_tree", _int, _char_p, _uint)
_move_mount = syscall(number("move_mount"), "move_mount", _int, _char_p, _int, _char_p, _uint)
_fsopen = syscall(number("fsopen"), "fsopen", _char_p, _uint)
_fsconfig = syscall(number("fsconfig"), "fsconfig", _int, _uint, _char_p, _char_p, _int)
_fsmount = syscall(number("fsmount"), "fsmount", _int, _uint, _uint)
_mount_setattr = syscall(
    number("mount_setattr"),
    "mount_setattr",
    _int,
    _char_p,
    _uint,
    ctypes.POINTER(MountAttr),
    ctypes.c_size_t,
)


def mount(
    source: str | bytes | None,
    target: str | bytes,
    fstype: str | bytes | None,
    *,
    flags: int = 0,
    data: str | bytes | None = None,
) -> None:
    """mount(2); None is a null pointer."""
    _mount(
        None if source is None else fs_bytes(source),
        fs_bytes(target),
        None if fstype is None else fs_bytes(fstype),
        flags,
        None if data is None else fs_bytes(data),
    )


def umount2(target: str | bytes, *, flags: int = 0) -> None:
    """umount2(2)."""
    _umount2(fs_bytes(target), flags)


def pivot_root(new_root: str | bytes, put_old: str | bytes) -> None:
    """pivot_root(2); ('.', '.') stacks the old root on the new one, to be detached at once."""
    _pivot_root(fs_bytes(new_root), fs_bytes(put_old))


def open_tree(dirfd: int, path: str | bytes, *, clone: bool = True, recursive: bool = False) -> int:
    """An O_PATH descriptor, the caller's; with clone, of a detached copy of the mount (or tree) there."""
    flags = OPEN_TREE_CLOEXEC
    if clone:
        flags |= OPEN_TREE_CLONE
    if recursive:
        flags |= AT_RECURSIVE
    if not path:
        flags |= AT_EMPTY_PATH
    return _open_tree(dirfd, fs_bytes(path), flags)


def move_mount(mount_fd: int, target_fd: int) -> None:
    """Attaches a detached mount (or moves one) onto the file that target_fd holds open."""
    _move_mount(mount_fd, b"", target_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def fsopen(fstype: str | bytes) -> int:
    """A filesystem context, the caller's to close. ENODEV: no such filesystem."""
    return _fsopen(fs_bytes(fstype), FSOPEN_CLOEXEC)


def fsconfig_set(context_fd: int, key: str | bytes, value: str | bytes | None = None) -> None:
    """One option: a flag without a value, else a string of at most 255 bytes."""
    if value is None:
        _fsconfig(context_fd, FSCONFIG_SET_FLAG, fs_bytes(key), None, 0)
    else:
        _fsconfig(context_fd, FSCONFIG_SET_STRING, fs_bytes(key), fs_bytes(value), 0)


def fsconfig_create(context_fd: int) -> None:
    """Makes the superblock that the context describes."""
    _fsconfig(context_fd, FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(context_fd: int, *, attr: int = 0) -> int:
    """A detached mount of the new superblock, the caller's to close or to move into place."""
    return _fsmount(context_fd, FSMOUNT_CLOEXEC, attr)


def mount_setattr(
    dirfd: int,
    path: str | bytes = b"",
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
) -> None:
    """mount_setattr(2) on a path, or on dirfd itself when the path is empty."""
    attr = MountAttr(attr_set, attr_clr, propagation, userns_fd)
    flags = (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    _mount_setattr(dirfd, fs_bytes(path), flags, attr, ctypes.sizeof(attr))
