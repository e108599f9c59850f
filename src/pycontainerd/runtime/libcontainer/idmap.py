"""Id-mapped bind mounts: each detached tree gets the mapping of a user namespace made (or joined) for it.

Loaded only where a config has such a mount. The kernel takes a mapping as a user namespace's descriptor; where the
config gives numbers, lib.linux.idmap makes one.

Spec:    runtime-spec config.md#posix-platform-mounts (uidMappings, gidMappings, idmap, ridmap)
Man:     mount_setattr(2), "ID-mapped mounts"
Runs in: parent, as the host's root
"""

from __future__ import annotations

import errno
import os

from pycontainerd.lib.linux import idmap
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.runtime.libcontainer.init.program import InitError
from pycontainerd.runtime.libcontainer.parent import id_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.libcontainer.config import Mount

    Key = tuple[tuple[int, int, int], ...]


def map_ids(mounts: list[Mount], trees: dict[int, int]) -> None:
    """Maps the ids of every id-mapped mount; `trees` holds their detached trees by index. InitError says which failed."""
    made: dict[tuple[Key, Key], int] = {}
    try:
        for at, entry in enumerate(mounts):
            if not entry.is_id_mapped:
                continue
            try:
                _map(entry, trees[at], made)
            except InitError as error:
                raise InitError(
                    f'error mounting "{entry.source}" to rootfs at "{entry.destination}": {error}'
                ) from error
    finally:
        for fd in made.values():
            os.close(fd)


def _map(entry: Mount, tree_fd: int, made: dict[tuple[Key, Key], int]) -> None:
    if entry.userns_path:
        userns_fd = _open(entry)
        try:
            _set(entry, tree_fd, userns_fd)
        finally:
            os.close(userns_fd)
        return
    key = (id_rows(entry.uid_mappings), id_rows(entry.gid_mappings))
    if key not in made:
        try:
            made[key] = idmap.user_namespace(*key)
        except OSError as error:
            raise InitError(
                f"failed to create userns for {entry.source} id-mapping: {go_error(error.errno or 0)}"
            ) from error
    _set(entry, tree_fd, made[key])


def _open(entry: Mount) -> int:
    try:
        return os.open(entry.userns_path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InitError(
            f"failed to open existing userns for {entry.source} id-mapping: "
            f"open {entry.userns_path}: {go_error(error.errno or 0)}"
        ) from error


def _set(entry: Mount, tree_fd: int, userns_fd: int) -> None:
    try:
        idmap.map_tree(tree_fd, userns_fd, recursive=bool(entry.options.id_map))
    except OSError as error:
        hint = " (maybe the filesystem used doesn't support idmap mounts on this kernel?)"
        raise InitError(
            f"failed to set MOUNT_ATTR_IDMAP on {entry.source}: {go_error(error.errno or 0)}"
            f"{hint if error.errno == errno.EINVAL else ''}"
        ) from error
