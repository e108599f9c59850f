"""Leases."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING

from pycontainerd.daemon.core.leases import Lease, LeaseManager, Resource
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import leases_v1, wkt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call


class LeasesService:
    """containerd.services.leases.v1.Leases. `collect` runs garbage collection and waits for it."""

    def __init__(self, manager: LeaseManager, pools: Pools, collect: Callable[[], Awaitable[None]]) -> None:
        self._manager = manager
        self._pools = pools
        self._collect = collect

    async def create(self, call: Call, request: leases_v1.CreateRequest) -> leases_v1.CreateResponse:
        lease = Lease(request.id or random_id(), dict(request.labels))
        created = await self._pools.run("metadata", self._manager.create, call.scope, lease)
        return leases_v1.CreateResponse(lease=_to_wire(created))

    async def delete(self, call: Call, request: leases_v1.DeleteRequest) -> wkt.Empty:
        await self._pools.run("metadata", self._manager.delete, call.scope, request.id)
        if request.sync:
            await self._collect()
        return wire.EMPTY

    async def list(self, call: Call, request: leases_v1.ListRequest) -> leases_v1.ListResponse:
        found = await self._pools.run("metadata", self._manager.list, call.scope, request.filters)
        return leases_v1.ListResponse(leases=[_to_wire(lease) for lease in found])

    async def add_resource(self, call: Call, request: leases_v1.AddResourceRequest) -> wkt.Empty:
        resource = Resource(request.resource.type, request.resource.id)
        await self._pools.run("metadata", self._manager.add_resource, call.scope, request.id, resource)
        return wire.EMPTY

    async def delete_resource(self, call: Call, request: leases_v1.DeleteResourceRequest) -> wkt.Empty:
        resource = Resource(request.resource.type, request.resource.id)
        await self._pools.run("metadata", self._manager.delete_resource, call.scope, request.id, resource)
        return wire.EMPTY

    async def list_resources(
        self, call: Call, request: leases_v1.ListResourcesRequest
    ) -> leases_v1.ListResourcesResponse:
        found = await self._pools.run("metadata", self._manager.list_resources, call.scope, request.id)
        return leases_v1.ListResourcesResponse(
            resources=[leases_v1.Resource(id=r.id, type=r.type) for r in found]
        )


def random_id() -> str:
    """A lease id as containerd makes them: nanoseconds of this second and four random characters."""
    noise = base64.urlsafe_b64encode(os.urandom(3)).decode()
    return f"{time.time_ns() % 1_000_000_000}-{noise}"


def _to_wire(lease: Lease) -> leases_v1.Lease:
    return leases_v1.Lease(
        id=lease.id, labels=dict(lease.labels), created_at=wire.timestamp(lease.created_nanos)
    )
