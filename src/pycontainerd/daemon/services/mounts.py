"""Mounts: activations of mounts that a runtime can't make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.core.activations import Activation, ActiveMount
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import mounts_v1, types, wkt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pycontainerd.daemon.core.activations import MountManager
    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call


class MountsService:
    """containerd.services.mounts.v1.Mounts."""

    def __init__(self, manager: MountManager, pools: Pools) -> None:
        self._manager = manager
        self._pools = pools

    async def activate(self, call: Call, request: mounts_v1.ActivateRequest) -> mounts_v1.ActivateResponse:
        made = await self._pools.run(
            "mounts",
            self._manager.activate,
            call.scope,
            request.name,
            wire.core_mounts(request.mounts),
            dict(request.labels),
            temporary=request.temporary,
        )
        return mounts_v1.ActivateResponse(info=_to_wire(made))

    async def deactivate(self, call: Call, request: mounts_v1.DeactivateRequest) -> wkt.Empty:
        await self._pools.run("mounts", self._manager.deactivate, call.scope, request.name)
        return wire.EMPTY

    def info(self, call: Call, request: mounts_v1.InfoRequest) -> mounts_v1.InfoResponse:
        found = self._pools.quick(self._manager.info, call.scope, request.name)
        return mounts_v1.InfoResponse(info=_to_wire(found))

    async def update(self, call: Call, request: mounts_v1.UpdateRequest) -> mounts_v1.UpdateResponse:
        wanted = Activation(request.info.name, labels=dict(request.info.labels))
        paths = wire.mask_paths(request)
        updated = await self._pools.run("mounts", self._manager.update, call.scope, wanted, paths)
        return mounts_v1.UpdateResponse(info=_to_wire(updated))

    async def list(self, call: Call, request: mounts_v1.ListRequest) -> AsyncIterator[mounts_v1.ListMessage]:
        found = await self._pools.run("mounts", self._manager.list, call.scope, request.filters)
        for activation in found:
            yield mounts_v1.ListMessage(info=_to_wire(activation))


def _to_wire(activation: Activation) -> types.ActivationInfo:
    return types.ActivationInfo(
        name=activation.name,
        active=[_active(one) for one in activation.active],
        system=wire.mounts(activation.system),
        labels=dict(activation.labels),
    )


def _active(one: ActiveMount) -> types.ActiveMount:
    return types.ActiveMount(
        mount=wire.mounts([one.mount])[0],
        mounted_at=wire.timestamp(one.mounted_nanos),
        mount_point=one.mount_point,
    )
