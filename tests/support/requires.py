"""What a test needs from the machine; what is missing is the reason of the skip."""

from __future__ import annotations

import os
import shutil
import subprocess

CGROUP_ROOT = "/sys/fs/cgroup"


def missing(need: str) -> str:
    """Why `need` is not met here; empty when it is. Unknown needs are errors of the test."""
    return _CHECKS[need]()


def _root() -> str:
    return "" if os.geteuid() == 0 else "needs root"


def _cgroup_v1() -> str:
    return "" if os.path.isdir(f"{CGROUP_ROOT}/memory") else "needs cgroup v1 hierarchies"


def _cgroup_v2() -> str:
    return (
        ""
        if os.path.exists(f"{CGROUP_ROOT}/cgroup.controllers")
        else "needs a pure cgroup v2 mount (make test-vm)"
    )


def _overlayfs() -> str:
    with open("/proc/filesystems") as file:
        return "" if "\toverlay\n" in file.read() else "needs overlayfs in the kernel"


def _apparmor() -> str:
    return (
        ""
        if os.path.isdir("/sys/kernel/security/apparmor")
        else "needs AppArmor in the kernel (make test-vm)"
    )


def _criu() -> str:
    if shutil.which("criu") is None:
        return "needs criu"
    done = subprocess.run(["criu", "check"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "criu check fails on this kernel"


def _strace() -> str:
    return "" if shutil.which("strace") else "needs strace (scripts/peers)"


def _userns() -> str:
    done = subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "needs user namespaces"


_CHECKS = {
    "root": _root,
    "cgroup_v1": _cgroup_v1,
    "cgroup_v2": _cgroup_v2,
    "overlayfs": _overlayfs,
    "apparmor": _apparmor,
    "criu": _criu,
    "strace": _strace,
    "userns": _userns,
}
