"""What a test needs from the machine; what is missing is the reason of the skip."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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


def _systemd() -> str:
    return "" if shutil.which("systemd-socket-activate") else "systemd is not here"


def _systemd_on_v1() -> str:
    """From 256 on a systemd does not start where there is no cgroup version 2."""
    if _systemd():
        return _systemd()
    said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True).stdout
    return "" if int(said.split()[1]) < 256 else "this systemd needs cgroup v2 for itself"


def _loop() -> str:
    if not os.access("/dev/loop-control", os.W_OK):
        return "needs loop devices"
    return "" if shutil.which("mkfs.ext4") else "needs mkfs.ext4"


def _apparmor() -> str:
    return (
        ""
        if os.path.isdir("/sys/kernel/security/apparmor")
        else "needs AppArmor in the kernel (make test-vm)"
    )


@functools.cache
def _sys_resource() -> str:
    """Whether root here may raise hard limits: a machine may keep that from everybody."""
    script = "ulimit -Hn 4096 && ulimit -Hn 8192 && echo -900 > /proc/self/oom_score_adj"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    return "" if done.returncode == 0 else "needs CAP_SYS_RESOURCE (make test-vm)"


def _controller(name: str) -> Callable[[], str]:
    def missing_controller() -> str:
        try:
            with open(f"{CGROUP_ROOT}/cgroup.controllers") as file:
                found = name in file.read().split()
        except FileNotFoundError:
            found = os.path.isdir(f"{CGROUP_ROOT}/{name}")
        return "" if found else f"needs the cgroup controller {name} (make test-vm)"

    return missing_controller


def _bfq() -> str:
    """A block device under the one scheduler that knows weights."""
    for path in Path("/sys/block").glob("*/queue/scheduler"):
        if "[bfq]" in path.read_text():
            return ""
    return "needs a block device under the BFQ scheduler (make test-vm)"


def _criu() -> str:
    if shutil.which("criu") is None:
        return "needs criu"
    done = subprocess.run(["criu", "check"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "criu check fails on this kernel"


def _strace() -> str:
    return "" if shutil.which("strace") else "needs strace (scripts/peers)"


@functools.cache
def chroot() -> str:
    """Why runc's exec can't be judged here; empty outside of a chroot.

    pivot_root in a chroot leaves the host's root to the mount namespace, and runc's exec joins that: it runs the host's
    programs on the host's files (seen with 1.1.5). Ours doesn't; test_security.py holds that.
    """
    here = os.stat("/")
    # Joining a mount namespace leads to its root, out of a chroot: as runc's exec does.
    joined = subprocess.run(
        ["nsenter", "--mount=/proc/self/ns/mnt", "stat", "-c", "%d %i", "/"],
        capture_output=True,
        text=True,
        check=False,
    )
    if joined.returncode != 0:
        return ""  # without the right to join, nothing is judged by root's tests either
    return (
        ""
        if joined.stdout.split() == [str(here.st_dev), str(here.st_ino)]
        else "runc's exec leaves the container when it is started in a chroot, as here"
    )


def _userns() -> str:
    done = subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "needs user namespaces"


_CHECKS: dict[str, Callable[[], str]] = {
    "root": _root,
    "cgroup_v1": _cgroup_v1,
    "cgroup_v2": _cgroup_v2,
    "overlayfs": _overlayfs,
    "loop": _loop,
    "apparmor": _apparmor,
    "bfq": _bfq,
    "sys_resource": _sys_resource,
    **{name: _controller(name) for name in ("hugetlb", "net_cls", "net_prio", "rdma")},
    "criu": _criu,
    "strace": _strace,
    "systemd": _systemd,
    "systemd_on_v1": _systemd_on_v1,
    "userns": _userns,
}
