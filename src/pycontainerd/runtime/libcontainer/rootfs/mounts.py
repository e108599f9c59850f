"""The mounts of config.json onto a rootfs, each by descriptor.

Spec:    runtime-spec config.md#mounts, config-linux.md#default-filesystems
Man:     fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)
Runs in: init (child side), before pivot_root, in the container's own mount namespace
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import mount as m
from pycontainerd.lib.linux import path as fspath
from pycontainerd.lib.linux.libc import AT_FDCWD, go_error
from pycontainerd.lib.linux.procfs import PROC_ROOT_INO, is_procfs
from pycontainerd.lib.linux.tree import copy_tree
from pycontainerd.runtime.libcontainer.init.program import InitError
from pycontainerd.runtime.libcontainer.mount_option import (
    EXTENSIONS,
    SUPERBLOCK_FLAGS,
    mount_attrs,
    setattr_pair,
)
from pycontainerd.runtime.libcontainer.rootfs import cgroup
from pycontainerd.runtime.libcontainer.rootfs.filesystem import new_filesystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainerd.runtime.libcontainer.config import Config, Mount
    from pycontainerd.runtime.libcontainer.rootfs.cgroup import CgroupView

# Filesystems whose options fit fsconfig(2); the rest go through mount(2), whose data may be a page long.
_FSCONFIG_TYPES = frozenset(("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"))

# Files of /proc that lxcfs and the like may cover (runc's list).
_PROC_ALLOWED = frozenset(
    [
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/slabinfo",
        "/proc/net/dev",
        "/proc/sys/kernel/ns_last_pid",
    ]
)


def mount_all(
    config: Config, root_fd: int, cgroups: CgroupView, sources: dict[int, int], done: Callable[[str], None]
) -> list[int]:
    """Mounts everything in order; returns descriptors of the mounts that become read-only at the end.

    `sources` holds, by index in config.mounts, detached trees that the parent opened (user namespaces). `done` is told
    of each mount.
    """
    late: list[int] = []
    for at, entry in enumerate(config.mounts):
        try:
            _mount_one(config, entry, root_fd, cgroups, sources.get(at, -1), late)
        except OSError as error:
            text = go_error(error.errno or 0)
            if error.filename is not None:
                text = f"{os.fsdecode(error.filename)}: {text}"
            raise InitError(f"{_where(entry)}: {text}") from None
        except InitError as error:
            raise InitError(f"{_where(entry)}: {error}") from None
        done(f"mount {entry.destination}")
    return late


def _where(entry: Mount) -> str:
    return f'error mounting "{entry.source}" to rootfs at "{entry.destination}"'


def _mount_one(
    config: Config,
    entry: Mount,
    root_fd: int,
    cgroups: CgroupView,
    source_fd: int,
    late: list[int],
) -> None:
    if entry.options.flags & m.MS_REMOUNT:
        _remount(entry, root_fd)
    elif entry.is_bind:
        _mount_bind(config, entry, root_fd, source_fd)
    elif entry.fstype in ("cgroup", "cgroup2"):
        cgroup.mount_cgroups(config, entry, root_fd, cgroups)
    else:
        _mount_filesystem(config, entry, root_fd, late)


def open_ordinary_directory(root_fd: int, destination: str, fstype: str) -> int:
    """The mount point for proc or sysfs, made when missing: never through a symlink (CVE-2019-19921)."""
    try:
        os.close(fspath.make_dirs_in_root(root_fd, destination))
        return fspath.open_in_root(root_fd, destination, fspath.O_PATH | os.O_DIRECTORY, follow=False)
    except OSError as error:
        if error.errno in (20, 40):  # ENOTDIR, ELOOP
            raise InitError(f'filesystem "{fstype}" must be mounted on ordinary directory') from None
        raise


def _check_proc(entry: Mount, config: Config, source_is_proc: bool) -> None:
    parts = fspath.split(os.fsencode(entry.destination))
    if not parts or parts[0] != b"proc":
        return
    shown = f"{config.rootfs}/{os.fsdecode(b'/'.join(parts))}"
    if len(parts) == 1:
        if not source_is_proc:
            raise InitError(f'"{shown}" cannot be mounted because it is not of type proc')
    elif "/" + os.fsdecode(b"/".join(parts)) not in _PROC_ALLOWED:
        raise InitError(f'"{shown}" cannot be mounted because it is inside /proc')


def _check_target(entry: Mount, config: Config, root_fd: int, target_fd: int) -> None:
    """A link of the image must not lead a mount into /proc by another name."""
    if fspath.split(os.fsencode(entry.destination))[:1] == [b"proc"] or not is_procfs(target_fd):
        return
    try:
        proc_fd = fspath.open_in_root(root_fd, "/proc")
    except FileNotFoundError:
        return  # of this root only what a bind mount has brought is a procfs
    try:
        if os.stat(proc_fd).st_dev == os.stat(target_fd).st_dev:
            shown = f"{config.rootfs}{entry.destination}"
            raise InitError(f'"{shown}" cannot be mounted because it is inside /proc')
    finally:
        os.close(proc_fd)


def _mount_filesystem(config: Config, entry: Mount, root_fd: int, late: list[int]) -> None:
    _check_proc(entry, config, entry.fstype == "proc")
    if entry.fstype in ("proc", "sysfs"):
        target_fd = open_ordinary_directory(root_fd, entry.destination, entry.fstype)
    else:
        target_fd = fspath.make_dirs_in_root(root_fd, entry.destination)
    try:
        _check_target(entry, config, root_fd, target_fd)
        if entry.fstype not in _FSCONFIG_TYPES:
            flags = entry.options.flags
            data = ",".join(entry.options.data)
            m.mount(entry.source, f"/proc/self/fd/{target_fd}", entry.fstype, flags=flags, data=data)
            mount_fd = fspath.open_in_root(root_fd, entry.destination)
        else:
            mount_fd = _new_filesystem(entry, target_fd)
            if entry.options.extensions & EXTENSIONS["tmpcopyup"]:
                copy_tree(target_fd, mount_fd)
            m.move_mount(mount_fd, target_fd)
        _finish(entry, mount_fd)
        if entry.fstype == "tmpfs" and entry.options.flags & m.MS_RDONLY:
            # Mount points below it must still be made: read-only comes last.
            late.append(mount_fd)
        else:
            os.close(mount_fd)
    finally:
        os.close(target_fd)


def _new_filesystem(entry: Mount, target_fd: int) -> int:
    flags, is_tmpfs = entry.options.flags, entry.fstype == "tmpfs"
    words = list(entry.options.data)
    if is_tmpfs and not any(word.startswith("mode=") for word in words):
        # As runc: a tmpfs takes the mode of the directory that it covers.
        words.append(f"mode={os.stat(target_fd).st_mode & 0o7777:o}")
    if is_tmpfs:
        flags &= ~m.MS_RDONLY
    if flags & m.MS_RDONLY:
        words.append("ro")
    for flag, word in (
        (m.MS_SYNCHRONOUS, "sync"),
        (m.MS_DIRSYNC, "dirsync"),
        (m.MS_MANDLOCK, "mand"),
        (m.MS_LAZYTIME, "lazytime"),
    ):
        if flags & flag:
            words.append(word)
    return new_filesystem(entry.fstype, entry.source, words, mount_attrs(flags))


def _finish(entry: Mount, mount_fd: int) -> None:
    for propagation in entry.options.propagation:
        m.mount_setattr(mount_fd, propagation=propagation & ~m.MS_REC, recursive=bool(propagation & m.MS_REC))
    if entry.options.attr_set or entry.options.attr_clr:
        m.mount_setattr(
            mount_fd, attr_set=entry.options.attr_set, attr_clr=entry.options.attr_clr, recursive=True
        )


def open_source(entry: Mount) -> int:
    """A detached copy of a bind mount's source, one mount or the whole tree; the caller's to close."""
    try:
        return m.open_tree(AT_FDCWD, entry.source, recursive=bool(entry.options.flags & m.MS_REC))
    except OSError as error:
        raise InitError(f"stat {entry.source}: {go_error(error.errno or 0)}") from None


def _mount_bind(config: Config, entry: Mount, root_fd: int, source_fd: int) -> None:
    tree_fd = source_fd if source_fd >= 0 else open_source(entry)
    try:
        parts = fspath.split(os.fsencode(entry.destination))
        if parts[:1] == [b"proc"]:
            _check_proc(entry, config, _is_proc_root(tree_fd))
        if os.stat(tree_fd).st_mode & 0o170000 == 0o040000:
            target_fd = fspath.make_dirs_in_root(root_fd, entry.destination)
        else:
            target_fd = fspath.make_file_in_root(root_fd, entry.destination)
        try:
            _check_target(entry, config, root_fd, target_fd)
            attr_set, attr_clr = setattr_pair(entry.options.flags, entry.options.cleared)
            if attr_set or attr_clr:
                m.mount_setattr(tree_fd, attr_set=attr_set, attr_clr=attr_clr)
            if entry.options.flags & SUPERBLOCK_FLAGS & ~m.MS_SILENT:
                raise InitError("options of a superblock can't be given to a bind mount")
            m.move_mount(tree_fd, target_fd)
            _finish(entry, tree_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(tree_fd)


def _is_proc_root(fd: int) -> bool:
    return is_procfs(fd) and os.stat(fd).st_ino == PROC_ROOT_INO


def _remount(entry: Mount, root_fd: int) -> None:
    mount_fd = fspath.open_in_root(root_fd, entry.destination)
    try:
        data = ",".join(entry.options.data)
        m.mount(None, f"/proc/self/fd/{mount_fd}", None, flags=entry.options.flags, data=data or None)
        _finish(entry, mount_fd)
    finally:
        os.close(mount_fd)
