"""Diff: layers onto snapshots and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.core.images import Descriptor
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import diff_v1, types
from pycontainerd.lib.errdefs import ContainerdError

if TYPE_CHECKING:
    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.diff import Differ
    from pycontainerd.daemon.core.scope import Scope


class DiffService:
    """containerd.services.diff.v1.Diff."""

    def __init__(self, differ: Differ, pools: Pools) -> None:
        self._differ = differ
        self._pools = pools

    async def apply(self, call: Call, request: diff_v1.ApplyRequest) -> diff_v1.ApplyResponse:
        payloads = {k: TypedValue(v.type_url, v.value) for k, v in request.payloads.items()}
        applied = await self._pools.run(
            "diff",
            self._differ.apply,
            _scope(call, "failed to get reader from content store"),
            _from_wire(request.diff),
            wire.core_mounts(request.mounts),
            payloads,
            sync_fs=request.sync_fs,
        )
        return diff_v1.ApplyResponse(applied=_to_wire(applied))

    async def diff(self, call: Call, request: diff_v1.DiffRequest) -> diff_v1.DiffResponse:
        made = await self._pools.run(
            "diff",
            self._differ.diff,
            _scope(call, "failed to open writer"),
            wire.core_mounts(request.left),
            wire.core_mounts(request.right),
            request.media_type,
            request.ref,
            dict(request.labels),
            latest_nanos=wire.nanos(request.source_date_epoch)
            if request.HasField("source_date_epoch")
            else None,
        )
        return diff_v1.DiffResponse(diff=_to_wire(made))


def _scope(call: Call, step: str) -> Scope:
    """The request's scope; without one, the error names the step that asks for it in containerd."""
    try:
        return call.scope
    except ContainerdError as e:
        raise type(e)(f"{step}: {e}", hint=e.hint) from e


def _from_wire(message: types.Descriptor) -> Descriptor:
    return Descriptor(message.media_type, message.digest, message.size, dict(message.annotations))


def _to_wire(descriptor: Descriptor) -> types.Descriptor:
    return types.Descriptor(
        media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size_bytes
    )
