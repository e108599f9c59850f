"""The names of a UTS namespace.

Man:     sethostname(2), setdomainname(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import fs_bytes, prototype

_sethostname = prototype("sethostname", ctypes.c_char_p, ctypes.c_size_t)
_setdomainname = prototype("setdomainname", ctypes.c_char_p, ctypes.c_size_t)


def sethostname(name: str) -> None:
    """sethostname(2)."""
    raw = fs_bytes(name)
    _sethostname(raw, len(raw))


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    raw = fs_bytes(name)
    _setdomainname(raw, len(raw))
