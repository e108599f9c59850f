"""Containers that start while another one changes what they start from (R05, R06, R10).

CVE-2021-30465 mounted on the host and CVE-2024-45310 made files there, by a folder of a volume that is swapped for a symlink all the
time; CVE-2025-52881 wrote there, by mounts over /proc.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from support import leaks
from support.bundle import BundleBuilder, make_rootfs

if TYPE_CHECKING:
    from pathlib import Path

_RENAMEAT2 = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
_EXCHANGE = 2


class Swapper:
    """Exchanges two names as quickly as it can."""

    def __init__(self, first: str, second: str) -> None:
        self._names = os.fsencode(first), os.fsencode(second)
        self._end = False
        self.swaps = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        syscall = ctypes.CDLL(None, use_errno=True).syscall  # without the interpreter's lock
        while not self._end:
            assert syscall(_RENAMEAT2, -100, self._names[0], -100, self._names[1], _EXCHANGE) == 0
            self.swaps += 1

    def end(self) -> None:
        self._end = True
        self._thread.join()


def test_nothing_of_the_host_is_mounted_on_or_made(runtime, bundle, short_tmp, amount):
    canary, volume = short_tmp / "canary", short_tmp / "volume"
    for folder in (canary, volume, volume / "dir", bundle.rootfs / "mnt/v"):
        folder.mkdir()
    (canary / "secret").write_text("SECRET")
    (volume / "link").symlink_to(canary)
    bundle.mount("/mnt/v", "bind", str(volume), "bind")
    bundle.mount("/mnt/v/dir/made", "tmpfs", "tmpfs", "size=64k")
    bundle.mount("/mnt/v/dir/file", "bind", "/etc/hostname", "bind")
    path = bundle.writable().args("ls", "/mnt/v/dir").build()
    mounts = leaks.mounts()
    swapper = Swapper(str(volume / "dir"), str(volume / "link"))
    try:
        for number in range(amount(10, 2000)):
            assert "SECRET" not in runtime.run(path, f"c{number}").out
            assert os.listdir(canary) == ["secret"], number
    finally:
        swapper.end()
    assert swapper.swaps > 1000
    assert leaks.mounts() == mounts


_COVER = """
set -e
trap 'exit 0' TERM
while :; do
  for place in proc proc/sys proc/self dev; do
    [ -d /volume/rootfs/$place ] || continue
    mount -t tmpfs tmpfs /volume/rootfs/$place 2>/dev/null || continue
    mkdir -p /volume/rootfs/$place/sys/net/ipv4 /volume/rootfs/$place/net/ipv4
    for way in sys/net/ipv4 net/ipv4; do ln -s $VICTIM /volume/rootfs/$place/$way/ip_unprivileged_port_start; done
    echo x >> /volume/covered
    umount /volume/rootfs/$place
  done
done
"""


def started_quietly(runtime, path: Path, id: str) -> bool:
    """Whether a container started; it may fail, but not otherwise than by an error."""
    argv = runtime.argv("run", "--detach", "--bundle", str(path), id)
    with (runtime.root.parent / "detached.log").open("w+b") as log:
        return (
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
            == 0
        )


@pytest.fixture
def shared_volume(short_tmp):
    """A folder whose mounts spread between the host and whoever has it."""
    volume = short_tmp / "volume"
    volume.mkdir()
    subprocess.run(["mount", "--bind", volume, volume], check=True)
    subprocess.run(["mount", "--make-shared", volume], check=True)
    yield volume
    subprocess.run(["umount", "--recursive", "--lazy", volume], check=True)


def test_no_write_to_procfs_is_led_elsewhere(runtime, bundle, short_tmp, shared_volume, amount):
    """R10, CVE-2025-52881: a container with a shared volume covers /proc in another's root while that one starts."""
    victim = short_tmp / "victim"
    victim.write_text("mine")
    make_rootfs(shared_volume / "rootfs")
    (short_tmp / "attacker").mkdir()
    attacker = BundleBuilder(short_tmp / "attacker")
    attacker.capabilities("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
    attacker.linux["cgroupsPath"] = bundle.cgroup + "-attacker"
    attacker.linux["rootfsPropagation"] = "rshared"
    attacker.process["env"].append(f"VICTIM={victim}")
    attacker.mount("/volume", "bind", str(shared_volume), "rbind", "rshared")
    (attacker.rootfs / "volume").mkdir()
    runtime.start_detached(attacker.sh(_COVER).build(), "attacker")
    bundle.spec["root"]["path"] = str(shared_volume / "rootfs")
    bundle.linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "77"}
    path = bundle.args("sleep", "100").build()
    before, started = leaks.kernel_settings(), 0
    for number in range(amount(10, 500)):
        if started_quietly(runtime, path, f"c{number}"):
            started += 1
            entered = ["nsenter", f"--net=/proc/{runtime.pid(f'c{number}')}/ns/net"]
            value = subprocess.run(
                [*entered, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert value.stdout == "77\n", number
        runtime("delete", "--force", f"c{number}")
        assert victim.read_text() == "mine", number
        assert leaks.kernel_settings() == before, number
    runtime.ok("delete", "--force", "attacker")
    assert started > 2
    assert (shared_volume / "covered").stat().st_size > 20
