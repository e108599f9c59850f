"""Control groups version 2.

Spec: linux Documentation/admin-guide/cgroup-v2.rst
"""

from __future__ import annotations

import errno
import os
import select

from pycontainerd.lib.cgroups import files
from pycontainerd.lib.errdefs import InvalidArgument, PermissionDenied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FREEZE_TIMEOUT_MS = 10_000


class UnifiedManager:
    """One folder in the one hierarchy.

    A user to whom no cgroup was delegated has none made where nobody has named it: the container stays in the user's own, and
    limits are refused.
    """

    __slots__ = ("named", "path", "paths", "rootless")

    def __init__(self, path: str, *, rootless: bool = False, named: bool = True) -> None:
        self.named = named
        self.path = path
        self.paths = {"": path}
        self.rootless = rootless

    def create(self) -> None:
        try:
            self._create()
        except PermissionError as error:
            if not self.rootless:
                raise
            if self.named:
                raise PermissionDenied(f"mkdir {error.filename}: permission denied") from error

    def _create(self) -> None:
        if os.path.isdir(self.path):
            return
        # Top down: a controller works in a folder only when every folder above hands it on.
        parent = os.path.dirname(self.path)
        missing = []
        while not os.path.isdir(parent):
            missing.append(parent)
            parent = os.path.dirname(parent)
        chain = [parent, *reversed(missing)]
        for folder in chain:
            try:
                os.mkdir(folder, 0o755)
            except FileExistsError:
                pass
            self._enable_controllers(folder)
        try:
            os.mkdir(self.path, 0o755)
        except FileExistsError:
            pass
        if files.read(self.path, "cgroup.type", "domain") == "domain invalid":
            files.write(self.path, "cgroup.type", "threaded")

    def _enable_controllers(self, folder: str) -> None:
        have = set(files.read(folder, "cgroup.subtree_control", "").split())
        wanted = [
            f"+{name}" for name in files.read(folder, "cgroup.controllers", "").split() if name not in have
        ]
        if not wanted:
            return
        try:
            files.write(folder, "cgroup.subtree_control", " ".join(wanted))
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOTSUP):
                raise
        # One that can't be handed on must not keep the others away; a limit that needs it fails by itself.
        for word in wanted:
            try:
                files.write(folder, "cgroup.subtree_control", word)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    raise

    def place(self, pid: int) -> None:
        """Nothing: a new process enters by open_fd and open_entries."""

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def attach(self, pid: int) -> None:
        files.write(self.path, "cgroup.procs", pid)

    def open_fd(self) -> int:
        if self.rootless and not self.exists():
            return -1
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_entries(self) -> list[int]:
        return []

    def get_ready(self) -> None:
        for name in ("v2_devices", "v2_resources"):
            __import__(f"pycontainerd.lib.cgroups.{name}")

    def set(self, resources: dict[str, Any], *, update: bool = False) -> None:
        from pycontainerd.lib.cgroups.v2_resources import plan, write_resources

        if self.rootless and not self.exists():
            if plan(resources):
                raise InvalidArgument(
                    "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: "
                    f"mkdir {self.path}: permission denied"
                )
            return
        if not update and not self.rootless:
            from pycontainerd.lib.cgroups.v2_devices import attach_devices

            attach_devices(self.path, resources.get("devices", []))
        write_resources(self.path, resources)

    def freeze(self) -> None:
        self._set_frozen(True)

    def thaw(self) -> None:
        self._set_frozen(False)

    def _set_frozen(self, frozen: bool) -> None:
        wanted = f"frozen {int(frozen)}"
        fd = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            files.write(self.path, "cgroup.freeze", int(frozen))
            poll = select.poll()
            poll.register(fd, select.POLLPRI)  # the kernel says so when a line of cgroup.events changes
            while wanted not in os.pread(fd, 4096, 0).decode().splitlines():
                if not poll.poll(FREEZE_TIMEOUT_MS):
                    raise OSError(errno.EBUSY, "unable to freeze" if frozen else "unable to thaw", self.path)
        finally:
            os.close(fd)

    def is_frozen(self) -> bool:
        return "frozen 1" in files.read(self.path, "cgroup.events", "").splitlines()

    def pids(self, *, recursive: bool = True) -> list[int]:
        return files.pids(self.path, recursive=recursive)

    def kill(self) -> None:
        try:
            files.write(self.path, "cgroup.kill", 1)
            return
        except FileNotFoundError:
            if not os.path.isdir(self.path):
                return
        # Before Linux 5.14: freeze, so that none forks away.
        self.freeze()
        try:
            for pid in self.pids():
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue
        finally:
            self.thaw()

    def destroy(self, *, timeout_s: float = files.DESTROY_TIMEOUT_S) -> None:
        files.remove([self.path], timeout_s)

    def stats(self) -> dict[str, Any]:
        from pycontainerd.lib.cgroups.v2_stats import read_stats

        return read_stats(self.path)

    def view(self) -> tuple[list[tuple[str, str, str]], str]:
        if self.rootless and not self.exists():
            from pycontainerd.lib.cgroups.hierarchy import own_paths, read_mounts

            return [], read_mounts().unified + own_paths().get("", "/")
        return [], self.path
