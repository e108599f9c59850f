"""Where the control group hierarchies are mounted, and where this process is in them.

Man:  cgroups(7), proc_pid_mountinfo(5), proc_pid_cgroup(5)
"""

from __future__ import annotations

import os

V1_CONTROLLERS = frozenset(
    [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "net_cls",
        "net_prio",
        "perf_event",
        "rdma",
        "misc",
    ]
)


class HierarchyMount:
    """One hierarchy: its mount point, the root of the mount, its controllers as mount options (none of version 2)."""

    __slots__ = ("options", "point", "root")

    def __init__(self, point: str, root: str, options: str) -> None:
        self.point = point
        self.root = root
        self.options = options


class Mounts:
    """v1: controller (or name=X) -> its mount; of version 2 the mount, if there is one."""

    __slots__ = ("unified_mount", "v1")

    def __init__(self) -> None:
        self.v1: dict[str, HierarchyMount] = {}
        self.unified_mount: HierarchyMount | None = None

    @property
    def unified(self) -> str:
        """The mount point of version 2, or empty."""
        return "" if self.unified_mount is None else self.unified_mount.point


def _unescape(path: str) -> str:
    if "\\" not in path:
        return path
    for octal, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(octal, char)
    return path


def read_text(path: str) -> str:
    """A whole small file of procfs, sysfs or cgroupfs."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def parse_mounts(mountinfo: str) -> Mounts:
    """The cgroup mounts of a mountinfo text; the first mount of a hierarchy counts."""
    found = Mounts()
    for line in mountinfo.splitlines():
        if " - cgroup" not in line:
            continue
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(), tail.split()
        root, point = _unescape(fields[3]), _unescape(fields[4])
        if rest[0] == "cgroup2":
            found.unified_mount = found.unified_mount or HierarchyMount(point, root, "")
        elif rest[0] == "cgroup":
            names = [
                word for word in rest[2].split(",") if word in V1_CONTROLLERS or word.startswith("name=")
            ]
            for name in names:
                found.v1.setdefault(name, HierarchyMount(point, root, ",".join(names)))
    return found


def read_mounts() -> Mounts:
    """The cgroup mounts of this process's mount namespace."""
    return parse_mounts(read_text("/proc/self/mountinfo"))


def parse_own_paths(text: str) -> dict[str, str]:
    """/proc/PID/cgroup as controller -> path; the key of version 2 is empty."""
    found = {}
    for line in text.splitlines():
        _number, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            found[name] = path
    return found


def own_paths() -> dict[str, str]:
    """Where this process is."""
    return parse_own_paths(read_text("/proc/self/cgroup"))
