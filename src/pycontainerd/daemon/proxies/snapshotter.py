"""Snapshots of a snapshotter in another process, over containerd's snapshots service.

Spec: containerd docs/PLUGINS.md#proxy-plugins, docs/remote-snapshotter.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontainerd.daemon.core.snapshots import Info, Kind, Mount, Usage
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import snapshots_v1, wkt
from pycontainerd.lib.errdefs import Unimplemented

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.proxies.client import ProxyClient


class ProxySnapshotter:
    """Implements core.snapshots.Snapshotter. The plugin sees keys `NAMESPACE/NUMBER/KEY`, as containerd's do."""

    def __init__(self, name: str, client: ProxyClient, capabilities: Sequence[str] = ()) -> None:
        """`capabilities` are what the configuration says it can."""
        self.name = name
        self.is_local = False
        self._client = client
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Sequence[str]:
        return self._capabilities

    def stat(self, key: str) -> Info:
        request = snapshots_v1.StatSnapshotRequest(snapshotter=self.name, key=key)
        return _info(self._call("Stat", request, key).info)

    def update(self, info: Info, paths: Sequence[str]) -> Info:
        request = snapshots_v1.UpdateSnapshotRequest(
            snapshotter=self.name,
            info=snapshots_v1.Info(name=info.name, labels=dict(info.labels)),
            update_mask=wkt.FieldMask(paths=list(paths)) if paths else None,
        )
        return _info(self._call("Update", request, info.name).info)

    def usage(self, key: str) -> Usage:
        found = self._call("Usage", snapshots_v1.UsageRequest(snapshotter=self.name, key=key), key)
        return Usage(found.inodes, found.size)

    def mounts(self, key: str) -> Sequence[Mount]:
        return _mounts(self._call("Mounts", snapshots_v1.MountsRequest(snapshotter=self.name, key=key), key))

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        request = snapshots_v1.PrepareSnapshotRequest(
            snapshotter=self.name, key=key, parent=parent, labels=dict(labels)
        )
        return _mounts(self._call("Prepare", request, key))

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        request = snapshots_v1.ViewSnapshotRequest(
            snapshotter=self.name, key=key, parent=parent, labels=dict(labels)
        )
        return _mounts(self._call("View", request, key))

    def commit(
        self, name: str, key: str, labels: Mapping[str, str], usage: Usage | None = None, parent: str = ""
    ) -> None:
        del usage  # the plugin measures for itself
        if parent and "rebase" not in self._capabilities:
            # Unlike containerd: one that doesn't know the field would drop it unsaid.
            raise Unimplemented(
                f"snapshotter {self.name} can't put a snapshot on a parent afterwards: not implemented",
                hint='where it can, put "rebase" among its capabilities in [proxy_plugins]',
            )
        request = snapshots_v1.CommitSnapshotRequest(
            snapshotter=self.name, name=name, key=key, labels=dict(labels), parent=parent
        )
        self._call("Commit", request, key)

    def remove(self, key: str) -> None:
        self._call("Remove", snapshots_v1.RemoveSnapshotRequest(snapshotter=self.name, key=key), key)

    def walk(self) -> Sequence[Info]:
        pages = self._client.collect("List", snapshots_v1.ListSnapshotsRequest(snapshotter=self.name))
        return [_info(info) for page in pages for info in page.info]

    def cleanup(self) -> None:
        """A plugin without this method has nothing to clean up."""
        try:
            self._client.call("Cleanup", snapshots_v1.CleanupRequest(snapshotter=self.name))
        except Unimplemented:
            return

    def _call(self, method: str, request: Any, key: str) -> Any:
        # The metadata store's keys begin with the namespace they belong to.
        return self._client.call(method, request, key.partition("/")[0])


def _mounts(response: Any) -> Sequence[Mount]:
    return tuple(wire.core_mounts(response.mounts))


def _info(message: snapshots_v1.Info) -> Info:
    return Info(
        message.name,
        Kind(message.kind),
        message.parent,
        dict(message.labels),
        wire.nanos(message.created_at),
        wire.nanos(message.updated_at),
    )
