"""Memory of what stays: shims, and the daemon with everything it needs beside them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import api
from bench.api import Connection
from support import leaks

if TYPE_CHECKING:
    from bench.world import Samples, World
    from support.stack import Stack

_SETTLED_S = (
    5  # what stays is measured, not what the last start has left to be tidied up; the same on both sides
)
_LIVES, _AT_ONCE = 1000, 4
PRIVATE = ("Private_Clean", "Private_Dirty")
PSS = ("Pss",)


class Containers:
    """`count` sleeping containers on each daemon; readings are KiB divided by their number."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._read: dict[str, Samples] = {}

    def shims(self, world: World, rounds: int) -> Samples:
        """Private memory of the shims."""
        return self._readings(world)["shims"]

    def private(self, world: World, rounds: int) -> Samples:
        """Private memory of daemon, forkserver and shims."""
        return self._readings(world)["private"]

    def pss(self, world: World, rounds: int) -> Samples:
        """Their proportional share."""
        return self._readings(world)["pss"]

    def _readings(self, world: World) -> dict[str, Samples]:
        if not self._read:
            self._read = {"shims": {}, "private": {}, "pss": {}}
            for who, daemon in world.daemons.items():
                self._read_one(world, who, daemon)
        return self._read

    def _read_one(self, world: World, who: str, daemon: Stack) -> None:
        names = [f"m{index}" for index in range(self._count)]
        for name in names:
            daemon.ctr("run", "-d", world.image, name, "sleep", "1000")
        time.sleep(_SETTLED_S)
        shims = list(daemon.shims())
        for name, pids, fields in (
            ("shims", shims, PRIVATE),
            ("private", [*shims, *processes(daemon)], PRIVATE),
            ("pss", [*shims, *processes(daemon)], PSS),
        ):
            self._read[name][who] = [sum(field_kib(pid, fields) for pid in pids) / self._count]
        daemon.ctr("tasks", "rm", "-f", *names, check=False, timeout=300)
        daemon.ctr("containers", "rm", *names, timeout=300)


def idle(world: World, rounds: int) -> Samples:
    """PSS of the daemon and the forkserver, one container after their start, once nothing has happened for a while."""
    found: Samples = {}
    for who, daemon in world.daemons.items():
        daemon.stop()
        daemon.start()
        daemon.ctr("run", "--rm", world.image, "first", "true")
        time.sleep(_SETTLED_S)
        found[who] = [sum(field_kib(pid, PSS) for pid in processes(daemon))]
    return found


def after_lives(world: World, rounds: int) -> Samples:
    """PSS of the daemon and the forkserver when 1,000 containers have come and gone since their start."""
    found: Samples = {}
    for who, daemon in world.daemons.items():
        daemon.stop()
        daemon.start()
        daemon.ctr("containers", "create", world.image, "model", "true")
        _live(daemon)
        daemon.ctr("containers", "rm", "model")
        time.sleep(_SETTLED_S)
        found[who] = [sum(field_kib(pid, PSS) for pid in processes(daemon))]
    return found


def _live(daemon: Stack) -> None:
    with Connection(daemon.address) as connection, ThreadPoolExecutor(_AT_ONCE) as pool:
        model = connection.call("containers", "Get", id="model").container
        parent = connection.call("snapshots", "Stat", snapshotter="overlayfs", key="model").info.parent
        for _ in pool.map(lambda number: _life(connection, model, parent, f"life{number}"), range(_LIVES)):
            pass


def _life(connection: Connection, model: Any, parent: str, id: str) -> None:
    """A container like the model, from its record to the end of its snapshot."""
    spec = json.loads(model.spec.value)
    spec["linux"]["cgroupsPath"] = f"/default/{id}"
    container = type(model)()
    container.CopyFrom(model)
    container.id = container.snapshot_key = id
    container.spec.value = json.dumps(spec).encode()
    snapshot = {"snapshotter": "overlayfs", "key": id}
    connection.call(
        "snapshots", "Prepare", parent=parent, labels={"containerd.io/gc.root": "bench"}, **snapshot
    )
    connection.call("containers", "Create", container=container)
    api.live(connection, id)
    connection.call("containers", "Delete", id=id)
    connection.call("snapshots", "Remove", **snapshot)


def processes(daemon: Stack) -> list[int]:
    """The daemon, and what it has forked or made ready that is no shim."""
    marks = ("pycontainerd-forkserver", ": attends to ")
    return [daemon.pid(), *(leaks.our_processes(marks) if daemon.kind == "ours" else ())]


def field_kib(pid: int, names: tuple[str, ...]) -> float:
    """The sum of fields of smaps_rollup; none of a process that has just left. Man: proc_pid_smaps(5)"""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return float(sum(int(line.split()[1]) for line in lines if line.split(":")[0] in names))
