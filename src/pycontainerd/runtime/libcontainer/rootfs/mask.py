"""Masked and read-only paths of a rootfs.

Spec:    runtime-spec config-linux.md#masked-paths, #readonly-paths
Man:     mount(2), openat2(2)
Runs in: init (child side), after the hooks, before pivot_root
"""

from __future__ import annotations

import os
import stat

from pycontainerd.lib.linux import mount as m
from pycontainerd.lib.linux import path as fspath
from pycontainerd.lib.linux.libc import AT_FDCWD, go_error
from pycontainerd.runtime.libcontainer.init.program import InitError
from pycontainerd.runtime.libcontainer.rootfs.filesystem import new_filesystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_NULL = os.makedev(1, 3)


def _open(root_fd: int, path: str) -> int:
    """O_PATH, or -1 when it isn't there: the kernel may lack the feature."""
    try:
        return fspath.open_in_root(root_fd, path)
    except (FileNotFoundError, NotADirectoryError):
        return -1


def make_readonly(root_fd: int, paths: Iterable[str]) -> None:
    """Each path becomes a read-only bind mount of itself, other flags kept; a missing one is skipped."""
    for path in paths:
        target_fd = _open(root_fd, path)
        if target_fd < 0:
            continue
        try:
            tree_fd = m.open_tree(target_fd, b"", recursive=True)
            try:
                m.mount_setattr(tree_fd, attr_set=m.MOUNT_ATTR_RDONLY)
                m.move_mount(tree_fd, target_fd)
            finally:
                os.close(tree_fd)
        except OSError as error:
            raise InitError(f'can\'t make "{path}" read-only: {go_error(error.errno or 0)}') from None
        finally:
            os.close(target_fd)


def mask(root_fd: int, paths: list[str]) -> None:
    """Hides files under the host's /dev/null and directories under one empty read-only tmpfs."""
    masks: dict[bool, int] = {}  # whether for directories -> the mount of the first of them
    try:
        for path in paths:
            target_fd = _open(root_fd, path)
            if target_fd < 0:
                continue
            try:
                _cover(target_fd, masks)
            except OSError as error:
                raise InitError(f'can\'t mask path "{path}": {go_error(error.errno or 0)}') from None
            finally:
                os.close(target_fd)
    finally:
        for fd in masks.values():
            os.close(fd)


def _cover(target_fd: int, masks: dict[bool, int]) -> None:
    is_folder = stat.S_ISDIR(os.stat(target_fd).st_mode)
    if is_folder not in masks:
        masks[is_folder] = _new_empty() if is_folder else _open_null()
        m.move_mount(masks[is_folder], target_fd)
        return
    # Of the one that stands by now: a mount that is still detached can be cloned since Linux 6.15 only.
    clone_fd = m.open_tree(masks[is_folder], b"")
    try:
        m.move_mount(clone_fd, target_fd)
    finally:
        os.close(clone_fd)


def _new_empty() -> int:
    return new_filesystem("tmpfs", "tmpfs", ["ro", "nr_blocks=1", "nr_inodes=1"], m.MOUNT_ATTR_RDONLY)


def _open_null() -> int:
    # Checked after the open, on the very mount that is bound: the rootfs's own null may be anything (CVE-2025-31133).
    fd = m.open_tree(AT_FDCWD, b"/dev/null")
    found = os.stat(fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL:
        os.close(fd)
        raise InitError("/dev/null is not the null device")
    m.mount_setattr(fd, attr_set=m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC)
    return fd
