"""Owned file descriptors, their passing over sockets, and closing all but a few.

Man:     close_range(2), unix(7)
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.constants import number
from pycontainerd.lib.linux.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence
    from types import TracebackType

CLOSE_RANGE_CLOEXEC = 4
FD_MAX = 0xFFFFFFFF
# Numbers of asm-generic/socket.h and linux/socket.h: loading _socket for them would cost whoever only closes descriptors.
SOL_SOCKET = 1
SCM_RIGHTS = 1
MSG_CMSG_CLOEXEC = 0x40000000

_close_range = syscall(number("close_range"), "close_range", ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)


class OwnedFd:
    """A descriptor that is closed once, by close(), the end of a with block, or given away by release()."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """The number; ValueError once closed or released."""
        if self._fd < 0:
            raise ValueError("descriptor is closed")
        return self._fd

    def release(self) -> int:
        """Gives the descriptor away: the caller closes it."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Closes it; again is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> int:
        return self.fileno()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def fds_of(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors of received control messages, now the caller's."""
    return [
        int.from_bytes(data[at : at + 4], "little")
        for level, kind, data in ancillary
        if level == SOL_SOCKET and kind == SCM_RIGHTS
        for at in range(0, len(data) - 3, 4)
    ]


def rights(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """The control messages that send descriptors along; none for none."""
    data = b"".join(fd.to_bytes(4, "little") for fd in fds)
    return [(SOL_SOCKET, SCM_RIGHTS, data)] if fds else []


def close_range(first: int, last: int = FD_MAX, *, flags: int = 0) -> None:
    """close_range(2); with CLOSE_RANGE_CLOEXEC it marks instead of closing."""
    _close_range(first, last, flags)


def gaps(keep: set[int], first: int = 3) -> tuple[tuple[int, int], ...]:
    """The ranges from `first` on that hold none of the descriptors to keep: what close_range takes."""
    found = []
    for fd in sorted(fd for fd in keep if fd >= first):
        if fd > first:
            found.append((first, fd - 1))
        first = fd + 1
    return (*found, (first, FD_MAX))


def send_fds(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    """One message with descriptors; they stay the caller's."""
    sock.sendmsg([data], rights(fds))


def recv_fds(sock: socket.socket, size: int, count: int) -> tuple[bytes, list[int]]:
    """One message and the descriptors that came with it, close-on-exec and now the caller's."""
    data, ancillary, _flags, _address = sock.recvmsg(size, 16 + 4 * count, MSG_CMSG_CLOEXEC)
    return data, fds_of(ancillary)


def close_all_but(fds: Iterable[int]) -> None:
    """Closes every descriptor of this process that isn't named."""
    low = 0
    for fd in sorted(set(fds)):
        if fd > low:
            close_range(low, fd - 1)
        low = fd + 1
    close_range(low)
