"""Session keyrings: a container must not see the host's.

Man:     keyctl(2), keyrings(7)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.constants import number
from pycontainerd.lib.linux.libc import fs_bytes, syscall

KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_SETPERM = 5
KEYCTL_DESCRIBE = 6

_keyctl_name = syscall(number("keyctl"), "keyctl", ctypes.c_int, ctypes.c_char_p)
_keyctl = syscall(
    number("keyctl"), "keyctl", ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong
)


def join_session_keyring(name: str) -> int:
    """Makes (or joins) the named session keyring and returns its serial number."""
    return _keyctl_name(KEYCTL_JOIN_SESSION_KEYRING, fs_bytes(name))


def set_permissions(serial: int, mask: int) -> None:
    """Sets the permission mask of a key."""
    _keyctl(KEYCTL_SETPERM, serial, mask, 0, 0)
