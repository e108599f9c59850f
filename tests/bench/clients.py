"""Command lines and connections: what a container costs that is started through a daemon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

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


def exec_cli(world: World, rounds: int) -> Samples:
    for daemon in world.daemons.values():
        daemon.ctr("run", "-d", world.image, "ex", "sleep", "1000")
    try:
        return clients(world, lambda id_: ["tasks", "exec", "--exec-id", id_, "ex", "true"], rounds)
    finally:
        for daemon in world.daemons.values():
            daemon.ctr("tasks", "rm", "-f", "ex", check=False)
            daemon.ctr("containers", "rm", "ex")


def api_life(world: World, rounds: int) -> Samples:
    """create, start, wait, delete of a task by one gRPC connection, the same client on both daemons."""
    import grpc

    from pycontainerd.lib.api.full import snapshots_v1, tasks_v1

    services = {"snapshots": snapshots_v1.SNAPSHOTS, "tasks": tasks_v1.TASKS}

    def life(who: str) -> Callable[[int], float]:
        daemon = world.daemons[who]
        daemon.ctr("containers", "create", world.image, "api", "true")
        channel = grpc.insecure_channel(f"unix://{daemon.address}")

        def call(service: str, name: str, **fields: object) -> Any:
            method = services[service].method(name)
            invoke = channel.unary_unary(
                f"/{services[service].name}/{name}",
                lambda m: m.SerializeToString(),
                method.response.FromString,
            )
            return invoke(
                method.request(**fields), metadata=(("containerd-namespace", "default"),), timeout=30
            )

        def once(_: int) -> float:
            begun = time.perf_counter()
            mounts = call("snapshots", "Mounts", snapshotter="overlayfs", key="api").mounts
            call("tasks", "Create", container_id="api", rootfs=mounts)
            call("tasks", "Start", container_id="api")
            call("tasks", "Wait", container_id="api")
            call("tasks", "Delete", container_id="api")
            return (time.perf_counter() - begun) * 1000

        return once

    return in_turn(rounds, {who: life(who) for who in world.daemons})


def version(world: World, rounds: int) -> Samples:
    return clients(world, lambda _: ["version"], rounds)


def container_list(world: World, rounds: int) -> Samples:
    return clients(world, lambda _: ["containers", "ls"], rounds)
