"""Mounts of a task's root that no shim can make: the mount manager makes them first, under the container's id.

Spec: containerd core/runtime/v2 task manager, docs/mounts.md#relationship-with-runtimes
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pycontainerd.daemon.core.activations import HANDLED
from pycontainerd.lib.errdefs import AlreadyExists, ContainerdError, NotFound, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.activations import MountManager
    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.snapshots import Mount
    from pycontainerd.daemon.plugins.runtime_v2.info import RuntimeInformer
    from pycontainerd.lib.log import Logger

_LABEL = "containerd.io/gc.bref.container"


class RootfsMounts:
    """What a task manager asks before it starts a shim, and after the shim is gone."""

    def __init__(self, manager: MountManager, informer: RuntimeInformer, pools: Pools, log: Logger) -> None:
        self._manager = manager
        self._informer = informer
        self._pools = pools
        self._log = log

    async def activate(self, scope: Scope, id: str, mounts: Sequence[Mount], runtime: str) -> Sequence[Mount]:
        """The mounts that are left to the shim; those of an earlier task of the container are used again."""
        if not any("/" in mount.type or mount.type in HANDLED for mount in mounts):
            return mounts
        allowed = await self._allowed(runtime)
        try:
            made = await self._pools.run(
                "mounts",
                partial(self._manager.activate, temporary=False, allowed=allowed),
                *(scope, id, mounts, {_LABEL: id}),
            )
        except AlreadyExists:
            made = await self._pools.run("mounts", self._manager.info, scope, id)
        except Unimplemented:
            # Nothing of it is known here: the shim says what it makes of it.
            return mounts
        return made.system

    async def _allowed(self, runtime: str) -> Sequence[str]:
        """What the runtime's shim handles itself; nothing, where it doesn't say."""
        try:
            return await self._informer.handled_mounts(runtime)
        except ContainerdError as e:
            self._log.error("failed to load runtime info", runtime=runtime, error=str(e))
            return ()

    async def deactivate(self, scope: Scope, id: str) -> None:
        """Takes away what `activate` made, if it made anything."""
        try:
            self._pools.quick(self._manager.info, scope, id)
            await self._pools.run("mounts", self._manager.deactivate, scope, id)
        except NotFound:
            return
        except ContainerdError as e:
            self._log.error("failed to deactivate mounts", task=id, error=str(e))
