"""Tells when the kernel has killed something of a container for memory.

    v1  eventfd registered on memory.oom_control through cgroup.event_control
    v2  inotify on memory.events, whose oom_kill count has grown

Spec: cgroup-v1/memory.rst "OOM Control", cgroup-v2.rst "memory.events"
Man:  inotify(7), eventfd(2), cgroups(7)
"""

from __future__ import annotations

import os

from pycontainerd.lib.cgroup_folders import UNIFIED
from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import fs_bytes, prototype
from pycontainerd.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from pycontainerd.shim.attendant import Pack, Unpack
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
                watch = _WatchV1.begin(folders["memory"])
            elif UNIFIED in folders:
                watch = _WatchV2.begin(folders[UNIFIED])
            else:
                return
        except OSError as e:
            self._world.log.error("add cg to OOM monitor", error=e, id=container_id)
            return
        self._watch(container_id, watch)

    def _watch(self, container_id: str, watch: _Watch) -> None:
        self._watches[container_id] = watch
        self._world.loop.watch(watch.fd, READ, lambda events: self._fired(container_id))

    def pack(self, pack: Pack) -> dict[str, dict[str, Any]]:
        """What `unpack` watches the same from."""
        return {container_id: watch.pack(pack) for container_id, watch in self._watches.items()}

    def unpack(self, packed: dict[str, dict[str, Any]], found: Unpack) -> None:
        """Goes on watching: what has happened in between is told."""
        for container_id, state in packed.items():
            self._watch(container_id, _unpack(state, found))

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
    """Owns its fd, which can be read when something may have happened."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path

    def read(self) -> tuple[bool, bool]:
        """(a process was killed since the last read, the cgroup has gone)."""
        raise NotImplementedError

    def pack(self, pack: Pack) -> dict[str, Any]:
        """What `_unpack` makes the same watch from."""
        return {"fd": pack.add(self.fd, waited_for=True), "path": self.path}

    def close(self) -> None:
        """Gives back the fd."""
        os.close(self.fd)


class _WatchV1(_Watch):
    """An eventfd; `path` is memory.oom_control."""

    @classmethod
    def begin(cls, folder: str) -> _WatchV1:
        """On a memory cgroup."""
        made = cls(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), f"{folder}/memory.oom_control")
        control_fd = -1
        try:
            control_fd = os.open(made.path, os.O_RDONLY | os.O_CLOEXEC)
            fd = os.open(f"{folder}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, f"{made.fd} {control_fd}".encode())
            finally:
                os.close(fd)
        except OSError:
            made.close()
            raise
        finally:
            if control_fd >= 0:
                os.close(control_fd)
        return made

    def read(self) -> tuple[bool, bool]:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return False, False
        # Removing the cgroup fires the event as well.
        is_gone = not os.path.exists(self.path)
        return not is_gone, is_gone


class _WatchV2(_Watch):
    """An inotify fd; `path` is memory.events, of which `kills` have been told."""

    def __init__(self, fd: int, path: str, kills: int) -> None:
        super().__init__(fd, path)
        self._kills = kills

    @classmethod
    def begin(cls, folder: str) -> _WatchV2:
        """On a cgroup."""
        path = f"{folder}/memory.events"
        made = cls(_inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), path, _count_kills(path))
        try:
            _inotify_add_watch(made.fd, fs_bytes(path), _IN_MODIFY)
        except OSError:
            made.close()
            raise
        return made

    def read(self) -> tuple[bool, bool]:
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass  # asked before removal: the count below is what matters
        try:
            kills = _count_kills(self.path)
        except OSError:
            return False, True
        happened, self._kills = kills > self._kills, kills
        return happened, False

    def pack(self, pack: Pack) -> dict[str, Any]:
        return {**super().pack(pack), "kills": self._kills}


def _unpack(packed: dict[str, Any], found: Unpack) -> _Watch:
    fd = found.take(packed["fd"])
    if "kills" in packed:
        return _WatchV2(fd, packed["path"], packed["kills"])
    return _WatchV1(fd, packed["path"])


def _count_kills(path: str) -> int:
    with open(path, encoding="ascii") as file:
        for line in file:
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0
