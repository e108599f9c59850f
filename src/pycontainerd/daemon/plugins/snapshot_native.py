"""Snapshots as plain copies: every active one starts as a full copy of its parent. Works on any filesystem.

Spec: containerd snapshots/native
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pycontainerd.daemon.core.snapshots import Kind, Mount
from pycontainerd.daemon.plugins.snapshot_dirs import DirectorySnapshotter
from pycontainerd.lib.errdefs import ContainerdError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.plugins.metadata_sqlite.snapshot_nodes import Node


class NativeSnapshotter(DirectorySnapshotter):
    """Implements core.snapshots.Snapshotter; the snapshot is the directory itself."""

    name = "native"

    def fill(self, directory: str, kind: Kind, parent: str) -> None:
        os.chmod(directory, 0o755)
        if kind is not Kind.ACTIVE or not parent:
            return
        try:
            source = self._nodes.get(parent)
        except ContainerdError:
            return  # the metadata write says what is wrong with the parent, in containerd's words
        copy_tree(self._path(source.id), directory)

    def place(self, directory: str, node: Node) -> None:
        """Nothing needs the number."""

    def node_mounts(self, node: Node) -> Sequence[Mount]:
        active = node.info.kind is Kind.ACTIVE
        source = node.id if active or not node.parent_ids else node.parent_ids[0]
        return (Mount("bind", self._path(source), ("rbind", "rw" if active else "ro")),)

    def usage_path(self, node: Node) -> str:
        return self._path(node.id)

    def _path(self, id: str) -> str:
        return f"{self._snapshots}/{id}"


def copy_tree(source: str, target: str) -> None:
    """Copies a tree with owners, modes, times, xattrs, hard links, devices and holes, never following a link."""
    links: dict[tuple[int, int], str] = {}
    directories = [("", os.lstat(source))]
    pending = [""]
    while pending:
        relative = pending.pop()
        with os.scandir(os.path.join(source, relative)) as entries:
            for entry in entries:
                path = os.path.join(relative, entry.name)
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    os.mkdir(os.path.join(target, path), 0o700)
                    directories.append((path, status))
                    pending.append(path)
                else:
                    _copy_entry(os.path.join(source, path), os.path.join(target, path), status, links)
    for path, status in reversed(directories):  # children first: their creation changed the times
        _copy_metadata(os.path.join(source, path), os.path.join(target, path), status)


def _copy_entry(source: str, target: str, status: os.stat_result, links: dict[tuple[int, int], str]) -> None:
    inode = (status.st_dev, status.st_ino)
    if status.st_nlink > 1:
        if inode in links:
            os.link(links[inode], target, follow_symlinks=False)
            return
        links[inode] = target
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        _copy_file(source, target)
    elif stat.S_ISSOCK(status.st_mode):
        return  # a socket has no content that a copy could have
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    _copy_metadata(source, target, status)


def _copy_file(source: str, target: str) -> None:
    in_fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    out_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(in_fd).st_size
        os.ftruncate(out_fd, size)
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(in_fd, offset, os.SEEK_DATA)
            except OSError:
                return  # ENXIO: only a hole is left
            end = os.lseek(in_fd, offset, os.SEEK_HOLE)
            os.lseek(in_fd, offset, os.SEEK_SET)
            os.lseek(out_fd, offset, os.SEEK_SET)
            while offset < end:
                copied = os.sendfile(out_fd, in_fd, None, end - offset)
                if copied == 0:
                    return  # the file shrank while it was copied
                offset += copied
    finally:
        os.close(in_fd)
        os.close(out_fd)


def _copy_metadata(source: str, target: str, status: os.stat_result) -> None:
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    for name in os.listxattr(source, follow_symlinks=False):
        os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))  # after chown(2), which clears the set-id bits
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
