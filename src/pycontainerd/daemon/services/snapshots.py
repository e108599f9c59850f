"""Snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core.snapshots import Info, Kind, Snapshots
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import events, snapshots_v1, wkt
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, Unknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.events import Exchange

_PAGE: Final = 100


class SnapshotsService:
    """containerd.services.snapshots.v1.Snapshots."""

    def __init__(self, snapshotters: Mapping[str, Snapshots], pools: Pools, exchange: Exchange) -> None:
        self._snapshotters = snapshotters
        self._pools = pools
        self._exchange = exchange

    async def prepare(
        self, call: Call, request: snapshots_v1.PrepareSnapshotRequest
    ) -> snapshots_v1.PrepareSnapshotResponse:
        snapshotter = self._require(request.snapshotter)
        labels = dict(request.labels)
        mounts = await self._pools.run(
            "snapshots", snapshotter.prepare, call.scope, request.key, request.parent, labels
        )
        self._publish_prepare(call, request.key, request.parent, snapshotter.name)
        return snapshots_v1.PrepareSnapshotResponse(mounts=wire.mounts(mounts))

    async def view(
        self, call: Call, request: snapshots_v1.ViewSnapshotRequest
    ) -> snapshots_v1.ViewSnapshotResponse:
        snapshotter = self._require(request.snapshotter)
        labels = dict(request.labels)
        mounts = await self._pools.run(
            "snapshots", snapshotter.view, call.scope, request.key, request.parent, labels
        )
        self._publish_prepare(call, request.key, request.parent, snapshotter.name)
        return snapshots_v1.ViewSnapshotResponse(mounts=wire.mounts(mounts))

    async def mounts(self, call: Call, request: snapshots_v1.MountsRequest) -> snapshots_v1.MountsResponse:
        snapshotter = self._require(request.snapshotter)
        if snapshotter.is_local:
            mounts = self._pools.quick(snapshotter.mounts, call.scope, request.key)
        else:
            mounts = await self._pools.run("snapshots", snapshotter.mounts, call.scope, request.key)
        return snapshots_v1.MountsResponse(mounts=wire.mounts(mounts))

    async def commit(self, call: Call, request: snapshots_v1.CommitSnapshotRequest) -> wkt.Empty:
        snapshotter = self._require(request.snapshotter)
        labels = dict(request.labels)
        await self._pools.run(
            "snapshots", snapshotter.commit, call.scope, request.name, request.key, labels, request.parent
        )
        message = events.SnapshotCommit(key=request.key, name=request.name, snapshotter=snapshotter.name)
        self._exchange.publish(call.scope.namespace, "/snapshot/commit", wire.event(message))
        return wire.EMPTY

    async def remove(self, call: Call, request: snapshots_v1.RemoveSnapshotRequest) -> wkt.Empty:
        snapshotter = self._require(request.snapshotter)
        await self._pools.run("snapshots", snapshotter.remove, call.scope, request.key)
        message = events.SnapshotRemove(key=request.key, snapshotter=snapshotter.name)
        self._exchange.publish(call.scope.namespace, "/snapshot/remove", wire.event(message))
        return wire.EMPTY

    async def stat(
        self, call: Call, request: snapshots_v1.StatSnapshotRequest
    ) -> snapshots_v1.StatSnapshotResponse:
        snapshotter = self._require(request.snapshotter)
        if snapshotter.is_local:
            info = self._pools.quick(snapshotter.stat, call.scope, request.key)
        else:
            info = await self._pools.run("snapshots", snapshotter.stat, call.scope, request.key)
        return snapshots_v1.StatSnapshotResponse(info=_to_wire(info))

    async def update(
        self, call: Call, request: snapshots_v1.UpdateSnapshotRequest
    ) -> snapshots_v1.UpdateSnapshotResponse:
        snapshotter = self._require(request.snapshotter)
        wanted = Info(request.info.name, labels=dict(request.info.labels))
        paths = wire.mask_paths(request)
        info = await self._pools.run("snapshots", snapshotter.update, call.scope, wanted, paths)
        return snapshots_v1.UpdateSnapshotResponse(info=_to_wire(info))

    async def list(
        self, call: Call, request: snapshots_v1.ListSnapshotsRequest
    ) -> AsyncIterator[snapshots_v1.ListSnapshotsResponse]:
        snapshotter = self._require(request.snapshotter)
        try:
            infos = await self._pools.run("snapshots", snapshotter.list, call.scope, request.filters)
        except ContainerdError as e:
            raise Unknown(str(e), hint=e.hint) from e  # containerd gives a list's error no code
        for start in range(0, len(infos), _PAGE):
            page = [_to_wire(info) for info in infos[start : start + _PAGE]]
            yield snapshots_v1.ListSnapshotsResponse(info=page)

    async def usage(self, call: Call, request: snapshots_v1.UsageRequest) -> snapshots_v1.UsageResponse:
        snapshotter = self._require(request.snapshotter)
        usage = await self._pools.run("snapshots", snapshotter.usage, call.scope, request.key)
        return snapshots_v1.UsageResponse(size=usage.size_bytes, inodes=usage.inodes)

    async def cleanup(self, call: Call, request: snapshots_v1.CleanupRequest) -> wkt.Empty:
        del call
        snapshotter = self._require(request.snapshotter)
        await self._pools.run("gc", snapshotter.cleanup)
        return wire.EMPTY

    def _require(self, name: str) -> Snapshots:
        if not name:
            raise InvalidArgument("snapshotter argument missing: invalid argument")
        snapshotter = self._snapshotters.get(name)
        if snapshotter is None:
            raise InvalidArgument(
                f"snapshotter not loaded: {name}: invalid argument",
                hint=f"use one of {', '.join(sorted(self._snapshotters))}",
            )
        return snapshotter

    def _publish_prepare(self, call: Call, key: str, parent: str, snapshotter: str) -> None:
        message = events.SnapshotPrepare(key=key, parent=parent, snapshotter=snapshotter)
        self._exchange.publish(call.scope.namespace, "/snapshot/prepare", wire.event(message))


def _to_wire(info: Info) -> snapshots_v1.Info:
    kind = {
        Kind.VIEW: snapshots_v1.Kind.VIEW,
        Kind.ACTIVE: snapshots_v1.Kind.ACTIVE,
        Kind.COMMITTED: snapshots_v1.Kind.COMMITTED,
    }[info.kind]
    return snapshots_v1.Info(
        name=info.name,
        parent=info.parent,
        kind=kind,
        created_at=wire.timestamp(info.created_nanos),
        updated_at=wire.timestamp(info.updated_nanos),
        labels=dict(info.labels),
    )
