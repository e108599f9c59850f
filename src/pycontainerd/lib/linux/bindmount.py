"""A read-only bind mount of one file, attached in one step.

Man: open_tree(2), mount_setattr(2), move_mount(2), umount2(2)
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

# One number on every architecture (asm-generic/unistd.h, syscall_64.tbl).
_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_OPEN_TREE_CLONE_CLOEXEC: Final = 1 | 0o2000000
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_RDONLY_NOSUID_NODEV: Final = 1 | 2 | 4
_MNT_DETACH: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = ctypes.CFUNCTYPE(
    ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_long, ctypes.c_void_p, ctypes.c_long,
    use_errno=True,
)(("syscall", _libc))  # fmt: skip


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def _check(result: int, name: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def bind_read_only(source: str, target: str) -> None:
    """Attaches `source` on `target` read-only, nosuid, nodev. Raises OSError."""
    tree = _check(
        _syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE_CLOEXEC, None, 0), "open_tree"
    )
    try:
        attr = _MountAttr(attr_set=_RDONLY_NOSUID_NODEV)
        # Read-only before it can be reached by name.
        _check(
            _syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.addressof(attr), ctypes.sizeof(attr)),
            "mount_setattr",
        )
        where = ctypes.c_char_p(os.fsencode(target))
        _check(
            _syscall(
                _MOVE_MOUNT,
                tree,
                b"",
                _AT_FDCWD,
                ctypes.cast(where, ctypes.c_void_p),
                _MOVE_MOUNT_F_EMPTY_PATH,
            ),
            "move_mount",
        )
    finally:
        os.close(tree)


def detach(target: str) -> None:
    """Detaches what is mounted on `target` (MNT_DETACH). Raises OSError."""
    _libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), "umount2")
