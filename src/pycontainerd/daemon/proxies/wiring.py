"""The `[proxy_plugins]` of the configuration as plugins of the daemon, at their places among the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontainerd.daemon.core.plugins import Platform
from pycontainerd.daemon.plugin import CONTENT, METADATA
from pycontainerd.daemon.plugins.metadata_sqlite.snapshots import SqliteSnapshots
from pycontainerd.daemon.proxies.client import ProxyClient
from pycontainerd.daemon.proxies.content import ProxyContentStore
from pycontainerd.daemon.proxies.snapshotter import ProxySnapshotter
from pycontainerd.daemon.registration import Registration
from pycontainerd.lib import platforms
from pycontainerd.lib.api.full import content_v1, snapshots_v1
from pycontainerd.lib.errdefs import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.config import ProxyPlugin
    from pycontainerd.daemon.registration import Context

_SNAPSHOT_TYPE = "io.containerd.snapshotter.v1"
_CONTENT_TYPE = "io.containerd.content.v1"


def insert(
    registrations: Sequence[Registration], proxies: Mapping[str, ProxyPlugin]
) -> tuple[Registration, ...]:
    """Content stores behind ours, snapshotters behind the metadata they are seen through.

    InvalidArgument for a type that is neither.
    """
    contents: list[Registration] = []
    snapshotters: list[Registration] = []
    for name, proxy in proxies.items():
        match proxy.type:
            case "content":
                contents.append(_registration(_CONTENT_TYPE, name, proxy, _content))
            case "snapshot":
                snapshotters.append(_registration(_SNAPSHOT_TYPE, name, proxy, _snapshotter))
            case _:
                raise InvalidArgument(
                    f"proxy_plugins.{name}: type {proxy.type} is not supported",
                    hint="use snapshot or content",
                )
    result: list[Registration] = []
    for registration in registrations:
        result.append(registration)
        if registration.uri == CONTENT:
            result += contents
        if registration.uri == METADATA:
            result += snapshotters
    return tuple(result)


def _registration(type: str, name: str, proxy: ProxyPlugin, start: Any) -> Registration:
    platform = platforms.parse(proxy.platform) if proxy.platform else platforms.default()
    return Registration(
        f"{type}.{name}",
        lambda context: start(context, name, proxy),
        platforms=(Platform(platform.os, platform.architecture, platform.variant),),
        capabilities=lambda _: lambda: proxy.capabilities,
        exports=lambda _: {**proxy.exports, "address": proxy.address},
    )


def _snapshotter(context: Context, name: str, proxy: ProxyPlugin) -> SqliteSnapshots:
    client = ProxyClient(proxy.address, snapshots_v1.SNAPSHOTS)
    context.on_stop.append(client.close)
    return SqliteSnapshots(context.get(METADATA), ProxySnapshotter(name, client, proxy.capabilities))


def _content(context: Context, name: str, proxy: ProxyPlugin) -> ProxyContentStore:
    if CONTENT in context.instances:
        raise FailedPrecondition(
            f"two content stores, {name} and {CONTENT}: failed precondition",
            hint=f'put "{CONTENT}" into disabled_plugins',
        )
    client = ProxyClient(proxy.address, content_v1.CONTENT)
    context.on_stop.append(client.close)
    store = ProxyContentStore(client)
    context.instances[CONTENT] = store  # what everything above asks for
    return store
