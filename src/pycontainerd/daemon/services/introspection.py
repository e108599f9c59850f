"""Introspection: plugins and the server's identity."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontainerd.daemon.core import filters, plugins
from pycontainerd.lib.api.full import introspection_v1, rpc, types, wkt
from pycontainerd.lib.errdefs import FailedPrecondition, NotFound, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.plugins import PluginInfo


class IntrospectionService:
    """containerd.services.introspection.v1.Introspection."""

    def __init__(self, infos: Sequence[PluginInfo], uuid: str) -> None:
        self._plugins = infos
        self._uuid = uuid

    async def plugins(
        self, call: Call, request: introspection_v1.PluginsRequest
    ) -> introspection_v1.PluginsResponse:
        del call
        matches = filters.parse_request(request.filters)
        found = [_to_wire(p) for p in self._plugins if matches(plugins.adaptor(p))]
        return introspection_v1.PluginsResponse(plugins=found)

    async def plugin_info(
        self, call: Call, request: introspection_v1.PluginInfoRequest
    ) -> introspection_v1.PluginInfoResponse:
        """One plugin's record; what a plugin itself could add to it (`options`) is refused."""
        del call
        for plugin in self._plugins:
            if (plugin.type, plugin.id) == (request.type, request.id):
                break
        else:
            raise NotFound(f"plugin {request.type}.{request.id} not found: not found")
        if request.HasField("options"):
            if plugin.error is not None:
                raise FailedPrecondition(
                    f"plugin {plugin.type}.{plugin.id} did not load and has nothing to add: failed precondition"
                )
            raise Unimplemented(
                f"plugin {plugin.type}.{plugin.id} has nothing to add: not implemented",
                hint="leave the options out; for a runtime's features run: containerd-shim-pyrunc-v2 -info",
            )
        return introspection_v1.PluginInfoResponse(plugin=_to_wire(plugin))

    async def server(self, call: Call, request: wkt.Empty) -> introspection_v1.ServerResponse:
        del call, request
        pidns = os.stat("/proc/self/ns/pid").st_ino
        return introspection_v1.ServerResponse(uuid=self._uuid, pid=os.getpid(), pidns=pidns)


def _to_wire(plugin: PluginInfo) -> introspection_v1.Plugin:
    return introspection_v1.Plugin(
        type=plugin.type,
        id=plugin.id,
        requires=list(plugin.requires),
        platforms=[
            types.Platform(os=p.os, architecture=p.architecture, variant=p.variant) for p in plugin.platforms
        ],
        capabilities=list(plugin.capabilities),
        exports=dict(plugin.exports),
        init_err=None if plugin.error is None else rpc.Status(code=plugin.error[0], message=plugin.error[1]),
    )
