"""The runtimes alone: `--version`, and `run` of /bin/true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.world import Samples, World, in_turn, timed
from support.programs import ours, peer, peer_environment

if TYPE_CHECKING:
    from collections.abc import Callable


def runtime_version(world: World, rounds: int) -> Samples:
    env = peer_environment()
    programs = {"ours": ours("pyrunc"), "runc": peer("runc"), "crun": peer("crun")}
    return in_turn(rounds, {who: lambda _, p=p: timed([p, "--version"], env) for who, p in programs.items()})


def runtime_run(world: World, rounds: int) -> Samples:
    env = peer_environment()
    programs = {"ours": ours("pyrunc"), "runc": peer("runc")}

    def run(who: str, program: str) -> Callable[[int], float]:
        root = str(world.root / f"root-{who}")
        return lambda i: timed([program, "--root", root, "run", f"b{i + 1}"], env, cwd=world.bundle)

    return in_turn(rounds, {who: run(who, program) for who, program in programs.items()})


def runtime_run_without_v2(world: World, rounds: int) -> Samples:
    """crun refuses hybrid cgroups, so all three run where the v2 mount is gone."""
    env = peer_environment()
    programs = {"ours": ours("pyrunc"), "crun": peer("crun")}
    script = 'umount /sys/fs/cgroup/unified 2>/dev/null; cd "$1"; shift; exec "$@"'

    def run(who: str, program: str) -> Callable[[int], float]:
        # The namespace is made outside of what is timed: a helper in it takes one command a line.
        argv = [program, "--root", str(world.root / f"root2-{who}"), "run"]
        return lambda i: timed(
            ["unshare", "-m", "sh", "-c", script, "sh", str(world.bundle), *argv, f"c{i + 1}"], env
        )

    return in_turn(rounds, {who: run(who, program) for who, program in programs.items()})
