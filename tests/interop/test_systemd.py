"""Under systemd itself: the units, in a systemd that is the first process of a pid namespace, with /run and /var/lib of its own.

It sees the kernel's settings read-only, a layer over /etc, no console, and the cgroup hierarchies in a folder of its own: what
a systemd changes when a machine starts (it adds the hierarchies that are missing, makes that folder read-only, gives the machine
an id) is not this machine's.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import leaks
from support.patience import seconds
from support.programs import TOP, peer, peer_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

# On cgroup version 1 this run has cgroups of its own (scripts/isolated), which systemd then takes for the machine's.
pytestmark = [
    pytest.mark.requires("root", "systemd", "systemd_on_v1", "cgroup_v1", "overlayfs"),
    pytest.mark.timeout(120),
]

NAMESPACES = ("--pid", "--fork", "--mount-proc", "--mount", "--uts", "--ipc", "--net")
ADDRESS = "/run/pycontainerd/pycontainerd.sock"
# Of this machine's units and generators none is there, and what is started needs none of them.
BOOT = """set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
for hierarchy in /sys/fs/cgroup/*; do
  mountpoint -q $hierarchy || continue
  mkdir /mnt/${hierarchy##*/}
  mount --bind $hierarchy /mnt/${hierarchy##*/}
done
mount --rbind /mnt /sys/fs/cgroup
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
mount --bind /dev/null /dev/console
for folder in /var/lib /etc/systemd/system /lib/systemd/system-generators; do
  if [ -d $folder ]; then mount -t tmpfs -o mode=755 tmpfs $folder; fi
done
mkdir -p /run/systemd/system /run/lock
"$1/scripts/units" /run/systemd/system
sed -i 's/^\\[Unit\\]/[Unit]\\nDefaultDependencies=no/; s/^After=.*//' /run/systemd/system/pycontainerd.*
printf '[Unit]\\nDefaultDependencies=no\\n' >/run/systemd/system/first.target
export container=pycontainerd
exec /usr/lib/systemd/systemd --system --unit=first.target --log-target=null --show-status=0
"""


class Systemd:
    """The first process, as seen from outside, and clients inside."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, *argv: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "-t", str(self.pid), "--mount", "--pid", "--uts", "--ipc", "--net", "--"]
        return subprocess.run(
            [*enter, *argv],
            env=peer_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def ctl(self, *arguments: str) -> str:
        """systemctl, which must succeed; what it prints."""
        done = self.run("systemctl", *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def ctr(self, *arguments: str) -> str:
        """Debian's ctr, which must succeed; what it prints."""
        done = self.run(peer("ctr"), "-a", ADDRESS, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def show(self, *names: str) -> list[str]:
        """Properties of the service."""
        return [self.ctl("show", "--value", "-p", name, "pycontainerd.service").strip() for name in names]


def _hierarchies() -> tuple[list[str], list[str]]:
    """What is in the folder of the hierarchies, and how that and they are mounted."""
    mounted = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/sys/fs/cgroup" in line
    ]
    return sorted(os.listdir("/sys/fs/cgroup")), mounted


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    before, hierarchies = leaks.cgroups(), _hierarchies()
    booted = subprocess.Popen(
        ["unshare", *NAMESPACES, "sh", "-c", BOOT, "sh", str(TOP)],
        env=peer_environment(),
    )
    deadline = time.monotonic() + seconds(20)
    first: list[str] = []
    while not first:
        assert booted.poll() is None
        assert time.monotonic() < deadline
        first = Path(f"/proc/{booted.pid}/task/{booted.pid}/children").read_text().split()
    found = Systemd(int(first[0]))
    try:
        while found.run("systemctl", "is-active", "first.target").returncode:
            assert time.monotonic() < deadline, "systemd does not come up"
            time.sleep(0.05)
        yield found
    finally:
        found.run("systemctl", "exit", "0")
        booted.wait(20)
        for path in sorted(leaks.cgroups() - before, key=len, reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        assert _hierarchies() == hierarchies


@pytest.fixture
def rootfs() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="sd", dir="/tmp"))
    (folder / "bin").mkdir()
    shutil.copy(peer("busybox"), folder / "bin/busybox")
    yield str(folder)
    shutil.rmtree(folder)  # noqa: TID251 - the test's own folder


def test_the_socket_starts_the_daemon_and_containers_outlive_it(systemd: Systemd, rootfs: str) -> None:
    systemd.ctl("start", "pycontainerd.socket")
    assert systemd.show("ActiveState") == ["inactive"]
    assert "Server:" in systemd.ctr("version")  # the first client
    assert systemd.show("ActiveState", "SubState", "StatusErrno") == ["active", "running", "0"]
    systemd.ctr("run", "-d", "--rootfs", rootfs, "c1", "/bin/busybox", "sleep", "100")
    (line,) = systemd.ctr("tasks", "ls").splitlines()[1:]
    assert re.fullmatch(r"c1 +\d+ +RUNNING *", line)

    systemd.ctl("stop", "pycontainerd.service")
    assert systemd.show("ActiveState", "Result", "MainPID") == ["inactive", "success", "0"]
    assert systemd.run("sh", "-c", f"kill -0 {line.split()[1]}").returncode == 0  # KillMode=process
    assert systemd.ctr("tasks", "ls").splitlines()[1:] == [line]  # by the next client's daemon

    systemd.ctl("restart", "pycontainerd.service")
    assert systemd.ctr("tasks", "ls").splitlines()[1:] == [line]
    (killed,) = systemd.show("MainPID")
    systemd.run("sh", "-c", f"kill -9 {killed}")
    deadline = time.monotonic() + seconds(30)
    while systemd.show("NRestarts", "SubState") != ["1", "running"]:  # after RestartSec=
        assert time.monotonic() < deadline, systemd.show("NRestarts", "SubState")
        time.sleep(0.2)
    assert systemd.ctr("tasks", "ls").splitlines()[1:] == [line]
    systemd.ctr("tasks", "rm", "-f", "c1")
    systemd.ctr("containers", "rm", "c1")
    systemd.ctl("stop", "pycontainerd.socket", "pycontainerd.service")


def test_the_service_alone_makes_its_own_sockets(systemd: Systemd) -> None:
    systemd.ctl("start", "pycontainerd.service")
    assert systemd.show("ActiveState", "Type", "KillMode", "Delegate") == [
        "active",
        "notify",
        "process",
        "yes",
    ]
    assert systemd.show("FragmentPath") == ["/run/systemd/system/pycontainerd.service"]
    assert "Server:" in systemd.ctr("version")
    systemd.ctl("stop", "pycontainerd.service")
    assert systemd.show("Result") == ["success"]
    left = systemd.run("ls", "/run/pycontainerd").stdout.split()
    assert "daemon.lock" in left  # RuntimeDirectoryPreserve=
    assert [name for name in left if "sock" in name] == []
