"""What a spec takes from this machine: devices, capabilities, environment files."""

from __future__ import annotations

import os
import stat

from pycontainerd.ctr.text import os_text
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

# Made by the runtime in every container, or folders of other things than devices.
_SKIPPED_FOLDERS: Final = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})
_CAPABILITIES: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)


def current_capabilities() -> list[str]:
    """The caller's effective capabilities that have a name, in the kernel's order."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    return [f"CAP_{name}" for bit, name in enumerate(_CAPABILITIES.split()) if mask >> bit & 1]


def device(path: str, container_path: str = "") -> dict[str, Any]:
    """The node at `path` as a device of the spec; InvalidArgument when it is none."""
    found = os.lstat(path)
    kind = "b" if stat.S_ISBLK(found.st_mode) else "c" if stat.S_ISCHR(found.st_mode) else ""
    if not kind:
        raise InvalidArgument("not a device node", hint=f"{path} is neither a block nor a character device")
    return {
        "path": container_path or path,
        "type": kind,
        "major": os.major(found.st_rdev),
        "minor": os.minor(found.st_rdev),
        "fileMode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
    }


def devices(path: str) -> list[dict[str, Any]]:
    """The device at `path`, or every device in that folder and below."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InvalidArgument(f"error stating device path: {os_text(error, 'stat')}") from error
    if not stat.S_ISDIR(mode):
        return [device(path)]
    return [device(found) for found in _walk(path)]


def host_devices() -> list[dict[str, Any]]:
    """Every device of /dev but the ones that each container has of its own."""
    return devices("/dev")


def _walk(folder: str) -> Iterator[str]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            if entry.name not in _SKIPPED_FOLDERS:
                yield from _walk(entry.path)
        elif entry.name != "console" and (stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
            yield entry.path


def environment_file(path: str) -> list[str]:
    """The lines of an env file."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return [line for line in file.read().splitlines() if line]
