"""A shim's stderr: the daemon reads the bundle's log FIFO and copies it to where its own log goes.

Man: fifo(7)
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Final

_CHUNK: Final = 64 << 10


class ShimLog:
    """Opened before the shim starts, so that its open never blocks; `close()` with the task."""

    def __init__(self, path: str, log_fd: int) -> None:
        """`log_fd` is borrowed."""
        with suppress(FileExistsError):
            os.mkfifo(path, 0o700)
        # Read-write: neither end ever sees a hang-up while daemon or shim restart.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._log_fd = log_fd
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._copy)

    def close(self) -> None:
        """Copies what is left and stops. Idempotent."""
        if self._fd < 0:
            return
        self._copy()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _copy(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        with suppress(OSError):  # the log may be a full disk or a closed pipe; containers must not care
            os.write(self._log_fd, data)
