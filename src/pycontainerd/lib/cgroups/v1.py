"""Control groups version 1, with the empty version 2 hierarchy beside them where there is one.

Spec: linux Documentation/admin-guide/cgroup-v1
"""

from __future__ import annotations

import os
import time

from pycontainerd.lib.cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FREEZE_TRIES = 1000
FREEZE_PAUSE_S = 0.0005


class LegacyManager:
    """`paths`: controller (or name=X, or empty for version 2) -> folder."""

    __slots__ = ("paths", "rootless")

    def __init__(self, paths: dict[str, str], *, rootless: bool = False) -> None:
        self.paths = paths
        self.rootless = rootless

    def _folders(self) -> list[str]:
        return list(dict.fromkeys(self.paths.values()))

    def create(self) -> None:
        for name, folder in self.paths.items():
            try:
                os.mkdir(folder, 0o755)
            except FileExistsError:
                pass
            except FileNotFoundError:
                os.makedirs(folder, 0o755, exist_ok=True)
            except PermissionError:
                if not self.rootless:
                    raise
                continue
            if name == "cpuset":
                _inherit_cpuset(folder)

    def place(self, pid: int) -> None:
        """Nothing: a new process enters by open_fd and open_entries."""

    def exists(self) -> bool:
        return os.path.isdir(self.paths.get("devices") or next(iter(self.paths.values()), ""))

    def attach(self, pid: int) -> None:
        for folder in self._folders():
            try:
                files.write(folder, "cgroup.procs", pid)
            except (PermissionError, FileNotFoundError):
                if not self.rootless:
                    raise

    def open_fd(self) -> int:
        if not self.paths.get("") or self.rootless:
            return -1
        return os.open(self.paths[""], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_entries(self) -> list[int]:
        entries: list[int] = []
        for name, folder in self.paths.items():
            if name == "" and not self.rootless:
                continue  # by clone3
            try:
                # `tasks`, not cgroup.procs: for a thread that moves itself the kernel skips the lock against fork.
                entries.append(
                    os.open(f"{folder}/{'tasks' if name else 'cgroup.procs'}", os.O_WRONLY | os.O_CLOEXEC)
                )
            except (PermissionError, FileNotFoundError):
                if not self.rootless:
                    raise
        return entries

    def get_ready(self) -> None:
        for name in ("devices", "v1_resources"):
            __import__(f"pycontainerd.lib.cgroups.{name}")

    def set(self, resources: dict[str, Any], *, update: bool = False) -> None:
        from pycontainerd.lib.cgroups.v1_resources import write_resources

        if not update and "devices" in self.paths and not self.rootless:
            self._set_devices(resources.get("devices", []))
        write_resources(self.paths, resources)

    def _set_devices(self, rules: list[dict[str, Any]]) -> None:
        from pycontainerd.lib.cgroups.devices import fold

        program, folder = fold(rules), self.paths["devices"]
        first, then = ("devices.allow", "devices.deny")
        if not program.default_allow:
            first, then = then, first
        files.write(folder, first, "a")
        if program.exceptions:
            files.write_all(folder, then, program.lines())

    def freeze(self) -> None:
        folder = self.paths["freezer"]
        for _attempt in range(FREEZE_TRIES):
            # Written again each time: a process that forks meanwhile can keep the state at FREEZING.
            files.write(folder, "freezer.state", "FROZEN")
            if files.read(folder, "freezer.state") == "FROZEN":
                return
            time.sleep(FREEZE_PAUSE_S)
        files.write(folder, "freezer.state", "THAWED")
        raise OSError(16, "unable to freeze", folder)

    def thaw(self) -> None:
        files.write(self.paths["freezer"], "freezer.state", "THAWED")

    def is_frozen(self) -> bool:
        folder = self.paths.get("freezer", "")
        if not folder:
            return False
        return files.read(folder, "freezer.state", "THAWED") in ("FROZEN", "FREEZING")

    def _main_folder(self) -> str:
        return self.paths.get("devices") or next(iter(self.paths.values()))

    def pids(self, *, recursive: bool = True) -> list[int]:
        return files.pids(self._main_folder(), recursive=recursive)

    def kill(self) -> None:
        # Frozen, so that none forks away between the reading of the list and the signal.
        can_freeze = os.path.isdir(self.paths.get("freezer", ""))
        if can_freeze and self.pids():
            self.freeze()
        try:
            for pid in self.pids():
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue
        finally:
            if can_freeze:
                self.thaw()

    def destroy(self, *, timeout_s: float = files.DESTROY_TIMEOUT_S) -> None:
        files.remove(self._folders(), timeout_s)

    def stats(self) -> dict[str, Any]:
        from pycontainerd.lib.cgroups.v1_stats import read_stats

        return read_stats(self.paths)

    def view(self) -> tuple[list[tuple[str, str, str]], str]:
        from pycontainerd.lib.cgroups.hierarchy import own_paths, read_mounts

        own = own_paths()
        found: dict[str, tuple[str, str, str]] = {}
        for name, mount in read_mounts().v1.items():
            if name not in self.paths or mount.point in found:
                continue
            options = ",".join(
                f"none,{word}" if word.startswith("name=") else word for word in mount.options.split(",")
            )
            folder = self.paths[name]
            if self.rootless and not os.path.isdir(folder):
                # A user who may make no cgroup stays in the one that it has.
                folder = mount.point + own.get(name, "/").removeprefix(mount.root.rstrip("/"))
            found[mount.point] = (mount.point.rsplit("/", 1)[1], options, folder)
        return list(found.values()), ""


def _inherit_cpuset(folder: str) -> None:
    # A new cpuset is empty, and an empty one takes no process: fill it, from the top down.
    if files.read(folder, "cpuset.cpus", " ") and files.read(folder, "cpuset.mems", " "):
        return
    parent = os.path.dirname(folder)
    if not os.path.exists(f"{parent}/cpuset.cpus"):
        return
    _inherit_cpuset(parent)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not files.read(folder, name):
            files.write(folder, name, files.read(parent, name))
