"""An image's snapshot with other owners, for user namespaces: shown so by the snapshotter, or copied.

    the snapshotter has remap-ids -> the container's snapshot is prepared on the image's, with the maps as labels

    parent's chain id + maps -> name          there already: the container's snapshot is prepared on it
    prepare on the parent -> mount -> lchown of every file, by descriptors -> commit under that name

The copy is kept by the snapshots made of it, and collected with the last of them.

Spec: containerd client WithUserNSRemappedSnapshot, WithUserNSRemapperLabels (resolveSnapshotOptions)
Man:  chown(2): it drops setuid, setgid and file capabilities; the first two are put back, as containerd 2 does
"""

from __future__ import annotations

import os
import stat

from pycontainerd.client import image_spec, leases, snapshots
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.linux.path import open_in_root

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from pycontainerd.client.client import Client
    from pycontainerd.lib.api.light import types

    # {containerID, hostID, size}, as in the runtime-spec.
    IdMap = dict[str, int]

_SPECIAL: Final = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


def prepare(client: Client, snapshotter: str, key: str, parent: str, maps: Maps) -> list[types.Mount]:
    """A writable snapshot of an image whose files belong to the ids that the maps give; the caller holds a lease.

    FailedPrecondition for a file whose owner no map has.
    """
    return snapshots.prepare(client, snapshotter, key, _copied(client, snapshotter, parent, maps))


def prepare_labelled(
    client: Client, snapshotter: str, key: str, parent: str, maps: Maps, labels: Mapping[str, str]
) -> list[types.Mount]:
    """The same, with the maps as labels: a snapshotter that can shows the image's files with other owners.

    One that can't gets a copy, unless it says that this isn't wanted: FailedPrecondition.
    """
    can = snapshots.capabilities(client, snapshotter)
    if "remap-ids" not in can:
        if "only-remap-ids" in can:
            raise errdefs.FailedPrecondition(
                f'snapshotter "{snapshotter}" doesn\'t support idmap mounts on this host, configure `slow_chown` '
                "to allow a slower and expensive fallback",
                hint="leave --remap-labels out, and the client makes a copy",
            )
        maps.require_root()
        parent = _copied(client, snapshotter, parent, maps)
    return snapshots.prepare(client, snapshotter, key, parent, {**labels, **maps.labels()})


def _copied(client: Client, snapshotter: str, parent: str, maps: Maps) -> str:
    """The name of the copy, which is made unless it is there."""
    name = maps.snapshot_name(parent)
    if not snapshots.exists(client, snapshotter, name):
        with trace.span("copy with other owners", snapshot=name):
            _make(client, snapshotter, name, parent, maps)
    return name


def _make(client: Client, snapshotter: str, name: str, parent: str, maps: Maps) -> None:
    key = f"{name}-remap-{leases.random_suffix()}"
    mounts = snapshots.prepare(client, snapshotter, key, parent)
    try:
        image_spec.mounted(mounts, lambda folder: shift_tree(folder, maps))
        snapshots.commit(client, snapshotter, name, key)
    except errdefs.AlreadyExists:
        snapshots.remove(client, snapshotter, key)  # somebody else was faster
    except BaseException:
        snapshots.remove(client, snapshotter, key)
        raise


def shift_tree(folder: str, maps: Maps) -> None:
    """Gives everything below a folder, and the folder, its new owner; no link is followed."""
    root_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _shift_one(".", root_fd, "/", maps)
        folders = ["."]
        while folders:
            folders += _shift_folder(root_fd, folders.pop(), maps)
    finally:
        os.close(root_fd)


def _shift_folder(root_fd: int, path: str, maps: Maps) -> list[str]:
    """What lies in one folder; the folders among it, still to be entered."""
    found: list[str] = []
    folder_fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, follow=False)
    try:
        with os.scandir(folder_fd) as entries:
            for entry in entries:
                _shift_one(entry.name, folder_fd, f"{path[1:]}/{entry.name}", maps)
                if entry.is_dir(follow_symlinks=False):
                    found.append(f"{path}/{entry.name}")
    finally:
        os.close(folder_fd)
    return found


def _shift_one(name: str, folder_fd: int, path: str, maps: Maps) -> None:
    found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    try:
        uid, gid = maps.host_ids(found.st_uid, found.st_gid)
    except errdefs.FailedPrecondition as error:
        raise errdefs.FailedPrecondition(f"{path}: {error}", hint=error.hint) from error
    os.chown(name, uid, gid, dir_fd=folder_fd, follow_symlinks=False)
    if found.st_mode & _SPECIAL and not stat.S_ISLNK(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=folder_fd)


class Maps:
    """The id maps of a user namespace."""

    __slots__ = ("_gids", "_given", "_uids")

    def __init__(self, uids: Sequence[IdMap], gids: Sequence[IdMap]) -> None:
        self._given = {"uidmapping": uids, "gidmapping": gids}
        self._uids = sorted(uids, key=lambda entry: entry["containerID"])
        self._gids = sorted(gids, key=lambda entry: entry["containerID"])

    def host_ids(self, uid: int, gid: int) -> tuple[int, int]:
        """What an owner inside is outside; FailedPrecondition for one that isn't mapped."""
        return _host_id(self._uids, uid, "uid"), _host_id(self._gids, gid, "gid")

    def labels(self) -> dict[str, str]:
        """What tells a snapshotter of them."""
        return {
            f"containerd.io/snapshot/{name}": ",".join(
                f"{entry['containerID']}:{entry['hostID']}:{entry['size']}" for entry in ranges
            )
            for name, ranges in self._given.items()
        }

    def require_root(self) -> None:
        """FailedPrecondition unless root inside is somebody outside."""
        try:
            self.host_ids(0, 0)
        except errdefs.FailedPrecondition as error:
            raise errdefs.FailedPrecondition(
                "container UID/GID mapping entries of 0 are required but not found"
            ) from error

    def snapshot_name(self, parent: str) -> str:
        """What containerd's clients call the copy: by the two offsets where one range says all, else by a digest."""
        if len(self._uids) == len(self._gids) == 1 and not (
            self._uids[0]["containerID"] or self._gids[0]["containerID"]
        ):
            return f"{parent}-{self._uids[0]['hostID']}-{self._gids[0]['hostID']}"
        import json

        document = {"Parent": parent, "IDMap": {"UidMap": self._uids, "GidMap": self._gids}}
        return str(digests.of(json.dumps(document, separators=(",", ":")).encode()))


def _host_id(ranges: Sequence[IdMap], number: int, kind: str) -> int:
    for entry in ranges:
        offset = number - entry["containerID"]
        if 0 <= offset < entry["size"]:
            return entry["hostID"] + offset
    raise errdefs.FailedPrecondition(
        f"{kind} {number} of the image is in no range of the {kind} map: failed precondition",
        hint=f"make the range of --{kind}map longer",
    )
