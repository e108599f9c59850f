"""umount2(2) of the daemon's own mount points, and the check whether overlay can be mounted at all."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_UMOUNT_NOFOLLOW: Final = 8
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount(source: str, target: str, fs_type: str, flags: int, data: str) -> None:
    """mount(2); OSError."""
    if (
        _libc.mount(os.fsencode(source), os.fsencode(target), os.fsencode(fs_type), flags, os.fsencode(data))
        != 0
    ):
        raise OSError(ctypes.get_errno(), f"mount: {os.strerror(ctypes.get_errno())}", target)


def unmount_all(target: str, flags: int = 0) -> None:
    """Unmounts everything stacked on a directory; one that is no mount point, or is missing, is fine. OSError."""
    while True:
        if _libc.umount2(os.fsencode(target), flags | _UMOUNT_NOFOLLOW) == 0:
            continue
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOENT):
            return
        raise OSError(code, f"umount2: {os.strerror(code)}", target)
