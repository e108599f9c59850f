"""System call numbers of the machine this runs on.

Spec: linux arch/*/entry/syscalls, include/uapi/asm-generic/unistd.h
"""

from __future__ import annotations

import os

ARCH = os.uname().machine

if ARCH == "x86_64":
    from pycontainerd.lib.linux.constants.x86_64 import NUMBERS
elif ARCH == "aarch64":
    from pycontainerd.lib.linux.constants.aarch64 import NUMBERS
else:
    raise ImportError(f"pycontainerd has no system call table for {ARCH}")

# Since Linux 5.0 every architecture gives a new call the same number.
UNIFIED = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}


def number(name: str) -> int:
    """The number of a system call by its man-page name; KeyError for one this table doesn't hold."""
    return UNIFIED[name] if name in UNIFIED else NUMBERS[name]
