"""Many at once, and many that are there: 50 starts together, 10,000 records."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

from bench.world import Samples, World, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = 10_000


class Together:
    """`count` times `run -d`, all started at once: wall until the last has returned."""

    def __init__(self, count: int, rounds: int) -> None:
        self._count = count
        self._rounds = rounds

    def wall(self, world: World, rounds: int) -> Samples:
        """Milliseconds."""

        def run(who: str) -> Callable[[int], float]:
            daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"

            def once(_: int) -> float:
                names = [f"t{number}" for number in range(self._count)]
                begun = time.perf_counter()
                started = [
                    subprocess.Popen(
                        daemon.command(program, "run", "-d", world.image, name, "sleep", "1000"),
                        env=daemon.environment,
                        stdin=subprocess.DEVNULL,
                    )
                    for name in names
                ]
                failed = [process.args for process in started if process.wait() != 0]
                took = (time.perf_counter() - begun) * 1000
                if failed:
                    raise RuntimeError(f"failed: {failed}")
                daemon.ctr("tasks", "rm", "-f", *names, check=False, timeout=300)
                daemon.ctr("containers", "rm", *names, timeout=300)
                return took

            return once

        return in_turn(min(rounds, self._rounds), {who: run(who) for who in world.daemons})


class Records:
    """One call of the containers service by gRPC, with 10 or 10,000 records there."""

    def __init__(self, call: str, count: int) -> None:
        self._call = call
        self._count = count

    def wall(self, world: World, rounds: int) -> Samples:
        """Milliseconds of one call."""
        callers = {who: _connect(daemon.address, "records") for who, daemon in world.daemons.items()}
        try:
            for invoke in callers.values():
                _all(invoke, "Create", [{"container": record(f"r{number}")} for number in range(self._count)])
            return in_turn(rounds, {who: self._once(invoke) for who, invoke in callers.items()})
        finally:
            for invoke in callers.values():
                _all(invoke, "Delete", [{"id": answer.container.id} for answer in invoke("ListStream")])

    def _once(self, invoke: Callable[..., Any]) -> Callable[[int], float]:

        def once(index: int) -> float:
            begun = time.perf_counter()
            if self._call == "list":
                invoke("ListStream")
            elif self._call == "get":
                invoke("Get", id="r5")
            else:
                invoke("Create", container=record(f"new{index + 1}"))
            took = (time.perf_counter() - begun) * 1000
            if self._call == "create":
                invoke("Delete", id=f"new{index + 1}")
            return took

        return once


def record(id: str) -> Any:
    """A container record with nothing behind it."""
    from pycontainerd.lib.api.full import containers_v1, wkt

    return containers_v1.Container(
        id=id,
        runtime=containers_v1.Container.Runtime(name="io.containerd.runc.v2"),
        spec=wkt.Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}"),
    )


def _all(invoke: Callable[..., Any], name: str, requests: list[dict[str, Any]]) -> None:
    """Many calls, a hundred at a time."""
    for start in range(0, len(requests), 100):
        calls = [invoke(name, later=True, **fields) for fields in requests[start : start + 100]]
        for call in calls:
            call.result()


def _connect(address: str, namespace: str) -> Callable[..., Any]:
    import grpc

    from pycontainerd.lib.api.full import containers_v1

    channel = grpc.insecure_channel(f"unix://{address}")
    metadata = (("containerd-namespace", namespace),)

    def invoke(name: str, *, later: bool = False, **fields: Any) -> Any:
        method = containers_v1.CONTAINERS.method(name)
        kind = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = kind(
            f"/{containers_v1.CONTAINERS.name}/{name}",
            lambda message: message.SerializeToString(),
            method.response.FromString,
        )
        if later:
            return call.future(method.request(**fields), metadata=metadata, timeout=300)
        answer = call(method.request(**fields), metadata=metadata, timeout=60)
        return list(answer) if method.server_streaming else answer

    return invoke
