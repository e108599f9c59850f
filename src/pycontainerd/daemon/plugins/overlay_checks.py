"""What overlayfs can do here: whether it can be mounted at all, its options, directory types, owners of lower layers.

Spec: containerd snapshots/overlay (overlayutils), filesystems/overlayfs.rst
"""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core import files
from pycontainerd.daemon.plugins import mounts
from pycontainerd.lib.errdefs import ContainerdError, FailedPrecondition
from pycontainerd.lib.linux.procfs import filesystem_magic

if TYPE_CHECKING:
    from collections.abc import Sequence

_DT_DIR: Final = 4
_DIRENT: Final = struct.Struct("=QqHB")
_TMPFS_MAGIC: Final = 0x01021994
_PROBE_ID: Final = 666
_libc = ctypes.CDLL(None, use_errno=True)
_libc.getdents64.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_libc.getdents64.restype = ctypes.c_ssize_t


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


def base_options(root: str, configured: Sequence[str]) -> tuple[str, ...]:
    """What every overlay is mounted with: what was configured, and what is needed here unless that says otherwise."""
    options = list(configured)
    if not _has(configured, "index") and os.path.exists("/sys/module/overlay/parameters/index"):
        # One lower directory is part of many mounts.
        options.append("index=off")
    if not _has(configured, "userxattr") and _needs_userxattr(root):
        options.append("userxattr")
    return tuple(options)


def _has(options: Sequence[str], key: str) -> bool:
    return any(option.partition("=")[0] == key for option in options)


def is_initial_user_namespace() -> bool:
    """Whether every id there is can be seen here."""
    with open("/proc/self/uid_map", encoding="ascii") as f:
        return f.read().split() == ["0", "0", "4294967295"]


def _needs_userxattr(root: str) -> bool:
    """Inside a user namespace overlayfs may not keep its marks as trusted.*; tmpfs has no user.* for them."""
    if is_initial_user_namespace() or _is_on_tmpfs(root):
        return False
    try:
        _try_mount(root, ("userxattr",))
    except OSError:
        return False  # kernels before 5.11 that let overlay be mounted here don't know the option
    return True


def _is_on_tmpfs(path: str) -> bool:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return filesystem_magic(fd) == _TMPFS_MAGIC
    finally:
        os.close(fd)


def maps_ids(root: str) -> bool:
    """Whether lower directories on `root`'s file system can be shown with other owners; tries it.

    Unlike containerd, which asks for the kernel's version (5.19) and finds out with the first mount.
    """
    from pycontainerd.lib import mounts as lib_mounts
    from pycontainerd.lib.api.light import types

    base = tempfile.mkdtemp(prefix="check-overlay-", dir=root)
    try:
        for name in ("lower1", "lower2", "merged", "lower1/file"):
            os.mkdir(f"{base}/{name}", 0o755)
        options = [*(f"{kind}=0:{_PROBE_ID}:1" for kind in ("uidmap", "gidmap")), *base_options(root, ())]
        options.append(f"lowerdir={base}/lower2:{base}/lower1")
        lib_mounts.attach([types.Mount(type="overlay", source="overlay", options=options)], f"{base}/merged")
        try:
            status = os.stat(f"{base}/merged/file")
        finally:
            mounts.unmount_all(f"{base}/merged")
    except (OSError, ContainerdError):
        return False
    finally:
        with suppress(FileNotFoundError):
            files.remove_tree(base)
    return (status.st_uid, status.st_gid) == (_PROBE_ID, _PROBE_ID)
