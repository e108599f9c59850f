"""What the directory-based snapshotters share: numbered directories that appear by rename and go by clean-up.

Subclasses say what is inside a directory and how it is mounted.
"""

from __future__ import annotations

import os
import tempfile
import threading
from typing import TYPE_CHECKING

from pycontainerd.daemon.core import files
from pycontainerd.daemon.core.snapshots import Info, Kind, Mount, Usage
from pycontainerd.daemon.plugins.metadata_sqlite.snapshot_nodes import Node, SnapshotNodes
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import Unimplemented

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database


class DirectorySnapshotter:
    """Base of overlay and native; implements core.snapshots.Snapshotter."""

    name = ""
    is_local = True
    rebases = False  # whether a snapshot without a parent can be committed on one

    def __init__(self, root: str, database: Database, *, sync_remove: bool = False) -> None:
        self._root = root
        self._snapshots = f"{root}/snapshots"
        self._nodes = SnapshotNodes(database, self.name)
        self._sync_remove = sync_remove
        # Directories of prepares that run right now; any other one without a number is left from a crash.
        self._filling: set[str] = set()
        self._filling_lock = threading.Lock()
        files.make_dir(root, 0o700)
        files.make_dir(self._snapshots, 0o700)

    @property
    def capabilities(self) -> Sequence[str]:
        return ()

    def fill(self, directory: str, kind: Kind, parent: str) -> None:
        """Makes the content of a new snapshot's directory, before it has a number."""
        raise NotImplementedError

    def place(self, directory: str, node: Node) -> None:
        """Last touches that need the parents' numbers; runs inside the metadata write."""
        raise NotImplementedError

    def node_mounts(self, node: Node) -> Sequence[Mount]:
        """How a snapshot is mounted."""
        raise NotImplementedError

    def usage_path(self, node: Node) -> str:
        """The directory whose content counts as the snapshot's own."""
        raise NotImplementedError

    def stat(self, key: str) -> Info:
        return self._nodes.get(key).info

    def update(self, info: Info, paths: Sequence[str]) -> Info:
        return self._nodes.update(info, paths)

    def usage(self, key: str) -> Usage:
        node = self._nodes.get(key)
        if node.info.kind is Kind.ACTIVE:
            with trace.span("snapshot.usage", key=key):
                return disk_usage(self.usage_path(node))
        return node.usage

    def mounts(self, key: str) -> Sequence[Mount]:
        return self.node_mounts(self._nodes.get_mountable(key))

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        return self._create(Kind.ACTIVE, key, parent, labels)

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        return self._create(Kind.VIEW, key, parent, labels)

    def commit(
        self, name: str, key: str, labels: Mapping[str, str], usage: Usage | None = None, parent: str = ""
    ) -> None:
        if parent and not self.rebases:
            raise Unimplemented(
                f"snapshotter {self.name} can't put a snapshot on a parent afterwards: not implemented"
            )
        self._nodes.commit(name, key, usage or self.usage(key), labels, parent)

    def remove(self, key: str) -> None:
        node = self._nodes.remove(key)
        if self._sync_remove:
            files.remove_tree(f"{self._snapshots}/{node.id}")

    def walk(self) -> Sequence[Info]:
        return [node.info for node in self._nodes.walk()]

    def cleanup(self) -> None:
        """Removes directories nothing refers to: of removed snapshots, and of prepares that were cut short."""
        for name in sorted(self._nodes.without_node(self._placed_names)):
            path = f"{self._snapshots}/{name}"
            with trace.span("snapshot.remove_tree", path=path):
                files.remove_tree(path)

    def _placed_names(self) -> set[str]:
        with self._filling_lock:
            return set(os.listdir(self._snapshots)) - self._filling

    def _create(self, kind: Kind, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        with self._filling_lock:
            directory = tempfile.mkdtemp(prefix="new-", dir=self._snapshots)
            self._filling.add(os.path.basename(directory))
        try:
            with trace.span("snapshot.fill", key=key):
                self.fill(directory, kind, parent)

            def place(node: Node) -> None:
                self.place(directory, node)
                os.rename(directory, f"{self._snapshots}/{node.id}")

            node = self._nodes.create(kind, key, parent, labels, place)
        except BaseException:
            files.remove_tree(directory)
            raise
        finally:
            with self._filling_lock:
                self._filling.discard(os.path.basename(directory))
        return self.node_mounts(node)


def disk_usage(path: str) -> Usage:
    """Inodes and allocated bytes below a directory, it included; hard links count once."""
    seen: set[tuple[int, int]] = set()
    size = 0
    pending = [path]
    status = os.lstat(path)
    seen.add((status.st_dev, status.st_ino))
    size += status.st_blocks * 512
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                inode = (status.st_dev, status.st_ino)
                if inode not in seen:
                    seen.add(inode)
                    size += status.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return Usage(len(seen), size)
