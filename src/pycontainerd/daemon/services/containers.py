"""Container records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.core.containers import Container, ContainerStore
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import containers_v1, events, wkt
from pycontainerd.lib.errdefs import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.events import Exchange


class ContainersService:
    """containerd.services.containers.v1.Containers."""

    def __init__(self, store: ContainerStore, pools: Pools, exchange: Exchange) -> None:
        self._store = store
        self._pools = pools
        self._exchange = exchange

    def get(
        self, call: Call, request: containers_v1.GetContainerRequest
    ) -> containers_v1.GetContainerResponse:
        found = self._pools.quick(self._store.get, call.scope, request.id)
        return containers_v1.GetContainerResponse(container=to_wire(found))

    async def list(
        self, call: Call, request: containers_v1.ListContainersRequest
    ) -> containers_v1.ListContainersResponse:
        found = await self._pools.run("metadata", self._store.list, call.scope, request.filters)
        return containers_v1.ListContainersResponse(containers=[to_wire(c) for c in found])

    async def list_stream(
        self, call: Call, request: containers_v1.ListContainersRequest
    ) -> AsyncIterator[containers_v1.ListContainerMessage]:
        for container in await self._pools.run("metadata", self._store.list, call.scope, request.filters):
            yield containers_v1.ListContainerMessage(container=to_wire(container))

    async def create(
        self, call: Call, request: containers_v1.CreateContainerRequest
    ) -> containers_v1.CreateContainerResponse:
        container = from_wire(request.container)
        created = await self._pools.run("metadata", self._store.create, call.scope, container)
        runtime = events.ContainerCreate.Runtime(
            name=created.runtime_name, options=wire.any_of(created.runtime_options)
        )
        message = events.ContainerCreate(id=created.id, image=created.image, runtime=runtime)
        self._exchange.publish(call.scope.namespace, "/containers/create", wire.event(message))
        return containers_v1.CreateContainerResponse(container=to_wire(created))

    async def update(
        self, call: Call, request: containers_v1.UpdateContainerRequest
    ) -> containers_v1.UpdateContainerResponse:
        if not request.container.id:
            raise InvalidArgument("Container.ID required")
        container = from_wire(request.container)
        paths = wire.mask_paths(request)
        updated = await self._pools.run("metadata", self._store.update, call.scope, container, paths)
        message = events.ContainerUpdate(
            id=updated.id,
            image=updated.image,
            labels=dict(updated.labels),
            snapshot_key=updated.snapshot_key,
        )
        self._exchange.publish(call.scope.namespace, "/containers/update", wire.event(message))
        return containers_v1.UpdateContainerResponse(container=to_wire(updated))

    async def delete(self, call: Call, request: containers_v1.DeleteContainerRequest) -> wkt.Empty:
        await self._pools.run("metadata", self._store.delete, call.scope, request.id)
        message = events.ContainerDelete(id=request.id)
        self._exchange.publish(call.scope.namespace, "/containers/delete", wire.event(message))
        return wire.EMPTY


def to_wire(container: Container) -> containers_v1.Container:
    """A core record as a message."""
    extensions = {k: wkt.Any(type_url=v.type_url, value=v.value) for k, v in container.extensions.items()}
    return containers_v1.Container(
        id=container.id,
        labels=dict(container.labels),
        image=container.image,
        runtime=containers_v1.Container.Runtime(
            name=container.runtime_name, options=wire.any_of(container.runtime_options)
        ),
        spec=wire.any_of(container.spec),
        snapshotter=container.snapshotter,
        snapshot_key=container.snapshot_key,
        created_at=wire.timestamp(container.created_nanos),
        updated_at=wire.timestamp(container.updated_nanos),
        extensions=extensions,
        sandbox=container.sandbox,
    )


def from_wire(message: containers_v1.Container) -> Container:
    """The inverse of `to_wire`; times are the store's to set."""
    return Container(
        id=message.id,
        image=message.image,
        runtime_name=message.runtime.name,
        runtime_options=wire.typed(message.runtime, "options"),
        spec=wire.typed(message, "spec"),
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        sandbox=message.sandbox,
        labels=dict(message.labels),
        extensions={k: TypedValue(v.type_url, v.value) for k, v in message.extensions.items()},
    )
