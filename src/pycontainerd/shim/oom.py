"""Tells when the kernel has killed something of a container for memory.

    v1  eventfd registered on memory.oom_control through cgroup.event_control
    v2  inotify on memory.events, whose oom_kill count has grown

Spec: cgroup-v1/memory.rst "OOM Control", cgroup-v2.rst "memory.events"
Man:  inotify(7), eventfd(2), cgroups(7)
"""

from __future__ import annotations

import ctypes
import os

from pycontainerd.lib.cgroup_folders import UNIFIED
from pycontainerd.lib.linux.libc import fs_bytes, prototype
from pycontainerd.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from pycontainerd.shim.world import World

_IN_MODIFY: Final = 2
_inotify_init1 = prototype("inotify_init1", ctypes.c_int)
_inotify_add_watch = prototype("inotify_add_watch", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class OomWatcher:
    """One watch per container; `on_oom` gets its id."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._watches: dict[str, _Watch] = {}
        self.on_oom: Callable[[str], None] = lambda container_id: None

    def add(self, container_id: str, folders: dict[str, str]) -> None:
        """Watches the memory cgroup among `folders`. Not being able to is worth a line in the log, no more."""
        watch: _Watch
        try:
            if "memory" in folders:
                watch = _WatchV1(folders["memory"])
            elif UNIFIED in folders:
                watch = _WatchV2(folders[UNIFIED])
            else:
                return
        except OSError as e:
            self._world.log.error("add cg to OOM monitor", error=e, id=container_id)
            return
        self._watches[container_id] = watch
        self._world.loop.watch(watch.fd, READ, lambda events: self._fired(container_id))

    def remove(self, container_id: str) -> None:
        """Stops watching; reports a kill that the loop has not seen yet first."""
        if container_id not in self._watches:
            return
        self._fired(container_id)
        self._drop(container_id)

    def _fired(self, container_id: str) -> None:
        watch = self._watches.get(container_id)
        if watch is None:
            return
        happened, is_gone = watch.read()
        if happened:
            self.on_oom(container_id)
        if is_gone:
            self._drop(container_id)

    def _drop(self, container_id: str) -> None:
        watch = self._watches.pop(container_id, None)
        if watch is not None:
            self._world.loop.unwatch(watch.fd)
            watch.close()


class _Watch:
    fd = -1

    def read(self) -> tuple[bool, bool]:
        """(a process was killed since the last read, the cgroup has gone)."""
        raise NotImplementedError

    def close(self) -> None:
        """Gives back the fds."""
        os.close(self.fd)


class _WatchV1(_Watch):
    def __init__(self, folder: str) -> None:
        self._control = f"{folder}/memory.oom_control"
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control_fd = -1
        try:
            control_fd = os.open(self._control, os.O_RDONLY | os.O_CLOEXEC)
            fd = os.open(f"{folder}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, f"{self.fd} {control_fd}".encode())
            finally:
                os.close(fd)
        except OSError:
            os.close(self.fd)
            raise
        finally:
            if control_fd >= 0:
                os.close(control_fd)

    def read(self) -> tuple[bool, bool]:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return False, False
        # Removing the cgroup fires the event as well.
        is_gone = not os.path.exists(self._control)
        return not is_gone, is_gone


class _WatchV2(_Watch):
    def __init__(self, folder: str) -> None:
        self._events = f"{folder}/memory.events"
        self._kills = self._count()
        self.fd = _inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _inotify_add_watch(self.fd, fs_bytes(self._events), _IN_MODIFY)
        except OSError:
            os.close(self.fd)
            raise

    def read(self) -> tuple[bool, bool]:
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass  # asked before removal: the count below is what matters
        try:
            kills = self._count()
        except OSError:
            return False, True
        happened, self._kills = kills > self._kills, kills
        return happened, False

    def _count(self) -> int:
        with open(self._events, encoding="ascii") as file:
            for line in file:
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        return 0
