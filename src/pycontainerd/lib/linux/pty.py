"""Pseudo-terminals: the pair, its size, raw mode, the controlling terminal.

Man:     pty(7), ioctl_tty(2), termios(3)
"""

from __future__ import annotations

import fcntl
import os

TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TIOCSPTLCK = 0x40045431
TIOCGPTN = 0x80045430
TIOCGPTPEER = 0x5441
DEVPTS_SUPER_MAGIC = 0x1CD1


def open_pair(ptmx_fd: int) -> tuple[int, str]:
    """Unlocks a master that was opened from some devpts and opens its slave without any path.

    Returns the slave's descriptor, the caller's, and its name below that devpts.
    """
    fcntl.ioctl(ptmx_fd, TIOCSPTLCK, (0).to_bytes(4, "little"))
    index = int.from_bytes(fcntl.ioctl(ptmx_fd, TIOCGPTN, b"\0\0\0\0"), "little")
    slave_fd = fcntl.ioctl(ptmx_fd, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return slave_fd, str(index)


def set_size(fd: int, rows: int, columns: int) -> None:
    """Sets the window size; the foreground process group gets SIGWINCH."""
    packed = rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + b"\0\0\0\0"
    fcntl.ioctl(fd, TIOCSWINSZ, packed)


def get_size(fd: int) -> tuple[int, int]:
    """(rows, columns) of a terminal; OSError ENOTTY when it isn't one."""
    packed = fcntl.ioctl(fd, TIOCGWINSZ, b"\0" * 8)
    return int.from_bytes(packed[:2], "little"), int.from_bytes(packed[2:4], "little")


def set_controlling(fd: int) -> None:
    """Makes a terminal the controlling one of this session leader."""
    fcntl.ioctl(fd, TIOCSCTTY, 0)
