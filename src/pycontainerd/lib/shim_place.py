"""Where a shim stands among the processes of its machine: its OOM score and its cgroup, by whoever starts it.

Spec: containerd runtime v1 and v2 (adjustOOMScore, ShimCgroup)
"""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import Unknown

_MAX_OOM_SCORE = 1000


def oom_score(daemon_pid: int) -> int:
    """A shim's: one more than the daemon's, for the kernel shall take a shim before its daemon. OSError."""
    with open(f"/proc/{daemon_pid}/oom_score_adj", encoding="ascii") as file:
        return min(int(file.read()) + 1, _MAX_OOM_SCORE)


def raise_oom_score(pid: int, daemon_pid: int) -> None:
    """Gives a shim the score that is a shim's. OSError."""
    score = oom_score(daemon_pid)
    with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(score))


def join_cgroup(path: str, pid: int) -> None:
    """Moves a process into a path below every hierarchy that has it; Unknown where none does, OSError."""
    from pycontainerd.lib.cgroups.hierarchy import read_mounts

    joined, mounts = False, read_mounts()
    found = [*mounts.v1.values(), *([mounts.unified_mount] if mounts.unified_mount else ())]
    for point in dict.fromkeys(mount.point for mount in found):  # one may be several controllers'
        folder = point + "/" + path.strip("/")
        if os.path.isdir(folder):
            with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(pid))
            joined = True
    if not joined:
        raise Unknown(f"failed to load cgroup {path}: cgroup deleted")
