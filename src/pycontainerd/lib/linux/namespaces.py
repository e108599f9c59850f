"""Kernel namespaces: their flags, unshare and setns.

Man:     namespaces(7), unshare(2), setns(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import prototype

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# runtime-spec name -> (flag, file in /proc/PID/ns), in the order in which they are joined: the user namespace
# first, for it gives the right to join the others; the mount namespace last, for it takes the host's paths away.
LINUX_NAMESPACES = {
    "user": (CLONE_NEWUSER, "user"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "network": (CLONE_NEWNET, "net"),
    "pid": (CLONE_NEWPID, "pid"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "time": (CLONE_NEWTIME, "time"),
    "mount": (CLONE_NEWNS, "mnt"),
}

_unshare = prototype("unshare", ctypes.c_int)
_setns = prototype("setns", ctypes.c_int, ctypes.c_int)


def unshare(flags: int) -> None:
    """unshare(2); CLONE_NEWUSER needs a process with one thread."""
    _unshare(flags)


def setns(fd: int, flags: int = 0) -> None:
    """setns(2) with a namespace descriptor, or a pidfd and several flags."""
    _setns(fd, flags)
