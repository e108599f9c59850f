"""Mounts with `uidmap=` and `gidmap=`: what they show belongs to other owners than on disk.

    thread, in a mount namespace that is its alone          calling thread, where the mount is wanted
    an overlay's lower directories: each bound on itself,
      read-only, id-mapped
    the mount itself, on its target
    a detached copy of it (id-mapped, if it is no overlay) -- fd -->  attached to the target

What is only needed on the way is seen by nobody else, and gone with the thread however it ends. An overlay's upper
directory isn't mapped: what is written there belongs to the ids outside at once.

Spec: containerd core/mount (uidmap, gidmap: `inside:outside:size[,...]`, and their error texts)
Man:  mount_setattr(2), open_tree(2), move_mount(2), mount_namespaces(7)
"""

from __future__ import annotations

import os
import re
import threading
import time

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.identifiers import quoted
from pycontainerd.lib.linux import idmap, mount, namespaces
from pycontainerd.lib.mounts import MountFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from pycontainerd.lib.linux.idmap import Row

UID: Final = "uidmap="
GID: Final = "gidmap="
_CLONE_FS: Final = 0x200
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_FIELDS: Final = ("container id", "host id", "size")


def split_options(options: Sequence[str]) -> tuple[list[str], str, str]:
    """(the other options, uidmap, gidmap); of several the last counts.

    InvalidArgument for one without the other: unlike containerd, which then maps nothing and doesn't say so.
    """
    kept = [option for option in options if not option.startswith((UID, GID))]
    uids, gids = _last(options, UID), _last(options, GID)
    if bool(uids) != bool(gids):
        raise errdefs.InvalidArgument(
            "mount options uidmap and gidmap go together: invalid argument",
            hint="set both of the labels containerd.io/snapshot/uidmapping and gidmapping",
        )
    return kept, uids, gids


def _last(options: Sequence[str], prefix: str) -> str:
    found = ""
    for option in options:
        if option.startswith(prefix):
            found = option.removeprefix(prefix)
    return found


def parse_maps(text: str) -> list[Row]:
    """`inside:outside:size` between commas; Unknown with containerd's words."""
    rows: list[Row] = []
    for part in text.split(","):
        words = part.split(":")
        if len(words) != len(_FIELDS):
            raise errdefs.Unknown(
                "user namespace mappings require the format `container-id:host-id:size`",
                hint=f"{part!r} is none",
            )
        inside, outside, size = (_number(word, field) for word, field in zip(words, _FIELDS, strict=True))
        if min(inside, outside, size) < 0:
            raise errdefs.Unknown(f"invalid mapping {part}, all IDs and size must be positive integers")
        rows.append((inside, outside, size))
    return rows


def _number(text: str, field: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise errdefs.Unknown(
            f"invalid {field} for user namespace remapping, "
            f"strconv.Atoi: parsing {quoted(text)}: invalid syntax"
        )
    return int(text)


def attach(
    kind: str, target: str, options: Sequence[str], maps: tuple[str, str], make: Callable[[], None]
) -> None:
    """Does what `make` does, which mounts on `target`, with the owners that the maps (uids, gids) give.

    OSError where the kernel or a file system takes no id maps; Unknown for maps that are none.
    """
    with trace.span("map ids of a mount", type=kind, target=target):
        rows = parse_maps(maps[0]), parse_maps(maps[1])
        try:
            userns_fd = idmap.user_namespace(*rows)
        except OSError as e:
            shown = f"{UID}{maps[0]} {GID}{maps[1]}"
            raise MountFailed(e, f"failed to make a user namespace for {shown}") from e
        try:
            tree_fd = _apart(lambda: _made(kind, target, options, userns_fd, make))
        finally:
            os.close(userns_fd)
        try:
            target_fd = os.open(target, os.O_PATH | os.O_CLOEXEC)
            try:
                mount.move_mount(tree_fd, target_fd)
            finally:
                os.close(target_fd)
        finally:
            os.close(tree_fd)


def _made(kind: str, target: str, options: Sequence[str], userns_fd: int, make: Callable[[], None]) -> int:
    """A detached copy of the mount, the caller's. In the thread."""
    if kind == "overlay":
        for folder in dict.fromkeys(_lower_directories(options)):
            _map_in_place(folder, userns_fd)
        make()
        return mount.open_tree(-1, target)
    make()
    tree_fd = mount.open_tree(-1, target, recursive=True)
    try:
        _map_ids(tree_fd, userns_fd, target, whole=True)
    except BaseException:
        os.close(tree_fd)
        raise
    return tree_fd


def _lower_directories(options: Sequence[str]) -> list[str]:
    for option in options:
        if option.startswith("lowerdir="):
            return option.removeprefix("lowerdir=").split(":")
    raise errdefs.Unknown(
        "failed to prepare idmapped overlay: failed to parse overlay lowerdir's from given options"
    )


def _map_in_place(folder: str, userns_fd: int) -> None:
    """Binds a directory (alone, as an overlay sees it) on itself, read-only, with other owners."""
    tree_fd = mount.open_tree(-1, folder)
    try:
        _map_ids(tree_fd, userns_fd, folder, attr_set=mount.MOUNT_ATTR_RDONLY)
        folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mount.move_mount(tree_fd, folder_fd)
        finally:
            os.close(folder_fd)
    finally:
        os.close(tree_fd)


def _map_ids(tree_fd: int, userns_fd: int, shown: str, *, whole: bool = False, attr_set: int = 0) -> None:
    """Of a mount, or of a whole tree, which then is private, as containerd's."""
    propagation = mount.MS_PRIVATE if whole else 0
    try:
        idmap.map_tree(tree_fd, userns_fd, recursive=whole, attr_set=attr_set, propagation=propagation)
    except OSError as e:
        raise MountFailed(e, f"unable to shift GID/UID or set mount attrs for {shown}") from e


def _apart(act: Callable[[], int]) -> int:
    """What `act` returns in a thread whose mounts nobody else sees; its errors are raised here."""
    done: list[int] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            _enter_own_namespace()
            done.append(act())
        except BaseException as error:  # noqa: BLE001 - the caller's to handle
            failed.append(error)

    thread = threading.Thread(target=run, name="mapped-mount")
    thread.start()
    thread.join()
    _wait_until_gone(thread.native_id)
    if failed:
        raise failed[0]
    return done[0]


def _wait_until_gone(thread_id: int | None) -> None:
    """A joined thread may still be on its way out: whoever forks or joins namespaces next has to be alone."""
    for _ in range(1000):
        if not os.path.exists(f"/proc/self/task/{thread_id}"):
            return
        time.sleep(0.0001)


def _enter_own_namespace() -> None:
    """This thread's mounts are its own from here on, and so is its working directory."""
    namespaces.unshare(_CLONE_FS | namespaces.CLONE_NEWNS)
    # `/` is a mount point: inside a chroot the kernel makes no user namespace in the first place (EPERM).
    mount.mount("none", "/", None, flags=mount.MS_PRIVATE | mount.MS_REC)
