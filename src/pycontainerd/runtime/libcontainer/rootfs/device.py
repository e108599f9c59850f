"""Device nodes, /dev links and the console of a container.

Spec:    runtime-spec config-linux.md#devices, #default-devices, runtime-linux.md#dev-symbolic-links
Man:     mknod(2), pts(4)
Runs in: init (child side), before pivot_root
"""

from __future__ import annotations

import os
import stat

from pycontainerd.lib.linux import mount as m
from pycontainerd.lib.linux import path as fspath
from pycontainerd.lib.linux.libc import AT_FDCWD, go_error
from pycontainerd.runtime.libcontainer.init.program import InitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.libcontainer.config import Config, Device

_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_LINKS = ((b"fd", b"/proc/self/fd"), (b"stdin", b"/proc/self/fd/0"), (b"stdout", b"/proc/self/fd/1"))
LINKS = (*_LINKS, (b"stderr", b"/proc/self/fd/2"))


def needs_devices(config: Config) -> bool:
    """Not when /dev is a bind mount: its owner made what should be there."""
    return not any(entry.is_bind and entry.destination.rstrip("/") == "/dev" for entry in config.mounts)


def open_dev(root_fd: int) -> int:
    """/dev of the rootfs itself, made when missing; a symlink there is refused (CVE-2026-41579)."""
    try:
        os.mkdir(b"dev", 0o755, dir_fd=root_fd)
    except FileExistsError:
        pass
    try:
        return fspath.open_in_root(root_fd, b"dev", fspath.O_PATH | os.O_DIRECTORY, follow=False)
    except OSError as error:
        raise InitError(f"error opening /dev of the rootfs: {go_error(error.errno or 0)}") from None


def make_devices(config: Config, root_fd: int) -> None:
    """Every device of the config and the defaults, then the links; umask must be 0."""
    dev_fd = open_dev(root_fd)
    try:
        for device in config.devices:
            _make_device(config, device, root_fd, dev_fd)
        for name, target in LINKS:
            _link(dev_fd, name, target)
        if os.path.exists("/proc/kcore"):
            _link(dev_fd, b"core", b"/proc/kcore")
        try:
            os.unlink(b"ptmx", dir_fd=dev_fd)
        except FileNotFoundError:
            pass
        os.symlink(b"pts/ptmx", b"ptmx", dir_fd=dev_fd)
    finally:
        os.close(dev_fd)


def _link(dev_fd: int, name: bytes, target: bytes) -> None:
    try:
        os.symlink(target, name, dir_fd=dev_fd)
    except FileExistsError:
        pass


def _make_device(config: Config, device: Device, root_fd: int, dev_fd: int) -> None:
    parts = fspath.split(os.fsencode(device.path))
    if not parts:
        raise InitError(f"error creating device node {device.path}: is a directory")
    name = parts[-1]
    parent_fd = dev_fd if parts[:-1] == [b"dev"] else fspath.make_dirs_in_root(root_fd, b"/".join(parts[:-1]))
    try:
        if config.creates("user") or config.namespaces.get("user"):
            _bind_device(device, parent_fd, name)
        else:
            _mknod(device, parent_fd, name)
    except OSError as error:
        raise InitError(f"error creating device nodes: {device.path}: {go_error(error.errno or 0)}") from None
    finally:
        if parent_fd != dev_fd:
            os.close(parent_fd)


def _mknod(device: Device, parent_fd: int, name: bytes) -> None:
    number = 0 if device.kind == "p" else os.makedev(device.major, device.minor)
    try:
        os.mknod(name, _KINDS[device.kind] | device.mode, number, dir_fd=parent_fd)
    except FileExistsError:
        found = os.lstat(name, dir_fd=parent_fd)
        if stat.S_IFMT(found.st_mode) != _KINDS[device.kind] or found.st_rdev != number:
            raise
        return
    if device.uid or device.gid:
        os.chown(name, device.uid, device.gid, dir_fd=parent_fd, follow_symlinks=False)


def _bind_device(device: Device, parent_fd: int, name: bytes) -> None:
    # mknod(2) needs the initial user namespace, so the host's node is shown instead.
    tree_fd = m.open_tree(AT_FDCWD, device.path)
    try:
        target_fd = fspath.make_file_in_root(parent_fd, name, mode=0o666)
        try:
            m.move_mount(tree_fd, target_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(tree_fd)


def bind_console(root_fd: int, slave_fd: int) -> None:
    """Shows the terminal as /dev/console: made in this /dev, bound by descriptor (CVE-2025-52565)."""
    dev_fd = open_dev(root_fd)
    try:
        try:
            os.close(
                os.open(
                    b"console",
                    os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC,
                    0o620,
                    dir_fd=dev_fd,
                )
            )
        except FileExistsError:
            pass
        target_fd = fspath.open_in_root(dev_fd, b"console", follow=False)
        try:
            tree_fd = m.open_tree(slave_fd, b"")
            try:
                m.move_mount(tree_fd, target_fd)
            finally:
                os.close(tree_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(dev_fd)
