"""Sockets as bare descriptors, for programs that would load _socket (0.2 ms) for one or two of them.

Man:     socket(2), socketpair(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import prototype

AF_UNIX, AF_INET = 1, 2
SOCK_DGRAM, SOCK_SEQPACKET = 2, 5
_SOCK_CLOEXEC = 0o2000000

_socket = prototype("socket", ctypes.c_int, ctypes.c_int, ctypes.c_int)
_socketpair = prototype("socketpair", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


def socket(family: int, kind: int) -> int:
    """A socket of the current network namespace, close-on-exec and the caller's."""
    fd: int = _socket(family, kind | _SOCK_CLOEXEC, 0)
    return fd


def socketpair(kind: int) -> tuple[int, int]:
    """Two AF_UNIX sockets that are connected, both close-on-exec and the caller's."""
    ends = (ctypes.c_int * 2)()
    _socketpair(AF_UNIX, kind | _SOCK_CLOEXEC, 0, ends)
    return ends[0], ends[1]
