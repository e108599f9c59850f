"""Snapshots as overlayfs layers: snapshots/N/fs is the upper directory, snapshots/N/work its work directory.

Spec: containerd snapshots/overlay (mount options and their order), filesystems/overlayfs.rst
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core import id_maps
from pycontainerd.daemon.core.snapshots import Kind, Mount
from pycontainerd.daemon.plugins import overlay_checks
from pycontainerd.daemon.plugins.snapshot_dirs import DirectorySnapshotter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.snapshots import Info
    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
    from pycontainerd.daemon.plugins.metadata_sqlite.snapshot_nodes import Node

_UPPER_LABEL: Final = "containerd.io/snapshot/overlay.upperdir"


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the plugin: what is mounted with, what Stat shows, and what is done where the kernel maps no ids."""

    mount_options: Sequence[str] = ()
    upperdir_label: bool = False
    slow_chown: bool = False
    sync_remove: bool = False


class OverlaySnapshotter(DirectorySnapshotter):
    """Implements core.snapshots.Snapshotter."""

    name = "overlayfs"
    rebases = True

    def __init__(self, root: str, database: Database, options: Options | None = None) -> None:
        self._options = options or Options()
        super().__init__(root, database, sync_remove=self._options.sync_remove)
        overlay_checks.require_d_type(root)
        self._base_options = overlay_checks.base_options(root, self._options.mount_options)

    @property
    def capabilities(self) -> Sequence[str]:
        """What clients may count on. The first call tries a mount."""
        found = ["remap-ids"] if self.maps_ids else []
        if not self._options.slow_chown:
            found.append("only-remap-ids")  # else a client may copy a snapshot to change its owners
        if overlay_checks.is_initial_user_namespace():
            found.append("rebase")
        return found

    @cached_property
    def maps_ids(self) -> bool:
        """Whether lower directories on this file system can be shown with other owners."""
        return overlay_checks.maps_ids(self._root)

    def fill(self, directory: str, kind: Kind, parent: str) -> None:
        os.mkdir(f"{directory}/fs", 0o755)
        os.chmod(f"{directory}/fs", 0o755)
        if kind is Kind.ACTIVE:
            os.mkdir(f"{directory}/work", 0o711)
            os.chmod(f"{directory}/work", 0o711)

    def place(self, directory: str, node: Node) -> None:
        owner = id_maps.root_owner(node.info.labels)
        if owner is None and node.parent_ids:
            # The merged root directory shows the upper one's owner, so it takes the parent's.
            status = os.stat(self._upper(node.parent_ids[0]))
            owner = status.st_uid, status.st_gid
        if owner is not None:
            os.chown(f"{directory}/fs", *owner, follow_symlinks=False)

    def stat(self, key: str) -> Info:
        return self._labelled(self._nodes.get(key))

    def update(self, info: Info, paths: Sequence[str]) -> Info:
        updated = super().update(info, paths)
        return self.stat(updated.name) if self._options.upperdir_label else updated

    def walk(self) -> Sequence[Info]:
        return [self._labelled(node) for node in self._nodes.walk()]

    def node_mounts(self, node: Node) -> Sequence[Mount]:
        active = node.info.kind is Kind.ACTIVE
        mapped = id_maps.mount_options(node.info.labels)
        if mapped and not self.maps_ids:
            mapped = ()
        if not node.parent_ids:
            return (Mount("bind", self._upper(node.id), (*mapped, "rw" if active else "ro", "rbind")),)
        if not active and len(node.parent_ids) == 1:
            return (Mount("bind", self._upper(node.parent_ids[0]), (*mapped, "ro", "rbind")),)
        options = [*mapped, *self._base_options]
        if active:
            options += [f"workdir={self._snapshots}/{node.id}/work", f"upperdir={self._upper(node.id)}"]
        options.append("lowerdir=" + ":".join(self._upper(id) for id in node.parent_ids))
        return (Mount("overlay", "overlay", tuple(options)),)

    def usage_path(self, node: Node) -> str:
        return self._upper(node.id)

    def _labelled(self, node: Node) -> Info:
        if not self._options.upperdir_label:
            return node.info
        return replace(node.info, labels={**node.info.labels, _UPPER_LABEL: self._upper(node.id)})

    def _upper(self, id: str) -> str:
        return f"{self._snapshots}/{id}/fs"
