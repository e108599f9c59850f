"""A task's two folders: the bundle a shim works in, and its work folder that survives a reboot.

    <state>/<namespace>/<id>/         0700, or 0710 and the mapped root's group in a user namespace
        config.json   the container's spec        rootfs/            mount point, 0711
        work          -> the work folder          log                FIFO, the shim's stderr
        address       the shim's (1.x shims)      bootstrap.json     the shim's answer to `start`
        shim-binary-path                          what to run for `delete` after a restart
    <root>/<namespace>/<id>/          0711

Spec: containerd runtime v2 bundle; docs/runtime-v2.md
"""

from __future__ import annotations

import json
import os
from typing import Any

from pycontainerd.daemon.core import files
from pycontainerd.daemon.plugins import mounts
from pycontainerd.lib import identifiers
from pycontainerd.lib.errdefs import AlreadyExists, ContainerdError, Unknown


class Bundle:
    """The paths of one task. Methods block."""

    __slots__ = ("id", "namespace", "path", "work_path")

    def __init__(self, state: str, root: str, namespace: str, id: str) -> None:
        self.namespace = namespace
        self.id = id
        self.path = f"{state}/{namespace}/{id}"
        self.work_path = f"{root}/{namespace}/{id}"

    def create(self, spec: bytes) -> None:
        """Makes both folders and writes the spec; leaves nothing behind when it fails."""
        try:
            identifiers.require_valid(self.id)
        except ContainerdError as e:
            raise type(e)(f"invalid task id {self.id}: {e}") from e
        files.make_dir(os.path.dirname(self.path), 0o711)
        files.make_dir(os.path.dirname(self.work_path), 0o711)
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError as e:
            raise AlreadyExists(f"mkdir {self.path}: file exists: already exists") from e
        try:
            self._give_to_mapped_root(spec)
            files.make_dir(f"{self.path}/rootfs", 0o711)
            files.remove_tree(self.work_path)
            os.mkdir(self.work_path, 0o711)
            self._link_work()
            self.write("config.json", spec, 0o666)
        except BaseException:
            self.delete()
            raise

    def _link_work(self) -> None:
        os.symlink(self.work_path, f"{self.path}/work")

    def write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Writes one of the bundle's files."""
        files.write_atomic(f"{self.path}/{name}", data, mode)

    def read(self, name: str) -> str:
        """The text of one of the bundle's files; "" when it isn't there."""
        try:
            return files.read_limited(f"{self.path}/{name}").decode().strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    def is_empty(self) -> bool:
        """Whether nothing is in it: a create that never got anywhere."""
        return not os.listdir(self.path)

    def delete(self) -> None:
        """Unmounts the rootfs and removes both folders; each first gets a hidden name, so none is found half there."""
        rootfs = f"{self.path}/rootfs"
        try:
            mounts.unmount_all(rootfs)
        except OSError as e:
            raise Unknown(f"unmount rootfs {rootfs}: {e.strerror}", errno=e.errno or 0) from e
        if os.path.isdir(rootfs):
            os.rmdir(rootfs)  # never a tree removal: what is left in it could be somebody's data
        _remove_atomic(self.path)
        _remove_atomic(self.work_path)

    def _give_to_mapped_root(self, spec: bytes) -> None:
        gid = _mapped_root_gid(spec)
        if gid:
            os.chown(self.path, -1, gid)
            os.chmod(self.path, 0o710)


def _remove_atomic(path: str) -> None:
    parent, name = os.path.split(path)
    hidden = f"{parent}/.{name}"
    try:
        os.rename(path, hidden)
    except FileNotFoundError:
        return
    files.remove_tree(hidden)


def _mapped_root_gid(spec: bytes) -> int:
    """The host gid of the container's group 0, or 0 without a user namespace."""
    try:
        document: Any = json.loads(spec)
        mappings = document["linux"]["gidMappings"]
    except (ValueError, KeyError, TypeError):
        return 0
    for mapping in mappings if isinstance(mappings, list) else ():
        if isinstance(mapping, dict) and mapping.get("containerID") == 0:
            host_id = mapping.get("hostID")
            return host_id if isinstance(host_id, int) and 0 < host_id < 1 << 32 else 0
    return 0
