"""Where a process's cgroups are: controller -> folder, through the mounts of this mount namespace.

Spec: cgroup-v1, cgroup-v2.rst
Man:  cgroups(7)
"""

from __future__ import annotations

import os

from pycontainerd.lib.cgroups.hierarchy import parse_own_paths, read_mounts, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.lib.cgroups.hierarchy import HierarchyMount

UNIFIED = ""  # the key of a v2 folder


def locate(pid: int) -> dict[str, str]:
    """The folders that exist; the unified one only where it accounts for something. Raises OSError when it is gone."""
    mounts = read_mounts()
    folders: dict[str, str] = {}
    for controller, path in parse_own_paths(read_text(f"/proc/{pid}/cgroup")).items():
        mount = mounts.unified_mount if controller == UNIFIED else mounts.v1.get(controller)
        folder = "" if mount is None else _folder(mount, path)
        if folder and (controller != UNIFIED or os.path.exists(f"{folder}/memory.current")):
            folders[controller] = folder
    return folders


def _folder(mount: HierarchyMount, path: str) -> str:
    if mount.root not in ("/", path) and not path.startswith(mount.root + "/"):
        return ""
    folder = mount.point + (path if mount.root == "/" else path[len(mount.root) :])
    return folder if os.path.isdir(folder) else ""
