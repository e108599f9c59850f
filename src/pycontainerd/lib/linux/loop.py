"""Loop devices: files as block devices.

Man:     loop(4)
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

CONTROL: Final = "/dev/loop-control"
_LOOP_SET_STATUS64: Final = 0x4C04
_LOOP_GET_STATUS64: Final = 0x4C05
_LOOP_CONFIGURE: Final = 0x4C0A
_LOOP_CTL_GET_FREE: Final = 0x4C82
_READ_ONLY: Final = 1
_AUTOCLEAR: Final = 4
_DIRECT_IO: Final = 16
# struct loop_info64: five u64, four u32 (the last is lo_flags), names and key, two u64; struct loop_config around it.
_INFO: Final = struct.Struct("=5Q4I64s64s32s2Q")
_CONFIG: Final = struct.Struct(f"=2I{_INFO.size}s8Q")
_FLAGS: Final = 8  # place of lo_flags in the info
_ATTEMPTS: Final = 100


def attach(path: str, *, read_only: bool = False, direct_io: bool = False) -> tuple[int, str]:
    """(fd, path) of a free device made of a file. It ends with its last user; the fd, the caller's, is one. OSError."""
    mode = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC
    backing_fd = os.open(path, mode)
    try:
        flags = _AUTOCLEAR | (_READ_ONLY if read_only else 0) | (_DIRECT_IO if direct_io else 0)
        name = os.fsencode(path)[:63]
        info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
        config = _CONFIG.pack(backing_fd, 0, info, *[0] * 8)
        for _ in range(_ATTEMPTS):
            device = f"/dev/loop{_free_number()}"
            fd = os.open(device, mode)
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, config)
            except OSError as e:
                os.close(fd)
                if e.errno != errno.EBUSY:  # else somebody else was given the same one and came first
                    raise
            else:
                return fd, device
        raise OSError(errno.EBUSY, "no loop device stays free long enough", path)
    finally:
        os.close(backing_fd)


def set_autoclear(fd: int, *, wanted: bool) -> None:
    """Whether the device ends with its last user, or stays until this is set. OSError."""
    fields = list(_INFO.unpack(fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_INFO.size))))
    flags = fields[_FLAGS] | _AUTOCLEAR if wanted else fields[_FLAGS] & ~_AUTOCLEAR
    if flags != fields[_FLAGS]:
        fields[_FLAGS] = flags
        fcntl.ioctl(fd, _LOOP_SET_STATUS64, _INFO.pack(*fields))


def backing(fd: int) -> tuple[int, int] | None:
    """(device, inode) of the file behind a loop device; None for a device without one. OSError."""
    try:
        fields = _INFO.unpack(fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_INFO.size)))
    except OSError as e:
        if e.errno == errno.ENXIO:
            return None
        raise
    return fields[0], fields[1]


def _free_number() -> int:
    fd = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(fd, _LOOP_CTL_GET_FREE)
    finally:
        os.close(fd)
