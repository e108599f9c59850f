"""Execution domains.

Man:     personality(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import prototype

DOMAINS = {"LINUX": 0, "LINUX32": 8}

_personality = prototype("personality", ctypes.c_ulong)


def set_domain(name: str) -> None:
    """LINUX or LINUX32; KeyError for another."""
    _personality(DOMAINS[name])
