"""What a process is called: its command line in ps, and its short name.

PR_SET_MM_MAP moves the kernel's idea of where argv lies. It needs no capability as long as the executable stays the
same, while the older one-field PR_SET_MM calls want CAP_SYS_RESOURCE. The kernel reads argv from anonymous private
pages only, so the new one is written to such a page, which stays mapped until there is another.

Man: PR_SET_MM(2const), proc_pid_cmdline(5)
"""

from __future__ import annotations

import mmap

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import prototype

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_NAME = 15
PR_SET_MM = 35
PR_SET_MM_MAP = 14
_COMM_MAX = 15  # bytes less the NUL

_FIELDS = (
    "start_code",
    "end_code",
    "start_data",
    "end_data",
    "start_brk",
    "brk",
    "start_stack",
    "arg_start",
    "arg_end",
    "env_start",
    "env_end",
)


class MmMap(ctypes.Structure):
    """struct prctl_mm_map of linux/prctl.h."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in _FIELDS),
        ("auxv", ctypes.c_void_p),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_int32),
    )


# prctl is variadic: every argument is passed as the unsigned long the kernel reads.
_prctl = prototype("prctl", ctypes.c_int, *(ctypes.c_ulong,) * 4)
_page: list[mmap.mmap] = []  # what argv lies in; unmapping it would show an empty command line


def set_command_line(argv: Sequence[str]) -> None:
    """Makes ps show exactly `argv`. Raises OSError where the kernel can't (no CONFIG_CHECKPOINT_RESTORE)."""
    text = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in argv)
    page = mmap.mmap(-1, len(text), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.write(text)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    layout = _current_layout()
    layout.arg_start, layout.arg_end = start, start + len(text)
    # The environment stays where it was. auxv is left alone by a null pointer, the executable by -1.
    layout.auxv, layout.auxv_size, layout.exe_fd = None, 0, -1
    _prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(layout), ctypes.sizeof(layout), 0)
    _page[:] = [page]


def set_name(name: str) -> None:
    """The name in ps -o comm; the kernel keeps 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:_COMM_MAX])
    _prctl(PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0)


def show_as(name: str, argv: Sequence[str]) -> None:
    """Both. A kernel without CONFIG_CHECKPOINT_RESTORE goes on showing the command line of before; nothing else is lost."""
    set_name(name)
    try:
        set_command_line(argv)
    except OSError:
        return


def _current_layout() -> MmMap:
    """The addresses as they are, from fields 26 to 51 of /proc/self/stat."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()

    def field(number: int) -> int:
        return int(fields[number - 3])

    layout = MmMap()
    layout.start_code, layout.end_code, layout.start_stack = field(26), field(27), field(28)
    layout.start_data, layout.end_data, layout.start_brk = field(45), field(46), field(47)
    layout.arg_start, layout.arg_end, layout.env_start, layout.env_end = (field(n) for n in range(48, 52))
    layout.brk = _current_break()
    return layout


def _current_break() -> int:
    """The end of the heap; handing the kernel another one would move it under malloc."""
    sbrk = prototype("sbrk", ctypes.c_ssize_t, restype=ctypes.c_void_p)
    return int(sbrk(0))
