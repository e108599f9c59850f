"""One mount of an activation, made on a folder of the daemon's and taken away again.

A `loop` mount is a link to its device; the device stays until the link goes.

Spec: containerd mount.Mount, docs/mounts.md (loopback handler)
Man:  mount(2), umount2(2), loop(4)
"""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core import files
from pycontainerd.lib import mounts as lib_mounts
from pycontainerd.lib.api.light import types
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, Unknown
from pycontainerd.lib.identifiers import quoted
from pycontainerd.lib.linux import loop, namespaces
from pycontainerd.lib.linux import mount as kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontainerd.daemon.core.activations import ActiveMount
    from pycontainerd.daemon.core.snapshots import Mount

LOOP: Final = "loop"
TYPE: Final = "-type"  # behind a mount point's name: the file that says what was made there
_BACKING: Final = "-file"
_CLONE_FS: Final = 0x200
_BUSY_ATTEMPTS: Final = 50
_BUSY_PAUSE_S: Final = 0.05


def make(mount: Mount, point: str) -> None:
    """Makes a mount; `point` isn't there yet. Unknown says which mount failed, and why."""
    what = "mount handler failed" if mount.type == LOOP else "mount failed"
    try:
        if mount.type == LOOP:
            _make_device(mount, point)
        else:
            _require_possible(mount)
            os.mkdir(point, 0o700)
            _mount(mount, point)
    except lib_mounts.MountFailed as e:
        raise Unknown(f"{what} {_shown(mount)}: {e.told}") from e
    except OSError as e:
        raise Unknown(f"{what} {_shown(mount)}: {_reason(e)}") from e
    except ContainerdError as e:
        raise type(e)(f"{what} {_shown(mount)}: {e}", hint=e.hint) from e


def remove(point: str, *, is_device: bool) -> None:
    """Undoes `make`; what is gone already is fine. Unknown for a mount that stays in use."""
    if is_device:
        _remove_device(point)
        return
    for path in lib_mounts.points_below(point):
        _unmount(path)


def remove_all(folder: str) -> None:
    """Unmounts what is below an activation's folder, in order, and removes it; none is fine. Unknown for what is in use."""
    try:
        names = [name for name in os.listdir(folder) if name.isascii() and name.isdecimal()]
    except FileNotFoundError:
        return
    for name in sorted(names, key=int):
        kind = files.read_limited(f"{folder}/{name}{TYPE}", 4096)
        remove(f"{folder}/{name}", is_device=kind == LOOP.encode())
    files.remove_tree(folder)


def are_there(made: Sequence[ActiveMount], mounted: frozenset[str]) -> bool:
    """Whether all that was made still stands; `mounted` are this namespace's mount points."""
    return all(_is_there(one.mount_point, one.mount.type, mounted) for one in made)


def _is_there(point: str, kind: str, mounted: frozenset[str]) -> bool:
    if kind != LOOP:
        return point in mounted
    with _opened_device(point) as fd:
        return fd is not None


def _require_possible(mount: Mount) -> None:
    for option in mount.options:
        if option.startswith("X-containerd."):
            raise InvalidArgument(
                f"internal mount option {quoted(option)} was not consumed by the mount manager: invalid argument",
                hint="the type must begin with the transformer that takes it",
            )


def _mount(mount: Mount, point: str) -> None:
    if LOOP not in mount.options:
        _attach(mount, point)
        return
    options = tuple(option for option in mount.options if option not in (LOOP, "direct-io"))
    fd, device = loop.attach(mount.source, read_only="ro" in options, direct_io="direct-io" in mount.options)
    try:
        _attach(replace(mount, source=device, options=options), point)
    finally:
        os.close(fd)  # from here on the mount is what keeps the device


def _attach(mount: Mount, point: str) -> None:
    wire = types.Mount(type=mount.type, source=mount.source, target=mount.target, options=list(mount.options))
    if mount.type != "overlay" or sum(len(option) + 1 for option in mount.options) < lib_mounts.LONG:
        lib_mounts.attach([wire], point)
        return

    def attach() -> None:
        namespaces.unshare(_CLONE_FS)
        lib_mounts.attach([wire], point)

    # Many layers are named from a working folder, which has to be this thread's alone.
    with ThreadPoolExecutor(1, "mount") as thread:
        thread.submit(attach).result()


def _make_device(mount: Mount, point: str) -> None:
    fd, device = loop.attach(mount.source)
    try:
        files.write_atomic(point + _BACKING, _shown_backing(fd), 0o600)
        os.symlink(device, point)
        loop.set_autoclear(fd, wanted=False)
    finally:
        os.close(fd)


def _remove_device(point: str) -> None:
    with _opened_device(point) as fd:
        try:
            if fd is not None:
                loop.set_autoclear(fd, wanted=True)
            # Before the device is let go: another that is given its number must not be behind this link.
            with suppress(FileNotFoundError):
                os.unlink(point)
        except OSError as e:
            raise Unknown(f"failed to detach the loop device of {quoted(point)}: {_reason(e)}") from e


@contextmanager
def _opened_device(point: str) -> Iterator[int | None]:
    """The device a link leads to, unless it has become somebody else's: numbers are given out again."""
    fd = -1
    with suppress(OSError):
        fd = os.open(os.readlink(point), os.O_RDONLY | os.O_CLOEXEC)
    try:
        ours = fd >= 0 and _shown_backing(fd) == files.read_limited(point + _BACKING, 64)
        yield fd if ours else None
    finally:
        if fd >= 0:
            os.close(fd)


def _shown_backing(fd: int) -> bytes:
    """The file behind a device, as kept beside the link."""
    found = loop.backing(fd)
    return b"" if found is None else b"%d:%d" % found


def _unmount(path: str) -> None:
    """Waits a little for who still looks at it, as containerd does."""
    for _ in range(_BUSY_ATTEMPTS):
        try:
            kernel.umount2(path, flags=kernel.UMOUNT_NOFOLLOW)
        except OSError as e:
            if e.errno == errno.EINVAL:
                return
            if e.errno != errno.EBUSY:
                raise Unknown(f"failed to unmount target {path}: {_reason(e)}") from e
            time.sleep(_BUSY_PAUSE_S)
        else:
            return
    raise Unknown(f"failed to unmount target {path}: device or resource busy", hint="end what still uses it")


def _shown(mount: Mount) -> str:
    """As Go prints the struct."""
    return f"{{{mount.type} {mount.source} {mount.target} [{' '.join(mount.options)}]}}"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
