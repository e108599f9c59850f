"""Introspection: plugins and the server's identity."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontainerd.daemon.core import filters, plugins
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.full import introspection_v1, rpc, types, wkt
from pycontainerd.lib.errdefs import FailedPrecondition, NotFound, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.plugins import PluginInfo, RuntimeInformer


class IntrospectionService:
    """containerd.services.introspection.v1.Introspection."""

    def __init__(
        self,
        infos: Sequence[PluginInfo],
        uuid: str,
        informers: Mapping[tuple[str, str], RuntimeInformer],
        pools: Pools,
    ) -> None:
        """`informers`: what adds to a plugin's record, by its type and id."""
        self._pools = pools
        self._plugins = infos
        self._uuid = uuid
        self._informers = informers

    async def plugins(
        self, call: Call, request: introspection_v1.PluginsRequest
    ) -> introspection_v1.PluginsResponse:
        del call
        matches = filters.parse_request(request.filters)
        found = [await self._to_wire(p) for p in self._plugins if matches(plugins.adaptor(p))]
        return introspection_v1.PluginsResponse(plugins=found)

    async def plugin_info(
        self, call: Call, request: introspection_v1.PluginInfoRequest
    ) -> introspection_v1.PluginInfoResponse:
        """One plugin's record; `options` ask the plugin itself for more: of tasks, what a runtime is."""
        del call
        for plugin in self._plugins:
            if (plugin.type, plugin.id) == (request.type, request.id):
                break
        else:
            raise NotFound(f"plugin {request.type}.{request.id} not found: not found")
        extra = await self._extra(plugin, request.options) if request.HasField("options") else None
        return introspection_v1.PluginInfoResponse(plugin=await self._to_wire(plugin), extra=extra)

    async def _extra(self, plugin: PluginInfo, options: wkt.Any) -> wkt.Any:
        if plugin.error is not None:
            raise FailedPrecondition(
                f"plugin {plugin.type}.{plugin.id} did not load and has nothing to add: failed precondition"
            )
        informer = self._informers.get((plugin.type, plugin.id))
        if informer is None:
            raise Unimplemented(
                f"plugin {plugin.type}.{plugin.id} has nothing to add: not implemented",
                hint="leave the options out",
            )
        if not anys.is_type(options, types.RuntimeRequest):
            raise Unimplemented(f"unknown request type {options.type_url}: not implemented")
        wanted = types.RuntimeRequest.FromString(options.value)
        given = (
            TypedValue(wanted.options.type_url, wanted.options.value) if wanted.HasField("options") else None
        )
        info = await informer.runtime_info(wanted.runtime_path, given)
        return wkt.Any(type_url=anys.full_name(types.RuntimeInfo), value=info)

    async def server(self, call: Call, request: wkt.Empty) -> introspection_v1.ServerResponse:
        del call, request
        pidns = os.stat("/proc/self/ns/pid").st_ino
        return introspection_v1.ServerResponse(uuid=self._uuid, pid=os.getpid(), pidns=pidns)

    async def _to_wire(self, plugin: PluginInfo) -> introspection_v1.Plugin:
        capabilities: Sequence[str] = ()
        if plugin.capabilities is not None and plugin.error is None:
            capabilities = await self._pools.run("snapshots", plugin.capabilities)
        return _message(plugin, capabilities)


def _message(plugin: PluginInfo, capabilities: Sequence[str]) -> introspection_v1.Plugin:
    return introspection_v1.Plugin(
        type=plugin.type,
        id=plugin.id,
        requires=list(plugin.requires),
        platforms=[
            types.Platform(os=p.os, architecture=p.architecture, variant=p.variant) for p in plugin.platforms
        ],
        capabilities=list(capabilities),
        exports=dict(plugin.exports),
        init_err=None if plugin.error is None else rpc.Status(code=plugin.error[0], message=plugin.error[1]),
    )
