"""The bundle's log FIFO: lines for the daemon, never waiting for it, with what was lost counted.

Spec: containerd docs/runtime-v2.md#logging
Man:  fifo(7)
"""

from __future__ import annotations

import os

from pycontainerd.lib.log import LEVELS, Logger, format_text


class FifoLog(Logger):
    """Drops lines while the FIFO is full (the daemon is away), and says how many as soon as there is room again.

    A line is written whole or not at all: one that is longer than the FIFO's room would be cut, so it is shortened.
    """

    __slots__ = ("dropped",)

    _LONGEST = 4000  # bytes; PIPE_BUF, below which a write to a pipe is never split

    def __init__(self, fd: int, level: str) -> None:
        super().__init__(fd, level)
        self.dropped = 0

    def log(self, level: str, message: str, **fields: object) -> None:
        """Writes one line when the level is on."""
        if LEVELS[level] > self.level:
            return
        if self.dropped and self._write(format_text("warning", "log lines dropped", {"count": self.dropped})):
            self.dropped = 0
        if self.dropped or not self._write(format_text(level, message, {**self.fields, **fields})):
            self.dropped += 1

    def _write(self, line: str) -> bool:
        data = line.encode("utf-8", "surrogateescape")
        if len(data) > self._LONGEST:
            data = data[: self._LONGEST - 3] + b"..."
        try:
            os.write(self.fd, data + b"\n")
        except BlockingIOError:
            return False
        except OSError:
            return True  # no FIFO at all: there is nobody to tell about it
        return True
