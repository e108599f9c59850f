"""What a test could leave behind on the machine, as a comparable value."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CGROUP_ROOT = "/sys/fs/cgroup"
DAEMONS: set[int] = set()  # started by fixtures that outlive a test and may restart them in it


def mounts() -> set[str]:
    """Mount points of this mount namespace, but for the protected interpreter's, which is made once and stays."""
    with open("/proc/self/mountinfo") as file:
        points = {line.split()[4] for line in file}
    return {point for point in points if not point.startswith("/run/pycontainerd/interpreter/")}


def cgroups() -> set[str]:
    """Every cgroup that a container can have been in; none where other work on the machine makes cgroups meanwhile.

    An empty cgroup directly below a hierarchy's root (`/default`, `/moby`) is left by every runtime, runc too: it is the
    parent of the containers' own, and another container may be about to use it.
    """
    if os.environ.get("PYCONTAINERD_SHARED_MACHINE"):
        return set()
    found = {path for path, _, _ in os.walk(_CGROUP_ROOT)}
    return found - {
        path for path in empty_parents() if not any(other.startswith(path + "/") for other in found)
    }


def empty_parents() -> set[str]:
    """Cgroups without processes directly below the root of a hierarchy."""
    found = set()
    for hierarchy in os.scandir(_CGROUP_ROOT):
        if not hierarchy.is_dir(follow_symlinks=False):
            continue
        for entry in os.scandir(hierarchy.path):
            procs = f"{entry.path}/cgroup.procs"
            if entry.is_dir(follow_symlinks=False) and os.path.exists(procs):
                with open(procs) as file:
                    if not file.read(1):
                        found.add(entry.path)
    return found


def remove_empty_parents(before: set[str]) -> None:
    """Removes the parents that a run has made; one that is in use again by now stays.

    None where other work makes cgroups meanwhile: theirs may be empty because their process is yet to come.
    """
    if os.environ.get("PYCONTAINERD_SHARED_MACHINE"):
        return
    for path in empty_parents() - before:
        try:
            os.rmdir(path)
        except OSError:
            continue


def open_fds() -> dict[int, str]:
    """This process's descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own
    return found


def children() -> set[int]:
    """Processes, living or zombie, whose parent is this one."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
            found |= {int(pid) for pid in file.read().split()}  # a thread that ends meanwhile has none
    return found - DAEMONS


def title(pid: int) -> str:
    """A process's short name, at most 15 characters; empty when it has gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return file.read().strip()
    return ""


def our_processes(marks: tuple[str, ...]) -> dict[int, str]:
    """Processes whose command line has one of the marks, of this run alone: another is in its own mount namespace."""
    found = {}
    here = os.readlink("/proc/self/ns/mnt")
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            if os.readlink(f"/proc/{name}/ns/mnt") != here:
                continue
            with open(f"/proc/{name}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if any(mark in line for mark in marks):
            found[int(name)] = line
    return found


def links() -> set[str]:
    """Network interfaces of this network namespace."""
    return set(os.listdir("/sys/class/net"))


def netns() -> set[str]:
    """Named network namespaces."""
    try:
        return set(os.listdir("/run/netns"))
    except FileNotFoundError:
        return set()


def files() -> set[str]:
    """What stands in the system's folders: nothing of a test belongs there.

    A folder on a read-only file system can't get anything: in the virtual machine it is the host's, where others may write.
    """
    folders = (
        "/",
        "/etc",
        "/opt",
        "/root",
        "/usr/local/bin",
        "/usr/local/sbin",
        "/var/lib",
        "/var/log",
        "/var/tmp",
    )
    return {
        f"{folder}/{name}" for folder in folders if os.access(folder, os.W_OK) for name in os.listdir(folder)
    }


# What the kernel counts, notes or tunes by itself.
_CHANGED_BY_THE_KERNEL = (
    "ns_last_pid",
    "nr",
    "tainted",
    "perf_event_max_sample_rate",
    "hung_task_detect_count",
)


def kernel_settings() -> dict[str, bytes]:
    """Every setting below /proc/sys/kernel that can be read and that only a write changes."""
    found = {}
    for path in Path("/proc/sys/kernel").rglob("*"):
        if "random" in path.parts or path.name in _CHANGED_BY_THE_KERNEL:
            continue
        try:
            found[str(path)] = path.read_bytes() if path.is_file() else b""
        except OSError:
            continue
    assert len(found) > 50
    return found


class Snapshot:
    """The state that must be the same after a test as before it."""

    def __init__(self) -> None:
        self.parts: dict[str, set[str]] = {
            "mounts": mounts(),
            "cgroups": cgroups(),
            "links": links(),
            "netns": netns(),
            "files": files(),
            "children": {str(pid) for pid in children()},
        }

    def added_since(self, before: Snapshot) -> dict[str, set[str]]:
        """What is here now and was not before, by kind; empty when nothing is."""
        extra = {kind: now - before.parts[kind] for kind, now in self.parts.items()}
        return {kind: names for kind, names in extra.items() if names}
