"""Which pages a shim writes to, learned from an earlier one: the one in reserve has its copies before anybody asks.

A forked Python process copies about a thousand pages on its way to a container, at a microsecond or three each. The
processes are copies of one and the same image, so their addresses are equal, and they do the same: what the first one
has written to when it rests for the first time, or leaves, is what the next one will write to.

Man: proc_pid_pagemap(5), madvise(2) MADV_POPULATE_WRITE
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from _struct import iter_unpack, pack_into, unpack_from

from pycontainerd.lib.linux.libc import prototype

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_MADV_POPULATE_WRITE: Final = 23  # Linux 5.14
_PAGE: Final = mmap.PAGESIZE
_PRESENT: Final = 1 << 63
_EXCLUSIVE: Final = 1 << 56  # nobody else maps it: this process's own copy
_SIZE: Final = 16 << 10  # bytes of the list: a count, then (address, length) each
_RANGE: Final = "=QQ"
_RANGE_BYTES: Final = 16
_GAP_PAGES: Final = 2  # so many between two written ones are copied with them

_madvise = prototype("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class WrittenPages:
    """The list, in memory that this process shares with everything it forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _SIZE)

    def record(self) -> None:
        """Remembers what this process has written to; only the first time, in whichever process."""
        if unpack_from("=Q", self._shared)[0]:
            return
        ranges = list(_merge(_own_pages()))[: _SIZE // _RANGE_BYTES - 1]
        for number, (start, length) in enumerate(ranges, 1):
            pack_into(_RANGE, self._shared, number * _RANGE_BYTES, start, length)
        pack_into("=Q", self._shared, 0, len(ranges))

    def copy(self) -> None:
        """Makes this process's own copies of them. Where the kernel can't, each is made when it is written to."""
        count = unpack_from("=Q", self._shared)[0]
        ranges = bytes(self._shared[_RANGE_BYTES : (count + 1) * _RANGE_BYTES])
        for start, length in iter_unpack(_RANGE, ranges):
            try:
                _madvise(start, length, _MADV_POPULATE_WRITE)
            except OSError as error:
                if error.errno != errno.ENOMEM:  # a heap that has yet to grow so far
                    return


def _own_pages() -> Iterator[int]:
    """Addresses of the pages of private, writable memory that nobody else maps, in order."""
    with open("/proc/self/maps", "rb") as maps, open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        for line in maps.read().splitlines():
            area, permissions = line.split()[:2]
            if permissions[:2] != b"rw" or permissions[3:] != b"p":
                continue
            start, end = (int(word, 16) for word in area.split(b"-"))
            entries = os.pread(pagemap.fileno(), (end - start) // _PAGE * 8, start // _PAGE * 8)
            for number, (entry,) in enumerate(iter_unpack("=Q", entries)):
                if entry & _PRESENT and entry & _EXCLUSIVE:
                    yield start + number * _PAGE


def _merge(addresses: Iterator[int]) -> Iterator[tuple[int, int]]:
    """(start, length in bytes) of neighbours."""
    start = end = 0
    for address in addresses:
        if end and address - end <= _GAP_PAGES * _PAGE:
            end = address + _PAGE
            continue
        if end:
            yield start, end - start
        start, end = address, address + _PAGE
    if end:
        yield start, end - start
