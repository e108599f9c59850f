"""Resource limits of another process.

Man:     prlimit(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import prototype

_NAMES = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
]
RLIMITS = {f"RLIMIT_{name}": number for number, name in enumerate(_NAMES)}


class Rlimit(ctypes.Structure):
    """struct rlimit with 64-bit fields."""

    _fields_ = (("soft", ctypes.c_uint64), ("hard", ctypes.c_uint64))


_prlimit = prototype("prlimit64", ctypes.c_int, ctypes.c_int, ctypes.POINTER(Rlimit), ctypes.POINTER(Rlimit))


def prlimit(pid: int, resource: int, *, soft: int, hard: int) -> None:
    """Sets one limit of a process (0: this one)."""
    _prlimit(pid, resource, Rlimit(soft, hard), None)
