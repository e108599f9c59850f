"""Snapshots as overlayfs layers: snapshots/N/fs is the upper directory, snapshots/N/work its work directory.

Spec: containerd snapshots/overlay (mount options and their order), filesystems/overlayfs.rst
"""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core import files
from pycontainerd.daemon.core.snapshots import Kind, Mount
from pycontainerd.daemon.plugins import mounts
from pycontainerd.daemon.plugins.snapshot_dirs import DirectorySnapshotter
from pycontainerd.lib.errdefs import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
    from pycontainerd.daemon.plugins.metadata_sqlite.snapshot_nodes import Node

_DT_DIR: Final = 4
_DIRENT: Final = struct.Struct("=QqHB")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.getdents64.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_libc.getdents64.restype = ctypes.c_ssize_t


class OverlaySnapshotter(DirectorySnapshotter):
    """Implements core.snapshots.Snapshotter."""

    name = "overlayfs"

    def __init__(self, root: str, database: Database, *, sync_remove: bool = False) -> None:
        super().__init__(root, database, sync_remove=sync_remove)
        require_d_type(root)
        self._base_options = (*_index_option(), *_userxattr_option())

    def fill(self, directory: str, kind: Kind, parent: str) -> None:
        os.mkdir(f"{directory}/fs", 0o755)
        os.chmod(f"{directory}/fs", 0o755)
        if kind is Kind.ACTIVE:
            os.mkdir(f"{directory}/work", 0o711)
            os.chmod(f"{directory}/work", 0o711)

    def place(self, directory: str, node: Node) -> None:
        if not node.parent_ids:
            return
        # The merged root directory shows the upper one's owner, so it takes the parent's.
        status = os.stat(self._upper(node.parent_ids[0]))
        os.chown(f"{directory}/fs", status.st_uid, status.st_gid, follow_symlinks=False)

    def node_mounts(self, node: Node) -> Sequence[Mount]:
        active = node.info.kind is Kind.ACTIVE
        if not node.parent_ids:
            return (Mount("bind", self._upper(node.id), ("rw" if active else "ro", "rbind")),)
        if not active and len(node.parent_ids) == 1:
            return (Mount("bind", self._upper(node.parent_ids[0]), ("ro", "rbind")),)
        options = list(self._base_options)
        if active:
            options += [f"workdir={self._snapshots}/{node.id}/work", f"upperdir={self._upper(node.id)}"]
        options.append("lowerdir=" + ":".join(self._upper(id) for id in node.parent_ids))
        return (Mount("overlay", "overlay", tuple(options)),)

    def usage_path(self, node: Node) -> str:
        return self._upper(node.id)

    def _upper(self, id: str) -> str:
        return f"{self._snapshots}/{id}/fs"


def require_supported(root: str) -> None:
    """FailedPrecondition unless overlayfs can be mounted on `root`'s filesystem."""
    files.make_dir(root, 0o700)
    require_d_type(root)
    try:
        _try_mount(root, ())
    except OSError as e:
        raise FailedPrecondition(
            f"failed to mount overlay: {os.strerror(e.errno or 0).lower()}",
            hint="use the native snapshotter, or a --root on ext4 or xfs",
        ) from e


def require_d_type(root: str) -> None:
    """FailedPrecondition unless readdir(3) tells types there: overlayfs needs it for its whiteouts."""
    probe = tempfile.mkdtemp(prefix="dtype-", dir=root)
    try:
        os.mkdir(f"{probe}/child")
        supported = _d_types(probe).get(b"child") == _DT_DIR
    finally:
        files.remove_tree(probe)
    if not supported:
        raise FailedPrecondition(
            f"{root} does not support d_type. If the backing filesystem is xfs, please reformat with ftype=1 "
            "to enable d_type support"
        )


def _d_types(path: str) -> dict[bytes, int]:
    """Name to raw d_type of a small directory's entries: os.scandir hides DT_UNKNOWN. Man: getdents64(2)"""
    buffer = ctypes.create_string_buffer(4096)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        length = _libc.getdents64(fd, buffer, ctypes.sizeof(buffer))
    finally:
        os.close(fd)
    types: dict[bytes, int] = {}
    data, offset = buffer.raw[: max(length, 0)], 0
    while offset < len(data):
        # struct linux_dirent64: u64 d_ino, s64 d_off, u16 d_reclen, u8 d_type, d_name
        _, _, record_length, kind = _DIRENT.unpack_from(data, offset)
        name = data[offset + _DIRENT.size : offset + record_length].partition(b"\0")[0]
        types[name] = kind
        offset += record_length
    return types


def _index_option() -> tuple[str, ...]:
    """index=off keeps one lower directory usable by many mounts, where the kernel knows the option."""
    return ("index=off",) if os.path.exists("/sys/module/overlay/parameters/index") else ()


def _userxattr_option() -> tuple[str, ...]:
    """userxattr is for mounts inside a user namespace."""
    with open("/proc/self/uid_map", encoding="ascii") as f:
        initial = f.read().split() == ["0", "0", "4294967295"]
    return () if initial else ("userxattr",)


def _try_mount(root: str, options: tuple[str, ...]) -> None:
    """Mounts and unmounts an overlay of empty directories; OSError when the kernel or filesystem refuses."""
    base = tempfile.mkdtemp(prefix="check-overlay-", dir=root)
    try:
        for name in ("lower1", "lower2", "upper", "work", "merged"):
            os.mkdir(f"{base}/{name}", 0o755)
        data = ",".join(
            (*options, f"lowerdir={base}/lower2:{base}/lower1,upperdir={base}/upper,workdir={base}/work")
        )
        mounts.mount("overlay", f"{base}/merged", "overlay", 0, data)
        mounts.unmount_all(f"{base}/merged")
    finally:
        with suppress(FileNotFoundError):
            files.remove_tree(base)
