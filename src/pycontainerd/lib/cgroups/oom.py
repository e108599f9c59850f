"""Out-of-memory events of a cgroup, as a descriptor for a poll loop.

Spec: cgroup-v1 memory.rst#oom-control; cgroup-v2.rst memory.events
"""

from __future__ import annotations

import os
import select

from pycontainerd.lib.cgroups import files


class OomWatch:
    """Poll `fileno()` for `events`, then ask count(). Version 1: an eventfd; version 2: memory.events by POLLPRI."""

    __slots__ = ("_control_fd", "_fd", "_folder", "_seen", "events")

    def __init__(self, paths: dict[str, str]) -> None:
        self._control_fd = -1
        self._seen = 0
        if "memory" in paths:
            self._folder = paths["memory"]
            self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._control_fd = os.open(f"{self._folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            files.write(self._folder, "cgroup.event_control", f"{self._fd} {self._control_fd}")
            self.events = select.POLLIN
        else:
            self._folder = paths[""]
            self._fd = os.open(f"{self._folder}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
            self._seen = self._kills()
            self.events = select.POLLPRI

    def fileno(self) -> int:
        """The descriptor to poll; it stays ours."""
        return self._fd

    def _kills(self) -> int:
        return files.read_table(self._folder, "memory.events").get("oom_kill", 0)

    def count(self) -> int:
        """New events since the last call; 0 when the cgroup only went away."""
        if not self.is_there():
            return 0
        if self._control_fd >= 0:
            try:
                return int(os.eventfd_read(self._fd))
            except BlockingIOError:
                return 0
        os.pread(self._fd, 4096, 0)
        total = self._kills()
        new, self._seen = total - self._seen, total
        return new

    def is_there(self) -> bool:
        """Whether the cgroup still exists."""
        return os.path.isdir(self._folder)

    def close(self) -> None:
        """Gives up the watch."""
        for fd in (self._fd, self._control_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._control_fd = -1
