"""The container's view of its control groups: a `cgroup` mount, version 1 or 2.

Spec:    runtime-spec config-linux.md#control-groups
Runs in: init (child side), before pivot_root
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import mount as m
from pycontainerd.lib.linux import path as fspath
from pycontainerd.lib.linux.libc import AT_FDCWD
from pycontainerd.runtime.libcontainer.mount_option import mount_attrs
from pycontainerd.runtime.libcontainer.rootfs.filesystem import new_filesystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.libcontainer.config import Config, Mount


class CgroupView:
    """What a `cgroup` mount shows: v1 hierarchies as (name, options, host path), or one v2 path."""

    __slots__ = ("hierarchies", "unified_path")

    def __init__(self, hierarchies: list[tuple[str, str, str]], unified_path: str) -> None:
        self.hierarchies = hierarchies
        self.unified_path = unified_path


def mount_cgroups(config: Config, entry: Mount, root_fd: int, view: CgroupView) -> None:
    """Shows the container its own cgroups and no others, read-only unless the config says otherwise."""
    target_fd = fspath.make_dirs_in_root(root_fd, entry.destination)
    try:
        if view.unified_path:
            _mount_unified(config, entry, target_fd, view.unified_path)
            return
        _mount_hierarchies(config, entry, target_fd, view)
    finally:
        os.close(target_fd)


def _mount_unified(config: Config, entry: Mount, target_fd: int, host_path: str) -> None:
    attr = mount_attrs(entry.options.flags)
    if "cgroup" in config.namespaces:
        words = ["nsdelegate"] if not config.creates("user") else []
        mount_fd = new_filesystem("cgroup2", "cgroup", words, attr)
    else:
        # Without its own cgroup namespace a new mount would show the whole host: bind the one folder.
        mount_fd = m.open_tree(AT_FDCWD, host_path)
        m.mount_setattr(mount_fd, attr_set=attr | m.MOUNT_ATTR_RDONLY)
    try:
        m.move_mount(mount_fd, target_fd)
    finally:
        os.close(mount_fd)


def _mount_hierarchies(config: Config, entry: Mount, target_fd: int, view: CgroupView) -> None:
    attr = mount_attrs(entry.options.flags)
    tmpfs_fd = new_filesystem(
        "tmpfs", "tmpfs", ["mode=755"], m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC
    )
    try:
        m.move_mount(tmpfs_fd, target_fd)
        for name, options, host_path in view.hierarchies:
            os.mkdir(name, 0o755, dir_fd=tmpfs_fd)
            if "cgroup" in config.namespaces:
                source = "systemd" if name == "systemd" else "cgroup"  # what systemd itself calls it
                mount_fd = new_filesystem("cgroup", source, options.split(","), attr)
            else:
                mount_fd = m.open_tree(AT_FDCWD, host_path)
                m.mount_setattr(mount_fd, attr_set=attr)
            try:
                point_fd = fspath.open_in_root(tmpfs_fd, name, fspath.O_PATH | os.O_DIRECTORY, follow=False)
                try:
                    m.move_mount(mount_fd, point_fd)
                finally:
                    os.close(point_fd)
            finally:
                os.close(mount_fd)
            for single in name.split(",") if "," in name else ():
                os.symlink(name, single, dir_fd=tmpfs_fd)
        if attr & m.MOUNT_ATTR_RDONLY:
            m.mount_setattr(tmpfs_fd, attr_set=m.MOUNT_ATTR_RDONLY)
    finally:
        os.close(tmpfs_fd)
