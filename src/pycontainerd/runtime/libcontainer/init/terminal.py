"""A new terminal of the container's devpts, for its first process and for further ones; only who wants one loads this.

Runs in: init, and the parent of exec's child
"""

from __future__ import annotations

import os
from _socket import socket

from pycontainerd.lib.linux import path as fspath
from pycontainerd.lib.linux import procfs, pty
from pycontainerd.lib.linux.fd import rights
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.runtime.libcontainer.init.program import InitError


def open_terminal(root_fd: int, console_socket_fd: int, size: tuple[int, int] | None) -> int:
    """Makes a terminal in the container's devpts and sends its master to the console socket; the slave is returned."""
    try:
        ptmx_fd = fspath.open_in_root(root_fd, b"dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, follow=False)
    except OSError as error:
        raise InitError(f"open /dev/pts/ptmx: {go_error(error.errno or 0)}") from None
    if procfs.filesystem_magic(ptmx_fd) != pty.DEVPTS_SUPER_MAGIC:
        raise InitError("/dev/pts/ptmx of the container is not on a devpts")
    slave_fd, _name = pty.open_pair(ptmx_fd)
    if size is not None:
        pty.set_size(ptmx_fd, *size)
    connection = socket(fileno=console_socket_fd)
    connection.sendmsg([b"/dev/ptmx"], rights([ptmx_fd]))
    connection.detach()
    os.close(ptmx_fd)
    return slave_fd
