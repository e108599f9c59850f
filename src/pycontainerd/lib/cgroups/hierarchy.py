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


class _Known:
    """What was found last, here or before this process was forked: mountinfo has a line for every container's rootfs."""

    __slots__ = ("mounts", "places")

    def __init__(self) -> None:
        self.mounts: Mounts | None = None
        self.places: list[tuple[str, int, int]] = []  # mount point, device, inode

    def remember(self, mounts: Mounts) -> None:
        """The mounts, if all of them can be looked at."""
        try:
            self.places = [_place(mount.point) for mount in _all(mounts)]
        except OSError:
            return  # covered by something that hangs or hides it
        self.mounts = mounts

    def is_so(self, mounts: Mounts) -> bool:
        """Whether they are still where they were, and the kernel has no hierarchy besides."""
        for name in own_paths():
            is_v1 = name in V1_CONTROLLERS or name.startswith("name=")
            if (is_v1 and name not in mounts.v1) or (name == "" and mounts.unified_mount is None):
                return False  # it isn't mounted, but may be at any time
        try:
            return all(_place(point) == (point, device, inode) for point, device, inode in self.places)
        except OSError:
            return False


def _all(mounts: Mounts) -> list[HierarchyMount]:
    unified = [] if mounts.unified_mount is None else [mounts.unified_mount]
    return [*{mount.point: mount for mount in mounts.v1.values()}.values(), *unified]


def _place(point: str) -> tuple[str, int, int]:
    found = os.stat(point)
    return point, found.st_dev, found.st_ino


_known = _Known()


def read_mounts() -> Mounts:
    """The cgroup mounts of this process's mount namespace."""
    if _known.mounts is not None and _known.is_so(_known.mounts):
        return _known.mounts
    found = parse_mounts(read_text("/proc/self/mountinfo"))
    _known.remember(found)
    return found
