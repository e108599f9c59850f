"""Attaches what a snapshotter says to mount, as containerd's mount package does, and takes it away again.

Spec: containerd.types.Mount, containerd mount.Mount
Man:  mount(2), umount2(2), proc_pid_mountinfo(5)
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ENOENT
from os.path import commonpath

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.identifiers import quoted
from pycontainerd.lib.linux import mount
from pycontainerd.lib.linux.libc import go_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pycontainerd.lib.api.light import types

_PAGE: Final = 4096
LONG: Final = _PAGE - 512  # options of an overlay that are longer than this are shortened
_PROPAGATION: Final = mount.MS_SHARED | mount.MS_SLAVE | mount.MS_PRIVATE | mount.MS_UNBINDABLE

_MAPS: Final = ("uidmap=", "gidmap=")
_HELPERS: Final = {"fuse.": "mount.fuse", "fuse3.": "mount.fuse3"}

# option -> (flag, whether it clears the flag)
_FLAGS: Final = {
    "async": (mount.MS_SYNCHRONOUS, True),
    "atime": (mount.MS_NOATIME, True),
    "bind": (mount.MS_BIND, False),
    "defaults": (0, False),
    "dev": (mount.MS_NODEV, True),
    "diratime": (mount.MS_NODIRATIME, True),
    "dirsync": (mount.MS_DIRSYNC, False),
    "exec": (mount.MS_NOEXEC, True),
    "mand": (mount.MS_MANDLOCK, False),
    "noatime": (mount.MS_NOATIME, False),
    "nodev": (mount.MS_NODEV, False),
    "nodiratime": (mount.MS_NODIRATIME, False),
    "noexec": (mount.MS_NOEXEC, False),
    "nomand": (mount.MS_MANDLOCK, True),
    "norelatime": (mount.MS_RELATIME, True),
    "nostrictatime": (mount.MS_STRICTATIME, True),
    "nosuid": (mount.MS_NOSUID, False),
    "rbind": (mount.MS_BIND | mount.MS_REC, False),
    "relatime": (mount.MS_RELATIME, False),
    "remount": (mount.MS_REMOUNT, False),
    "ro": (mount.MS_RDONLY, False),
    "rw": (mount.MS_RDONLY, True),
    "strictatime": (mount.MS_STRICTATIME, False),
    "suid": (mount.MS_NOSUID, True),
    "sync": (mount.MS_SYNCHRONOUS, False),
    "private": (mount.MS_PRIVATE, False),
    "rprivate": (mount.MS_PRIVATE | mount.MS_REC, False),
    "shared": (mount.MS_SHARED, False),
    "rshared": (mount.MS_SHARED | mount.MS_REC, False),
    "slave": (mount.MS_SLAVE, False),
    "rslave": (mount.MS_SLAVE | mount.MS_REC, False),
    "unbindable": (mount.MS_UNBINDABLE, False),
    "runbindable": (mount.MS_UNBINDABLE | mount.MS_REC, False),
}


class MountFailed(OSError):
    """What the kernel refused; `told` says what was asked of it, in containerd's words."""

    def __init__(self, error: OSError, told: str) -> None:
        super().__init__(error.errno, error.strerror)
        self.told = f"{told}: {go_error(error.errno or 0)}"


def parse_options(options: Sequence[str]) -> tuple[int, list[str]]:
    """(flags, data): what mount(2) has a flag for, and what the filesystem itself is told."""
    flags = 0
    data: list[str] = []
    for option in options:
        known = _FLAGS.get(option)
        if known is None:
            if option != "loop":
                data.append(option)
                continue
            raise errdefs.Unimplemented(
                "mount option loop is not supported here: attach the loop device first"
            )
        flag, clears = known
        flags = flags & ~flag if clears else flags | flag
    return flags, data


def attach(mounts: Sequence[types.Mount], target: str) -> None:
    """Mounts each in order on `target` or on its own target below it; undoes all of it when one fails.

    Raises OSError; InvalidArgument for a target outside, Unknown for options that no kernel takes.
    """
    try:
        for wanted in mounts:
            with trace.span("mount", type=wanted.type, target=target):
                _mount_one(wanted, target)
    except (OSError, errdefs.ContainerdError):
        unmount_recursive(target)
        raise


def _mount_one(wanted: types.Mount, root: str) -> None:
    target = _target(root, wanted.target)
    if wanted.type.startswith(tuple(_HELPERS)):
        _mount_by_helper(wanted, target)
        return
    options = list(wanted.options)
    if not any(option.startswith(_MAPS) for option in options):
        _mount_plain(wanted, target, options)
        return
    from pycontainerd.lib import mapped_mounts

    kept, uids, gids = mapped_mounts.split_options(options)
    if not uids:  # named, and empty: as in containerd, nothing is mapped
        _mount_plain(wanted, target, kept)
        return
    mapped_mounts.attach(wanted.type, target, kept, (uids, gids), lambda: _mount_plain(wanted, target, kept))


def _mount_plain(wanted: types.Mount, target: str, options: Sequence[str]) -> None:
    if wanted.type == "overlay" and sum(map(len, options)) + len(options) >= LONG:
        mount_long_overlay(wanted.source, target, options)
        return
    flags, data = parse_options(options)
    _mount(wanted.source, target, wanted.type, flags, ",".join(data))


