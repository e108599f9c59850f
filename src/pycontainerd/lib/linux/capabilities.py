"""Capability names, and the five sets of a process.

Man:     capabilities(7), capset(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.constants import number
from pycontainerd.lib.linux.libc import syscall

_NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
CAPABILITIES = {f"CAP_{name}": bit for bit, name in enumerate(_NAMES)}

_VERSION_3 = 0x20080522


class CapHeader(ctypes.Structure):
    """struct __user_cap_header_struct."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapData(ctypes.Structure):
    """struct __user_cap_data_struct, twice: low and high 32 bits."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


CapDataPair = CapData * 2
_capset = syscall(number("capset"), "capset", ctypes.POINTER(CapHeader), ctypes.POINTER(CapData))


def to_mask(names: list[str] | tuple[str, ...]) -> int:
    """Names as a bit mask; KeyError for an unknown one."""
    mask = 0
    for name in names:
        mask |= 1 << CAPABILITIES[name]
    return mask


def last_cap() -> int:
    """The highest capability number this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Sets three sets of the calling thread."""
    low = 0xFFFFFFFF
    data = CapDataPair(
        CapData(effective & low, permitted & low, inheritable & low),
        CapData(effective >> 32, permitted >> 32, inheritable >> 32),
    )
    _capset(CapHeader(_VERSION_3, 0), data)


def permitted() -> int:
    """The permitted set of this process as a mask."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapPrm:"):
                return int(line[7:], 16)
    raise OSError(22, "no CapPrm in /proc/self/status")
