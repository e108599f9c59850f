"""Which pages of memory a forked process writes to, learned from an earlier one: the next one copies them all at once.

A forked Python process copies about a thousand pages on its way to a container, at a microsecond or three each when it
comes upon them, and at a third of that when they are asked for together. The processes are copies of one and the same
image, so their addresses are equal, and they do the same: what the first one has written to, the next one will.

Man: proc_pid_pagemap(5), madvise(2) MADV_POPULATE_WRITE
"""

from __future__ import annotations

import errno
import mmap
import os
from _struct import iter_unpack, pack_into, unpack_from

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import prototype

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    Memory = list[tuple[int, bytes]]

_MADV_POPULATE_WRITE: Final = 23  # Linux 5.14
_PAGE: Final = mmap.PAGESIZE
_PRESENT: Final = 1 << 63
_EXCLUSIVE: Final = 1 << 56  # nobody else maps it: this process's own copy
_FRAME: Final = (1 << 55) - 1
_ENTRY: Final = 8  # bytes
_SIZE: Final = 16 << 10  # bytes of the list: a count, then (address, length) each
_RANGE: Final = "=QQ"
_RANGE_BYTES: Final = 16
_GAP_PAGES: Final = 2  # so many between two written ones are copied with them

_madvise = prototype("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class WrittenPages:
    """The list, in memory that this process shares with everything it forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _SIZE)

    @property
    def is_known(self) -> bool:
        """Whether some process has recorded it."""
        return bool(unpack_from("=Q", self._shared)[0])

    def record(self) -> None:
        """Remembers what this process has written to; only the first time, in whichever process."""
        if not self.is_known:
            self._store(_own_pages())

    def before_clone(self) -> Memory | None:
        """This process's memory, for `record_child`; None when there is nothing left to learn, or no way to."""
        if self.is_known:
            return None
        try:
            return list(_memory("self"))
        except OSError:
            return None  # a kernel that doesn't show it: pages are copied when they are written to

    def record_child(self, pid: int, before: Memory) -> None:
        """Remembers what a child has written to since the clone, before which this was the memory of both."""
        self._store(_changed(pid, before))

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

    def _store(self, addresses: Iterator[int]) -> None:
        try:
            ranges = list(_merge(addresses))[: _SIZE // _RANGE_BYTES - 1]
        except OSError:
            return  # nobody may look there, or the child has gone: nothing is known, and nothing is wrong
        for number, (start, length) in enumerate(ranges, 1):
            pack_into(_RANGE, self._shared, number * _RANGE_BYTES, start, length)
        pack_into("=Q", self._shared, 0, len(ranges))


class Pages:
    """What a shim's first attendant writes to, what of that once more after it has cloned init, and what init writes to.

    `attendant` is copied while it is in reserve, `init` by init at its beginning, `after_clone` by the attendant, which
    has shared everything with init anew.
    """

    __slots__ = ("_before", "after_clone", "attendant", "init")

    def __init__(self) -> None:
        self.attendant = WrittenPages()
        self.init = WrittenPages()
        self.after_clone = WrittenPages()
        self._before: Memory | None = None

    def before_clone(self) -> None:
        """Looks at this process's memory, which will be that of both, if there is still something to learn."""
        self._before = self.init.before_clone()

    def record_init(self, pid: int) -> None:
        """What init has written to until it waits for its start."""
        if self._before is not None:
            self.init.record_child(pid, self._before)

    def record(self) -> None:
        """What this process has written to, at its end."""
        self.attendant.record()
        if self._before is not None:
            self.after_clone.record_child(os.getpid(), self._before)
            self._before = None


def _memory(pid: int | str) -> Iterator[tuple[int, bytes]]:
    """(start, entries of pagemap) of every area of private, writable memory, in order."""
    with open(f"/proc/{pid}/maps", "rb") as maps, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in maps.read().splitlines():
            area, permissions = line.split()[:2]
            if permissions[:2] != b"rw" or permissions[3:] != b"p":
                continue
            start, end = (int(word, 16) for word in area.split(b"-"))
            yield start, os.pread(pagemap.fileno(), (end - start) // _PAGE * _ENTRY, start // _PAGE * _ENTRY)


def _own_pages() -> Iterator[int]:
    """Addresses of the pages that nobody else maps, in order."""
    for start, entries in _memory("self"):
        for number, (entry,) in enumerate(iter_unpack("=Q", entries)):
            if entry & _PRESENT and entry & _EXCLUSIVE:
                yield start + number * _PAGE


def _changed(pid: int, before: Memory) -> Iterator[int]:
    """Addresses of a child's pages that are others by now, in order.

    The kernel shows which ones they are to CAP_SYS_ADMIN only; to others all of them are page 0.
    """
    now = dict(_memory(pid))
    for start, old in before:
        pairs = zip(iter_unpack("=Q", old), iter_unpack("=Q", now.get(start, b"")), strict=False)
        for number, ((was,), (entry,)) in enumerate(pairs):
            if entry & _PRESENT and (was ^ entry) & _FRAME:
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
