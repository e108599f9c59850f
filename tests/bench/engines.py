"""podman and docker, each in a machine of its own: `run --rm` of true with our programs below them and with Debian's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bench.world import Samples, World, in_turn, remove_folder, timed
from support.docker import Docker
from support.podman import Podman

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Engine = Podman | Docker

_RUN = ("run", "--rm", "--network", "none", "busybox", "true")


def podman(world: World, rounds: int) -> Samples:
    """Its `--runtime`: ours and runc."""
    return _take_turns(
        world,
        rounds,
        {
            "ours": lambda folder: Podman(folder, "pyrunc"),
            "runc": lambda folder: Podman(folder, "runc"),
        },
    )


def podman_without_v2(world: World, rounds: int) -> Samples:
    """Ours and crun, which refuses hybrid cgroups, in machines whose v2 mount is gone."""
    return _take_turns(
        world,
        rounds,
        {
            "ours": lambda folder: Podman(folder, "pyrunc", without_v2=True),
            "crun": lambda folder: Podman(folder, "crun", without_v2=True),
        },
    )


def docker(world: World, rounds: int) -> Samples:
    """dockerd on our daemon, shim and runtime, and on Debian's three."""
    return _take_turns(
        world,
        rounds,
        {
            "ours": lambda folder: Docker(folder, containerd="ours", shim="ours"),
            "docker.io": lambda folder: Docker(folder, containerd="real", shim="real"),
        },
    )


def _take_turns(world: World, rounds: int, engines: dict[str, Callable[[Path], Engine]]) -> Samples:
    with contextlib.ExitStack() as stack:

        def run(who: str, make: Callable[[Path], Engine]) -> Callable[[int], float]:
            folder = world.root / f"engine-{who}"
            folder.mkdir()
            stack.callback(remove_folder, folder)
            engine = make(folder)
            stack.callback(engine.close)
            return lambda _: timed(engine.argv(*_RUN), engine.environment)

        return in_turn(rounds, {who: run(who, make) for who, make in engines.items()})
