"""Where a process's cgroups are: controller -> folder, through the mounts of this mount namespace.

Spec: cgroup-v1, cgroup-v2.rst
Man:  cgroups(7), proc_pid_mountinfo(5)
"""

from __future__ import annotations

import os

UNIFIED = ""  # the key of a v2 folder


def locate(pid: int) -> dict[str, str]:
    """The folders that exist; the unified one only where it accounts for something. Raises OSError when it is gone."""
    hierarchies = _hierarchies()
    folders: dict[str, str] = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            folder = _folder(hierarchies.get(controller), path)
            if folder and (controller != UNIFIED or os.path.exists(f"{folder}/memory.current")):
                folders[controller] = folder
    return folders


def _hierarchies() -> dict[str, tuple[str, str]]:
    """Controller -> (mount point, the cgroup that is mounted there)."""
    found: dict[str, tuple[str, str]] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            head, _, tail = line.rstrip("\n").partition(" - ")
            fstype, _, options = tail.split(" ", 2)
            root, point = head.split(" ")[3:5]
            if fstype == "cgroup2":
                found.setdefault(UNIFIED, (point, root))
            elif fstype == "cgroup":
                for option in options.split(","):
                    found.setdefault(option, (point, root))
    return found


def _folder(hierarchy: tuple[str, str] | None, path: str) -> str:
    if hierarchy is None:
        return ""
    point, root = hierarchy
    if root not in ("/", path) and not path.startswith(root + "/"):
        return ""
    folder = point + (path if root == "/" else path[len(root) :])
    return folder if os.path.isdir(folder) else ""
