"""A machine in the machine, where the real programs are installed: podman, buildah and docker call each other by absolute paths.

Own mount, pid, network and IPC namespaces. /usr and /etc are overlays of the unpacked peers on the system's, /run, /dev/shm,
/var/tmp and the engines' folders are its own. Nothing outlives `close()`: the kernel ends every process with the machine's
init, and the last process takes the mounts along.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support import leaks
from support.programs import PEERS, TOP, peer

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_SETUP = """
set -e
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/etc" "$1/work" "$1/lib" "$1/lib-work"
mount -t overlay -o "lowerdir=$2/usr:/usr" overlay /usr
for folder in bin sbin lib; do
  if [ -d "$2/$folder" ]; then mount -t overlay -o "lowerdir=$2/$folder:/usr/$folder" overlay "/usr/$folder"; fi
done
mount -t overlay -o "lowerdir=$2/etc:/etc,upperdir=$1/etc,workdir=$1/work" overlay /etc
mount -t overlay -o "lowerdir=/var/lib,upperdir=$1/lib,workdir=$1/lib-work" overlay /var/lib
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mkdir -p /run/lock
ip link set lo up 2>/dev/null || true
: > "$3"
exec tini-static -- sleep infinity
"""


class Machine:
    """A running one; `folder` is the test's own and is seen inside under the same name, `state` is the machine's disk."""

    def __init__(self, folder: Path) -> None:
        for program in ("podman", "dockerd", "tini-static"):
            if not Path(peer(program)).is_relative_to(PEERS):
                pytest.skip(f"{program} is not unpacked: run scripts/peers")
        self.folder = folder
        self.state = folder / "machine"
        self.state.mkdir(parents=True)
        ready = folder / "ready"
        self._started: list[subprocess.Popen[Any]] = []
        self._log = (folder / "machine.log").open("w+")
        argv = [
            "unshare",
            "--mount",
            "--pid",
            "--net",
            "--ipc",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            _SETUP,
        ]
        self._outer = subprocess.Popen(
            [*argv, "machine", str(self.state), str(PEERS), str(ready)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=self.environment(),
        )
        leaks.DAEMONS.add(self._outer.pid)
        self._wait_until(ready.exists)
        self.pid = int(
            Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()[0]
        )

    def environment(self, **more: str) -> dict[str, str]:
        """What a program of the machine finds: its PATH holds the peers, and nothing else is needed."""
        return {"PATH": _PATH, "HOME": "/root", **more}

    def argv(self, *words: str) -> list[str]:
        """A command inside."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--ipc", "--", *words]

    def __call__(
        self, *words: str, stdin: str = "", timeout: float = 60, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; who stays behind (a conmon) must not hold its output, so that goes to files."""
        out, err = self.folder / "out", self.folder / "err"
        with out.open("w+b") as out_file, err.open("w+b") as err_file:
            done = subprocess.run(
                self.argv(*words),
                input=stdin.encode(),
                stdout=out_file,
                stderr=err_file,
                timeout=timeout,
                env=self.environment(**(env or {})),
                check=False,
            )
        texts = [path.read_bytes().decode(errors="replace") for path in (out, err)]
        return subprocess.CompletedProcess(list(words), done.returncode, *texts)

    def start(self, *words: str, log: Path, env: dict[str, str] | None = None) -> subprocess.Popen[Any]:
        """A program that stays; it ends with the machine at the latest."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                self.argv(*words),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self.environment(**(env or {})),
            )
        leaks.DAEMONS.add(process.pid)
        self._started.append(process)
        return process

    def cgroup_value(self, host_relative: str, controller: str, name: str) -> str:
        """A file of a cgroup, by its path as /proc/PID/cgroup says it; v1 by controller, else v2."""
        root = Path("/sys/fs/cgroup")
        base = root / controller if (root / controller).is_dir() else root
        return (base / host_relative.lstrip("/") / name).read_text().strip()

    def close(self) -> None:
        """Ends everything in it."""
        self._outer.kill()
        self._wait_until(lambda: not os.path.exists(f"/proc/{self.pid}"))
        for process in (self._outer, *self._started):
            process.wait(10)
            leaks.DAEMONS.discard(process.pid)
        self._log.close()

    def _wait_until(self, condition: Any, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                self._log.seek(0)
                raise AssertionError(f"the machine does not come up or end: {self._log.read()}")
            time.sleep(0.02)


def remove_cgroups(name: str) -> None:
    """Removes the empty cgroups of that name directly below each hierarchy, children first: engines leave their parents."""
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        if hierarchy.is_dir() and not hierarchy.is_symlink():
            for folder, _, _ in os.walk(hierarchy / name, topdown=False):
                with contextlib.suppress(OSError):  # another run's, in use
                    os.rmdir(folder)


RUNTIMES = {"pyrunc": str(TOP / "bin/pyrunc"), "runc": "/usr/sbin/runc"}
