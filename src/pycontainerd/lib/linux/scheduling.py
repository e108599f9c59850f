"""What a process is given of CPUs, disks and memory nodes: affinity, scheduling policy, I/O priority, memory policy.

Man:     sched_setaffinity(2), sched_setattr(2), ioprio_set(2), set_mempolicy(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.constants import number
from pycontainerd.lib.linux.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

IOPRIO_WHO_PROCESS = 1
IOPRIO_CLASS_SHIFT = 13
IOPRIO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

SCHED_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

MPOL_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MPOL_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}

WORD_BITS = ctypes.sizeof(ctypes.c_ulong) * 8


class SchedAttr(ctypes.Structure):
    """struct sched_attr of linux/sched/types.h, version 0 (48 bytes). Times are nanoseconds."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sched_policy", ctypes.c_uint32),
        ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32),
        ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64),
        ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )


_ioprio_set = syscall(number("ioprio_set"), "ioprio_set", ctypes.c_int, ctypes.c_int, ctypes.c_int)
_sched_setattr = syscall(
    number("sched_setattr"), "sched_setattr", ctypes.c_int, ctypes.POINTER(SchedAttr), ctypes.c_uint
)
_set_mempolicy = syscall(
    number("set_mempolicy"), "set_mempolicy", ctypes.c_int, ctypes.POINTER(ctypes.c_ulong), ctypes.c_ulong
)


def ioprio_set(io_class: int, level: int) -> None:
    """The I/O priority of the calling process: a class and, within it, a level from 0 (first) to 7."""
    _ioprio_set(IOPRIO_WHO_PROCESS, 0, io_class << IOPRIO_CLASS_SHIFT | level)


def sched_setattr(attributes: SchedAttr) -> None:
    """The scheduling policy of the calling process; its size field is filled in."""
    attributes.size = ctypes.sizeof(SchedAttr)
    _sched_setattr(0, attributes, 0)


def mask_words(numbers: Collection[int]) -> list[int]:
    """Numbers as the words of a bit mask, lowest first; no numbers are one empty word."""
    words = [0] * (max(numbers, default=0) // WORD_BITS + 1)
    for item in numbers:
        words[item // WORD_BITS] |= 1 << item % WORD_BITS
    return words


def set_mempolicy(mode: int, words: list[int]) -> None:
    """The memory policy of the calling process; `mode` has its flags in it, `words` are the mask of NUMA nodes."""
    if not any(words):
        _set_mempolicy(mode, None, 0)
        return
    mask = (ctypes.c_ulong * len(words))(*words)
    # The kernel reads one bit less than it is told.
    _set_mempolicy(mode, mask, len(words) * WORD_BITS + 1)
