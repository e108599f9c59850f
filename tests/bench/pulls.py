"""Images: pulled, unpacked, pushed and imported; what it takes of the clock and of the processors."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.world import Samples, World, in_turn, remove_folder, timed
from support import images
from support.programs import peer, peer_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.stack import Stack

_ROUNDS = 5
_TICKS = os.sysconf("SC_CLK_TCK")


def one_layer() -> list[list[images.Entry]]:
    """About 190 MB in 4,000 files of mixed sizes, half of it compressible."""
    return [_files("data", 4000, 190_000_000)]


def eight_layers() -> list[list[images.Entry]]:
    """The same in eight layers."""
    return [_files(f"data{number}", 500, 190_000_000 // 8) for number in range(8)]


def small_files() -> list[list[images.Entry]]:
    """20,000 files of about a kilobyte in one layer."""
    return [_files("data", 20_000, 20_000_000)]


def _files(folder: str, count: int, total: int) -> list[images.Entry]:
    entries: list[images.Entry] = [(folder, "dir", None, 0o755)]
    for index in range(count):
        size = total // count if index % 10 else 100
        entries.append((f"{folder}/{index}", "file", os.urandom(size // 2) + bytes(size - size // 2), 0o644))
    return entries


class Pull:
    """`image pull` of one image, stores on tmpfs: wall, and processor time of client and daemon together."""

    def __init__(
        self, name: str, layers: Callable[[], list[list[images.Entry]]], compression: str = "gzip"
    ) -> None:
        self._name = name
        self._layers = layers
        self._compression = compression
        self._cpu: Samples = {}

    def wall(self, world: World, rounds: int) -> Samples:
        """Milliseconds until the command returns."""
        ref = world.pushed(self._name, self._layers, self._compression)
        self._cpu = {who: [] for who in world.daemons}

        def run(who: str) -> Callable[[int], float]:
            daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"

            def once(_: int) -> float:
                before = _processor_ms(daemon)
                took = timed(
                    daemon.command(program, "image", "pull", "--plain-http", ref), daemon.environment
                )
                self._cpu[who].append(_processor_ms(daemon) - before)
                daemon.ctr("image", "rm", "--sync", ref)
                return took

            return once

        return in_turn(min(rounds, _ROUNDS), {who: run(who) for who in world.daemons})

    def processor(self, world: World, rounds: int) -> Samples:
        """Milliseconds of user and system time, of the same runs."""
        if not self._cpu:
            self.wall(world, rounds)
        return self._cpu


def _processor_ms(daemon: Stack) -> float:
    """Of this process's ended children (the clients) and of the daemon with its own, those that live included."""
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    pids = [daemon.pid(), *_children(daemon.pid())]
    return sum(_ticks(pid) for pid in pids) * 1000 / _TICKS + (ours.ru_utime + ours.ru_stime) * 1000


def _ticks(pid: int) -> int:
    """User and system time of a process and of its children that have ended; 0 when it has. Man: proc_pid_stat(5)"""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def _children(pid: int) -> list[int]:
    """The living ones, of all its threads."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


def fetch(world: World, rounds: int) -> Samples:
    """The 190 MB image into a store, its layers as they are: `content fetch`, and skopeo's copy into a layout."""
    ref = world.pushed("big", one_layer)

    def run(who: str) -> Callable[[int], float]:
        daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"

        def once(_: int) -> float:
            argv = ["content", "fetch", "--plain-http", "--platform", "linux/amd64", ref]
            took = timed(daemon.command(program, *argv), daemon.environment)
            daemon.ctr("image", "rm", "--sync", ref)
            return took

        return once

    contestants = {who: run(who) for who in world.daemons}
    return in_turn(min(rounds, _ROUNDS), {**contestants, "skopeo": lambda _: _skopeo_copy(world, ref)})


def _skopeo_copy(world: World, ref: str) -> float:
    folder = world.root / "copied"
    argv = [
        *(peer("skopeo"), "--insecure-policy", "copy", "-q", "--src-tls-verify=false"),
        *("--override-arch", "amd64", f"docker://{ref}", f"oci:{folder}:latest"),
    ]
    took = timed(argv, peer_environment())
    remove_folder(folder)
    return took


class Archive:
    """The 190 MB image as an OCI archive: imported, and pushed from there (what was pulled would be mounted instead)."""

    def _path(self, world: World) -> tuple[str, str]:
        ref = world.pushed("big", one_layer)
        path = world.root / "big.tar"
        if not path.exists():
            daemon = world.daemons["containerd"]
            daemon.ctr("image", "pull", "--plain-http", ref)
            daemon.ctr("image", "export", str(path), ref)
            daemon.ctr("image", "rm", "--sync", ref)
        return ref, str(path)

    def import_(self, world: World, rounds: int) -> Samples:
        """`image import`, with the unpacking."""
        ref, path = self._path(world)

        def run(who: str) -> Callable[[int], float]:
            daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"

            def once(_: int) -> float:
                took = timed(daemon.command(program, "image", "import", path), daemon.environment)
                daemon.ctr("image", "rm", "--sync", ref)
                return took

            return once

        return in_turn(min(rounds, _ROUNDS), {who: run(who) for who in world.daemons})

    def push(self, world: World, rounds: int) -> Samples:
        """`image push` to a repository of a registry that has none of it: each round has a registry of its own."""
        ref, path = self._path(world)
        for daemon in world.daemons.values():
            daemon.ctr("image", "import", path)

        def run(who: str) -> Callable[[int], float]:
            daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"

            def once(index: int) -> float:
                folder = world.root / f"registry-{who}-{index}"
                with images.registry(folder) as host:
                    argv = ["image", "push", "--plain-http", "--platform", "linux/amd64", f"{host}/p:1", ref]
                    took = timed(daemon.command(program, *argv), daemon.environment)
                remove_folder(folder)
                return took

            return once

        try:
            return in_turn(min(rounds, _ROUNDS), {who: run(who) for who in world.daemons})
        finally:
            for daemon in world.daemons.values():
                daemon.ctr("image", "rm", "--sync", ref)


def throughput(world: World, rounds: int) -> Samples:
    """`run --rm` that writes 512 MiB to stdout: through the shim and the client, to /dev/null."""
    argv = ["dd", "if=/dev/zero", "bs=1M", "count=512"]

    def run(who: str) -> Callable[[int], float]:
        daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"

        return lambda i: timed(
            daemon.command(program, "run", "--rm", world.image, f"o{i + 1}", *argv),
            daemon.environment,
            stdout=subprocess.DEVNULL,
        )

    return in_turn(min(rounds, _ROUNDS), {who: run(who) for who in world.daemons})
