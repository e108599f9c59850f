"""A program on a terminal of its own: what a person types and sees."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time


class Screen:
    """A program on a terminal of its own, 33 lines of 77 columns."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.master_fd, slave_fd = pty.openpty()
        self.resize(33, 77)
        self.process = subprocess.Popen(
            argv, stdin=slave_fd, stdout=slave_fd, stderr=slave_fd, env=env, start_new_session=True
        )
        self.slave_fd = slave_fd
        self.text = ""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.master_fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master_fd, text.encode())

    def wait_for(self, pattern: str, timeout_s: float = 20) -> str:
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.text!r}"
            self._read(0.1)
        return self.text

    def wait(self, timeout_s: float = 20) -> int:
        """The status of the program, whose output is read until then: a terminal that is full would hold it up."""
        deadline = time.monotonic() + timeout_s
        while (status := self.process.poll()) is None:
            assert time.monotonic() < deadline, f"still running after {self.text!r}"
            self._read(0.1)
        while self._read(0):
            pass
        return status

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self.master_fd], [], [], timeout_s)[0]:
            return False
        self.text += os.read(self.master_fd, 65536).decode("utf-8", "replace")
        return True

    def close(self) -> None:
        """Ends the program, should it still run, and the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.slave_fd)
        os.close(self.master_fd)
