"""How the C library keeps memory that was freed.

Man: mallopt(3)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import libc

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD_BYTES = 16 << 20


def keep_freed(size_bytes: int) -> None:
    """Keeps up to that much for the next allocation: a buffer that comes and goes costs no page faults each time.

    For processes that end soon. Does nothing where the C library has no such setting (musl).
    """
    try:
        mallopt = libc["mallopt"]
    except AttributeError:
        return
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)  # below it, a buffer is part of the heap
    mallopt(_M_TRIM_THRESHOLD, size_bytes)
