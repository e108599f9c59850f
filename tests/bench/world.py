"""Where cases run: a registry, both daemons with an image pulled, bundles; and how they take turns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pycontainerd.lib.linux.tree import remove_tree
from support import images
from support.programs import peer
from support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

# As Stack has it for the real one: neither collects because of so many changes, both do after deletions.
_RARE_COLLECTIONS = '[plugins."io.containerd.gc.v1.scheduler"]\n  mutation_threshold = 1000000\n'
Samples = dict[str, list[float]]


class World:
    """A registry, both daemons with the image pulled, a bundle of /bin/true and one of `sleep`; all under one temporary folder on tmpfs."""

    def __enter__(self) -> World:
        self.stack = ExitStack()
        self.root = Path(tempfile.mkdtemp(prefix="pb", dir="/tmp"))
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.root], check=True)
        self.stack.callback(self._remove)
        host = self.stack.enter_context(images.registry(self.root / "registry"))
        self.image = f"{host}/library/busybox:latest"
        images.push(images.build_layout(self.root / "layout"), self.image)
        self.host = host
        self._pushed: dict[str, str] = {}
        self.daemons = {
            "ours": Stack(self.root / "o", kind="ours", level="info", extra=_RARE_COLLECTIONS),
            "containerd": Stack(self.root / "p", kind="real", level="info"),
        }
        for daemon in self.daemons.values():
            daemon.start()
            self.stack.callback(daemon.clean)
            daemon.ctr("image", "pull", "--plain-http", self.image)
        self.bundle = self._bundle("true")
        self.sleeper = self._bundle("sleep", "1000")
        return self

    def pushed(
        self, name: str, layers: Callable[[], list[list[images.Entry]]], compression: str = "gzip"
    ) -> str:
        """The reference of an image of these layers, built and pushed when it is first wanted."""
        if name not in self._pushed:
            self._pushed[name] = f"{self.host}/library/{name}:latest"
            layout = images.build_layout(self.root / name, contents=layers(), compression=compression)
            images.push(layout, self._pushed[name])
            remove_folder(layout)
        return self._pushed[name]

    def __exit__(self, *exc_info: object) -> None:
        self.stack.close()

    def _remove(self) -> None:
        subprocess.run(["umount", "-l", self.root], check=True)
        self.root.rmdir()

    def _bundle(self, *command: str) -> Path:
        bundle = self.root / f"bundle-{command[0]}"
        (bundle / "rootfs/bin").mkdir(parents=True)
        for applet in ("true", "sleep"):
            shutil.copy(peer("busybox"), bundle / "rootfs/bin" / applet)
        subprocess.run([peer("runc"), "spec", "-b", bundle], check=True)
        spec = json.loads((bundle / "config.json").read_text())
        spec["process"].update(terminal=False, args=list(command))
        (bundle / "config.json").write_text(json.dumps(spec))
        return bundle


def timed(
    argv: list[str], env: dict[str, str], *, cwd: Path | None = None, stdout: int = subprocess.PIPE
) -> float:
    """Milliseconds of a command that must succeed."""
    begun = time.perf_counter()
    done = subprocess.run(argv, env=env, cwd=cwd, stdout=stdout, stderr=subprocess.PIPE, check=False)
    took = (time.perf_counter() - begun) * 1000
    if done.returncode != 0:
        raise RuntimeError(f"{argv}: {done.returncode}\n{done.stdout!r}\n{done.stderr.decode()}")
    return took


def remove_folder(folder: Path) -> None:
    """A folder of this run, with what is in it."""
    parent_fd = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        remove_tree(parent_fd, folder.name.encode())
    finally:
        os.close(parent_fd)


def in_turn(rounds: int, contestants: dict[str, Callable[[int], float]]) -> Samples:
    """One warm-up each, then round by round."""
    for run in contestants.values():
        run(-1)
    samples: Samples = {who: [] for who in contestants}
    for index in range(rounds):
        for who, run in contestants.items():
            samples[who].append(run(index))
    return samples