def _mount_by_helper(wanted: types.Mount, target: str) -> None:
    """File systems of programs: mount.fuse and mount.fuse3 know how to start one. Waits for the helper, not for it."""
    from pycontainerd.lib.linux import posix_spawn

    prefix = wanted.type.partition(".")[0] + "."
    words = [wanted.source, target]
    for option in wanted.options:
        words += ("-o", option)
    argv = [_HELPERS[prefix], *words, "-t", wanted.type.removeprefix(prefix)]
    shown = f"mount helper [{argv[0]} [{' '.join(argv[1:])}]] failed"
    output_fd = os.memfd_create("mount", os.MFD_CLOEXEC)
    try:
        pid = posix_spawn.start(argv, posix_spawn.environment(), {1: output_fd, 2: output_fd})
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = os.pread(output_fd, _PAGE, 0).decode("utf-8", "replace")
    except FileNotFoundError as e:
        raise errdefs.Unknown(
            f'{shown}: "": exec: "{argv[0]}": executable file not found in $PATH',
            hint=f"install {argv[0]} (Debian: fuse3)",
        ) from e
    finally:
        os.close(output_fd)
    if code:
        raise errdefs.Unknown(
            f"{shown}: {quoted(said)}: " + (f"exit status {code}" if code > 0 else f"signal {-code}")
        )


def _mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    if len(data) > _PAGE:
        raise errdefs.Unknown("failed to mount rootfs component: mount options is too long")
    propagation = flags & _PROPAGATION
    plain = flags & ~propagation
    if not flags & mount.MS_REMOUNT or data or not propagation:
        first = plain & ~(mount.MS_REC if propagation and not plain & mount.MS_BIND else 0)
        try:
            mount.mount(source, target, fstype, flags=first, data=data)
        except OSError as e:
            raise MountFailed(
                e,
                f"mount source: {quoted(source)}, target: {quoted(target)}, fstype: {fstype}, flags: {first}, "
                f"data: {quoted(data)}, err",
            ) from e
    if propagation:
        mount.mount("", target, "", flags=propagation | (flags & mount.MS_REC))
    if plain & mount.MS_BIND and plain & mount.MS_RDONLY:
        # A bind ignores every flag but its own: read-only takes a second call.
        mount.mount("", target, "", flags=plain | mount.MS_REMOUNT)


def mount_long_overlay(source: str, target: str, options: Sequence[str]) -> None:
    """Many layers do not fit into the one page mount(2) reads: their common folder becomes the working folder."""
    flags, data = parse_options([o for o in options if not o.startswith("lowerdir=")])
    lower = next((o for o in options if o.startswith("lowerdir=")), "lowerdir=")
    layers = lower.removeprefix("lowerdir=").split(":")
    common = os.path.dirname(commonpath(layers))
    if len(layers) < 2 or not common.startswith("/"):
        raise errdefs.Unknown("failed to mount rootfs component: mount options is too long")
    data.append("lowerdir=" + ":".join(os.path.relpath(layer, common) for layer in layers))
    before_fd = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(common)
        _mount(source, target, "overlay", flags, ",".join(data))
    finally:
        os.fchdir(before_fd)
        os.close(before_fd)


def _target(root: str, below: str) -> str:
    """A mount's own target stays inside the root; the root is empty or ours while these mounts are made."""
    if not below:
        return root
    parts = [part for part in below.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise errdefs.InvalidArgument(f"mount target {below!r} leaves the rootfs")
    return "/".join((root, *parts))


def unmount_recursive(path: str) -> None:
    """Unmounts everything at and below a path, newest first; nothing mounted there is fine. Raises OSError."""
    for point in points_below(path):
        try:
            mount.umount2(point, flags=mount.UMOUNT_NOFOLLOW)
        except OSError as e:
            if e.errno == EINVAL:  # gone already
                continue
            if e.errno != EBUSY:  # else somebody still looks at it: detach it from everybody else's view
                raise
            mount.umount2(point, flags=mount.UMOUNT_NOFOLLOW | mount.MNT_DETACH)


def unmount_all(path: str) -> None:
    """Unmounts whatever lies on a path, until nothing does; a path that isn't there is fine. Raises OSError (EBUSY)."""
    while True:
        try:
            mount.umount2(path, flags=0)
        except OSError as e:
            if e.errno in {EINVAL, ENOENT}:
                return
            raise


def points_below(path: str) -> list[str]:
    """Every mount point at and below a path, newest first: the order in which they can be unmounted."""
    below = path + "/"
    return [point for point in reversed(mount_points()) if point == path or point.startswith(below)]


def mount_points() -> list[str]:
    """Every mount point of this mount namespace, oldest first."""
    with open("/proc/self/mountinfo", "rb") as file:
        raw = [line.split(b" ", 5)[4] for line in file]
    return [os.fsdecode(_unescape(point)) for point in raw]


def _unescape(field: bytes) -> bytes:
    """Space, tab, newline and backslash are octal in mountinfo."""
    if b"\\" not in field:
        return field
    for octal, byte in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(octal, byte)
    return field
