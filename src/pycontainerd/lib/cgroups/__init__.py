"""Control groups: one manager per container, on version 1, version 2 or a mix of both.

Spec: linux Documentation/admin-guide/cgroup-v1, cgroup-v2.rst; runtime-spec config-linux.md#control-groups
"""

from __future__ import annotations

import os

from pycontainerd.lib.cgroups.hierarchy import own_paths, read_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pycontainerd.lib.cgroups.v1 import LegacyManager
    from pycontainerd.lib.cgroups.v2 import UnifiedManager

    class Manager(Protocol):
        """The cgroups of one container. Paths are host paths; errors are OSError unless said otherwise."""

        paths: dict[str, str]

        def create(self) -> None:
            """Makes the folders; existing ones are fine. Idempotent."""

        def place(self, pid: int) -> None:
            """Moves a container's first process in where that is what makes the cgroups (systemd): after its clone, before
            it goes on. Unknown or Unavailable say why not.
            """

        def exists(self) -> bool:
            """Whether the cgroup of the devices or unified hierarchy is there."""

        def attach(self, pid: int) -> None:
            """Moves a process in."""

        def open_fd(self) -> int:
            """A version 2 folder for clone3's CLONE_INTO_CGROUP, the caller's; -1 where there is none."""

        def open_entries(self) -> list[int]:
            """Files that a new single-threaded process writes b"0" to, to enter what open_fd() doesn't cover.

            The descriptors are the caller's. Moving oneself takes no lock of the whole machine: attach() on ten
            version 1 hierarchies takes 11 ms, this takes 0.3.
            """

        def get_ready(self) -> None:
            """Loads what `set` needs, for a caller who has nothing else to do."""

        def set(self, resources: dict[str, Any], *, update: bool = False) -> None:
            """Writes limits (`linux.resources`); fields that are absent stay as they are.

            With update=False the device rules are written too, an absent list meaning the defaults.
            """

        def freeze(self) -> None:
            """Returns when every process has stopped running."""

        def thaw(self) -> None:
            """Lets them run again."""

        def is_frozen(self) -> bool:
            """Whether freeze() is in force."""

        def pids(self, *, recursive: bool = True) -> list[int]:
            """Processes in it, host pids."""

        def kill(self) -> None:
            """SIGKILL to every process in it; doesn't wait."""

        def destroy(self, *, timeout_s: float = 1.0) -> None:
            """Removes the folders and sub-folders; gone is fine. OSError EBUSY when processes die no sooner than that."""

        def stats(self) -> dict[str, Any]:
            """The `data` of runc's stats event."""

        def view(self) -> tuple[list[tuple[str, str, str]], str]:
            """For cgroup mounts: v1 (name, options, path) of each hierarchy, or the v2 path."""


def manager_for(cgroups_path: str, id: str, *, rootless: bool = False) -> Manager:
    """The manager for a new container.

    An absolute path counts from the hierarchy's root, a relative one from our own cgroup (of version 2: from its parent).
    """
    mounts = read_mounts()
    own = own_paths()
    if not mounts.v1:
        from pycontainerd.lib.cgroups.v2 import UnifiedManager

        # Beside our own, not in it: a cgroup with processes hands no controller on.
        beside = os.path.dirname(own.get("", "/"))
        path = mounts.unified + _below(cgroups_path, id, beside, "")
        return UnifiedManager(path, rootless=rootless, named=bool(cgroups_path))
    from pycontainerd.lib.cgroups.v1 import LegacyManager

    paths = {
        name: mount.point + _below(cgroups_path, id, own.get(name, "/"), mount.root)
        for name, mount in sorted(mounts.v1.items())
    }
    if mounts.unified:
        paths = {"": mounts.unified + _below(cgroups_path, id, own.get("", "/"), ""), **paths}
    return LegacyManager(paths, rootless=rootless)


def systemd_manager_for(
    cgroups_path: str, id: str, *, rootless: bool, annotations: dict[str, str], resources: dict[str, Any]
) -> Manager:
    """The same by systemd: `cgroups_path` is slice:prefix:name, annotations may name further properties of the unit."""
    from pycontainerd.lib.cgroups import systemd
    from pycontainerd.lib.cgroups.systemd_properties import from_annotations

    unit = systemd.parse_path(cgroups_path, id)
    extra = from_annotations(annotations)
    return systemd.manager_for_unit(read_mounts(), unit, rootless=rootless, extra=extra, resources=resources)


def manager_from_unit(
    paths: dict[str, str], parent: str, prefix: str, name: str, *, rootless: bool
) -> Manager:
    """The manager of a container that exists and is a unit of systemd, from its state."""
    from pycontainerd.lib.cgroups import systemd

    unit = systemd.Unit(parent, prefix, name)
    return systemd.SystemdManager(
        manager_from_paths(paths, rootless=rootless), unit, rootless=rootless, begun=True
    )


def manager_from_paths(paths: dict[str, str], *, rootless: bool = False) -> LegacyManager | UnifiedManager:
    """The manager of a container that exists, from its state's cgroup_paths."""
    if set(paths) <= {""}:
        from pycontainerd.lib.cgroups.v2 import UnifiedManager

        return UnifiedManager(paths.get("", ""), rootless=rootless)
    from pycontainerd.lib.cgroups.v1 import LegacyManager

    return LegacyManager(paths, rootless=rootless)


def _below(cgroups_path: str, id: str, own: str, mount_root: str) -> str:
    if cgroups_path.startswith("/"):
        path = cgroups_path
    else:
        if mount_root not in ("", "/") and own.startswith(mount_root):
            own = own[len(mount_root) :]
        path = own + "/" + (cgroups_path or id)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        from pycontainerd.lib.errdefs import InvalidArgument

        if parts:
            raise InvalidArgument(f"cgroup path {path!r} must not contain ..")
        raise InvalidArgument(
            "linux.cgroupsPath: the root of all cgroups can't be a container's: its limits would be everybody's"
        )
    return "/" + "/".join(parts)
