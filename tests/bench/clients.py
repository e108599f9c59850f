"""Command lines: what a container costs that is started through a daemon."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from bench.world import Samples, World, in_turn, timed

if TYPE_CHECKING:
    from collections.abc import Callable


def clients(world: World, argv: Callable[[str], list[str]], rounds: int) -> Samples:
    """The same command line of pyctr on our daemon and of ctr on containerd."""

    def run(who: str) -> Callable[[int], float]:
        daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"
        return lambda i: timed(daemon.command(program, *argv(f"x{i + 1}")), daemon.environment)

    return in_turn(rounds, {who: run(who) for who in world.daemons})


def run_rm(world: World, rounds: int) -> Samples:
    return clients(world, lambda id_: ["run", "--rm", world.image, id_, "true"], rounds)


def stock_client_run_rm(world: World, rounds: int) -> Samples:
    """Debian's ctr on both daemons."""

    def run(who: str) -> Callable[[int], float]:
        daemon = world.daemons[who]
        return lambda i: timed(
            daemon.command("ctr", "run", "--rm", world.image, f"s{i + 1}", "true"), daemon.environment
        )

    return in_turn(rounds, {who: run(who) for who in world.daemons})


def run_d(world: World, rounds: int) -> Samples:
    """`run -d` of `sleep`, which is removed outside of what is timed."""

    def run(who: str) -> Callable[[int], float]:
        daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"

        def once(index: int) -> float:
            name = f"d{index + 1}"
            argv = daemon.command(program, "run", "-d", world.image, name, "sleep", "1000")
            took = timed(argv, daemon.environment, stdout=subprocess.DEVNULL)
            daemon.ctr("tasks", "rm", "-f", name, check=False)
            daemon.ctr("containers", "rm", name)
            return took

        return once

    return in_turn(rounds, {who: run(who) for who in world.daemons})


def exec_cli(world: World, rounds: int) -> Samples:
    for daemon in world.daemons.values():
        daemon.ctr("run", "-d", world.image, "ex", "sleep", "1000")
    try:
        return clients(world, lambda id_: ["tasks", "exec", "--exec-id", id_, "ex", "true"], rounds)
    finally:
        for daemon in world.daemons.values():
            daemon.ctr("tasks", "rm", "-f", "ex", check=False)
            daemon.ctr("containers", "rm", "ex")


def version(world: World, rounds: int) -> Samples:
    return clients(world, lambda _: ["version"], rounds)


def container_list(world: World, rounds: int) -> Samples:
    return clients(world, lambda _: ["containers", "ls"], rounds)
