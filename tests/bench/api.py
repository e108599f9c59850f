"""One gRPC connection, the same client on both daemons: a task's life, an exec, an event."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from bench.world import Samples, World, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.stack import Stack

_PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_TRUE = {
    "args": ["true"],
    "cwd": "/",
    "env": ["PATH=/bin"],
    "user": {"uid": 0, "gid": 0},
}
_TOPIC = "/bench"
_EVENTS = 20


class Connection:
    """To a daemon, in one namespace."""

    def __init__(self, address: str, namespace: str = "default") -> None:
        import grpc

        from pycontainerd.lib.api.full import (
            containers_v1,
            events_v1,
            images_v1,
            leases_v1,
            snapshots_v1,
            tasks_v1,
            version_v1,
        )

        self._services = {
            "containers": containers_v1.CONTAINERS,
            "events": events_v1.EVENTS,
            "images": images_v1.IMAGES,
            "leases": leases_v1.LEASES,
            "snapshots": snapshots_v1.SNAPSHOTS,
            "tasks": tasks_v1.TASKS,
            "version": version_v1.VERSION,
        }
        self._channel = grpc.insecure_channel(f"unix://{address}")
        self._metadata = (("containerd-namespace", namespace),)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._channel.close()

    def call(self, service: str, name: str, /, **fields: Any) -> Any:
        """The answer; of a stream, all of them as a list."""
        answer = self.start(service, name, **fields)
        return list(answer) if self._services[service].method(name).server_streaming else answer.result()

    def start(self, service: str, name: str, /, **fields: Any) -> Any:
        """A call that goes on: a future, or the stream."""
        method = self._services[service].method(name)
        argument = f"/{self._services[service].name}/{name}", lambda m: m.SerializeToString()
        options = {"metadata": self._metadata, "timeout": 300}
        if method.server_streaming:
            return self._channel.unary_stream(*argument, method.response.FromString)(
                method.request(**fields), **options
            )
        return self._channel.unary_unary(*argument, method.response.FromString).future(
            method.request(**fields), **options
        )

    def all(self, service: str, name: str, requests: list[dict[str, Any]]) -> None:
        """Many calls, a hundred at a time."""
        for first in range(0, len(requests), 100):
            calls = [self.start(service, name, **fields) for fields in requests[first : first + 100]]
            for call in calls:
                call.result()


def life(world: World, rounds: int) -> Samples:
    """create, start, wait, delete of a task."""
    with contextlib.ExitStack() as stack:

        def run(daemon: Stack) -> Callable[[int], float]:
            connection = stack.enter_context(Connection(daemon.address))
            daemon.ctr("containers", "create", world.image, "api", "true")
            stack.callback(daemon.ctr, "containers", "rm", "api")
            return lambda _: live(connection, "api")

        return in_turn(rounds, {who: run(daemon) for who, daemon in world.daemons.items()})


def live(connection: Connection, id: str) -> float:
    """Milliseconds of one life of the container's task."""
    begun = time.perf_counter()
    mounts = connection.call("snapshots", "Mounts", snapshotter="overlayfs", key=id).mounts
    connection.call("tasks", "Create", container_id=id, rootfs=mounts)
    connection.call("tasks", "Start", container_id=id)
    connection.call("tasks", "Wait", container_id=id)
    deleted = connection.call("tasks", "Delete", container_id=id)
    took = (time.perf_counter() - begun) * 1000
    if deleted.exit_status != 0:
        raise RuntimeError(f"{id} exited with {deleted.exit_status}")
    return took


def exec_(world: World, rounds: int) -> Samples:
    """Exec, Start, Wait and DeleteProcess of /bin/true in a running container."""
    with contextlib.ExitStack() as stack:

        def run(daemon: Stack) -> Callable[[int], float]:
            connection = stack.enter_context(Connection(daemon.address))
            stack.enter_context(_sleeper(world, daemon, "apiexec"))
            return lambda index: _exec(connection, "apiexec", f"x{index + 1}")

        return in_turn(rounds, {who: run(daemon) for who, daemon in world.daemons.items()})


@contextlib.contextmanager
def _sleeper(world: World, daemon: Stack, name: str) -> Iterator[None]:
    daemon.ctr("run", "-d", world.image, name, "sleep", "1000")
    try:
        yield
    finally:
        daemon.ctr("tasks", "rm", "-f", name, check=False)
        daemon.ctr("containers", "rm", name)


def _exec(connection: Connection, id: str, exec_id: str) -> float:
    from pycontainerd.lib.api.full import wkt

    spec = wkt.Any(type_url=_PROCESS, value=json.dumps(_TRUE).encode())
    process = {"container_id": id, "exec_id": exec_id}
    begun = time.perf_counter()
    connection.call("tasks", "Exec", spec=spec, **process)
    connection.call("tasks", "Start", **process)
    connection.call("tasks", "Wait", **process)
    deleted = connection.call("tasks", "DeleteProcess", **process)
    took = (time.perf_counter() - begun) * 1000
    if deleted.exit_status != 0:
        raise RuntimeError(f"{exec_id} exited with {deleted.exit_status}")
    return took


def event(world: World, rounds: int) -> Samples:
    """From Publish until a subscriber on the same connection has it; a sample is the mean of twenty."""
    with contextlib.ExitStack() as stack:

        def run(daemon: Stack) -> Callable[[int], float]:
            connection = stack.enter_context(Connection(daemon.address))
            events = connection.start("events", "Subscribe", filters=[f'topic=="{_TOPIC}"'])
            stack.callback(events.cancel)
            time.sleep(1)  # Nothing says that a subscription is there before its first event.
            return lambda _: sum(_publish(connection, events) for _ in range(_EVENTS)) / _EVENTS

        return in_turn(rounds, {who: run(daemon) for who, daemon in world.daemons.items()})


def _publish(connection: Connection, events: Any) -> float:
    from pycontainerd.lib.api.full import wkt

    payload = wkt.Any(type_url="bench", value=b"{}")
    begun = time.perf_counter()
    published = connection.start("events", "Publish", topic=_TOPIC, event=payload)
    arrived = next(events)
    took = (time.perf_counter() - begun) * 1000
    published.result()
    if arrived.topic != _TOPIC:
        raise RuntimeError(f"another event: {arrived}")
    return took
