"""Sandbox records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.core.sandboxes import Sandbox, SandboxStore
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import sandbox_v1, types, wkt

if TYPE_CHECKING:
    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call


class SandboxStoreService:
    """containerd.services.sandbox.v1.Store."""

    def __init__(self, store: SandboxStore, pools: Pools) -> None:
        self._store = store
        self._pools = pools

    async def create(
        self, call: Call, request: sandbox_v1.StoreCreateRequest
    ) -> sandbox_v1.StoreCreateResponse:
        sandbox = from_wire(request.sandbox)
        created = await self._pools.run("metadata", self._store.create, call.scope, sandbox)
        return sandbox_v1.StoreCreateResponse(sandbox=to_wire(created))

    async def update(
        self, call: Call, request: sandbox_v1.StoreUpdateRequest
    ) -> sandbox_v1.StoreUpdateResponse:
        sandbox = from_wire(request.sandbox)
        updated = await self._pools.run(
            "metadata", self._store.update, call.scope, sandbox, list(request.fields)
        )
        return sandbox_v1.StoreUpdateResponse(sandbox=to_wire(updated))

    def get(self, call: Call, request: sandbox_v1.StoreGetRequest) -> sandbox_v1.StoreGetResponse:
        found = self._pools.quick(self._store.get, call.scope, request.sandbox_id)
        return sandbox_v1.StoreGetResponse(sandbox=to_wire(found))

    async def list(self, call: Call, request: sandbox_v1.StoreListRequest) -> sandbox_v1.StoreListResponse:
        found = await self._pools.run("metadata", self._store.list, call.scope, request.filters)
        return sandbox_v1.StoreListResponse(list=[to_wire(sandbox) for sandbox in found])

    async def delete(
        self, call: Call, request: sandbox_v1.StoreDeleteRequest
    ) -> sandbox_v1.StoreDeleteResponse:
        await self._pools.run("metadata", self._store.delete, call.scope, request.sandbox_id)
        return sandbox_v1.StoreDeleteResponse()


def to_wire(sandbox: Sandbox) -> types.Sandbox:
    """A core record as a message."""
    return types.Sandbox(
        sandbox_id=sandbox.id,
        runtime=types.Sandbox.Runtime(
            name=sandbox.runtime_name, options=wire.any_of(sandbox.runtime_options)
        ),
        spec=wire.any_of(sandbox.spec),
        labels=dict(sandbox.labels),
        created_at=wire.timestamp(sandbox.created_nanos),
        updated_at=wire.timestamp(sandbox.updated_nanos),
        extensions={
            key: wkt.Any(type_url=value.type_url, value=value.value)
            for key, value in sandbox.extensions.items()
        },
        sandboxer=sandbox.sandboxer,
    )


def from_wire(message: types.Sandbox) -> Sandbox:
    """The inverse of `to_wire`; times are the store's to set."""
    return Sandbox(
        id=message.sandbox_id,
        runtime_name=message.runtime.name,
        runtime_options=wire.typed(message.runtime, "options"),
        spec=wire.typed(message, "spec"),
        sandboxer=message.sandboxer,
        labels=dict(message.labels),
        extensions={key: TypedValue(v.type_url, v.value) for key, v in message.extensions.items()},
    )
