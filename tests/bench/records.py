"""What is there for long: calls of the metadata services with 10 or 10,000 containers, images or snapshots there."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.api import Connection
from bench.world import Samples, World, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 10_000
_NAMESPACE = "records"
_SNAPSHOTTER = "overlayfs"


class Call(NamedTuple):
    """A method of the kind's service, and its request's fields by the record's name."""

    method: str
    fields: Callable[[str], dict[str, Any]]


class Kind(NamedTuple):
    """What one of the services keeps; `names` are those in an answer of `list`."""

    service: str
    create: Call
    get: Call
    list: Call
    delete: Call
    names: Callable[[Any], list[str]]


class Records:
    """`count` records of a kind on each daemon; every call is measured while they are there, once."""

    def __init__(self, kind: Kind, count: int) -> None:
        self._kind = kind
        self._count = count
        self._read: dict[str, Samples] = {}

    def list(self, world: World, rounds: int) -> Samples:
        """Milliseconds until the last record has arrived."""
        return self._readings(world, rounds)["list"]

    def get(self, world: World, rounds: int) -> Samples:
        """Of one record."""
        return self._readings(world, rounds)["get"]

    def create(self, world: World, rounds: int) -> Samples:
        """Of one more, which is deleted outside of what is timed."""
        return self._readings(world, rounds)["create"]

    def _readings(self, world: World, rounds: int) -> dict[str, Samples]:
        if not self._read:
            with contextlib.ExitStack() as stack:
                there = {who: self._made(stack, daemon.address) for who, daemon in world.daemons.items()}
                self._read = {
                    name: in_turn(rounds, {who: measure(connection) for who, connection in there.items()})
                    for name, measure in (("list", self._list), ("get", self._get), ("create", self._create))
                }
        return self._read

    def _made(self, stack: contextlib.ExitStack, address: str) -> Connection:
        connection = stack.enter_context(Connection(address, _NAMESPACE))
        stack.callback(self._removed, connection)
        create = self._kind.create
        connection.all(
            self._kind.service, create.method, [create.fields(f"r{number}") for number in range(self._count)]
        )
        return connection

    def _removed(self, connection: Connection) -> None:
        service, delete = self._kind.service, self._kind.delete
        connection.all(service, delete.method, [delete.fields(name) for name in self._names(connection)])
        # A lease's end collects at once: containerd keeps the folders of removed snapshots until then.
        connection.call("leases", "Create", id="bench")
        connection.call("leases", "Delete", id="bench", sync=True)

    def _names(self, connection: Connection) -> list[str]:
        return self._kind.names(self._call(connection, self._kind.list, ""))

    def _call(self, connection: Connection, call: Call, name: str) -> Any:
        return connection.call(self._kind.service, call.method, **call.fields(name))

    def _list(self, connection: Connection) -> Callable[[int], float]:
        def once(_: int) -> float:
            begun = time.perf_counter()
            answer = self._call(connection, self._kind.list, "")
            took = (time.perf_counter() - begun) * 1000
            found = len(self._kind.names(answer))
            if found != self._count:
                raise RuntimeError(f"{found} {self._kind.service} instead of {self._count}")
            return took

        return once

    def _get(self, connection: Connection) -> Callable[[int], float]:
        def once(_: int) -> float:
            begun = time.perf_counter()
            self._call(connection, self._kind.get, "r5")
            return (time.perf_counter() - begun) * 1000

        return once

    def _create(self, connection: Connection) -> Callable[[int], float]:
        def once(index: int) -> float:
            begun = time.perf_counter()
            self._call(connection, self._kind.create, f"new{index + 1}")
            took = (time.perf_counter() - begun) * 1000
            self._call(connection, self._kind.delete, f"new{index + 1}")
            return took

        return once


def _container(name: str) -> dict[str, Any]:
    """With nothing behind it."""
    from pycontainerd.lib.api.full import containers_v1, wkt

    return {
        "container": containers_v1.Container(
            id=name,
            runtime=containers_v1.Container.Runtime(name="io.containerd.runc.v2"),
            spec=wkt.Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}"),
        )
    }


def _image(name: str) -> dict[str, Any]:
    """With nothing behind it."""
    from pycontainerd.lib.api.full import images_v1, types

    target = types.Descriptor(
        media_type="application/vnd.oci.image.manifest.v1+json", digest="sha256:" + "0" * 64, size=1000
    )
    return {"image": images_v1.Image(name=name, target=target)}


def _snapshot(name: str) -> dict[str, Any]:
    """An empty one; labelled, or a collection would take what no lease holds."""
    return {"snapshotter": _SNAPSHOTTER, "key": name, "labels": {"containerd.io/gc.root": "bench"}}


CONTAINERS = Kind(
    "containers",
    Call("Create", _container),
    Call("Get", lambda name: {"id": name}),
    Call("ListStream", lambda _: {}),
    Call("Delete", lambda name: {"id": name}),
    lambda answers: [answer.container.id for answer in answers],
)
IMAGES = Kind(
    "images",
    Call("Create", _image),
    Call("Get", lambda name: {"name": name}),
    Call("List", lambda _: {}),
    Call("Delete", lambda name: {"name": name}),
    lambda answer: [image.name for image in answer.images],
)
SNAPSHOTS = Kind(
    "snapshots",
    Call("Prepare", _snapshot),
    Call("Stat", lambda name: {"snapshotter": _SNAPSHOTTER, "key": name}),
    Call("List", lambda _: {"snapshotter": _SNAPSHOTTER}),
    Call("Remove", lambda name: {"snapshotter": _SNAPSHOTTER, "key": name}),
    lambda answers: [info.name for answer in answers for info in answer.info],
)
