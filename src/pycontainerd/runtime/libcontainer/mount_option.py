"""Mount options of config.json: words into flags, attributes, propagation and data.

Spec: runtime-spec config.md#linux-mount-options
Man:  mount(8), mount_setattr(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import mount as m

# word -> (clear, MS_ flag, MOUNT_ATTR_ bit or -1 where only the superblock knows it)
FLAGS = {
    "async": (True, m.MS_SYNCHRONOUS),
    "atime": (True, m.MS_NOATIME),
    "bind": (False, m.MS_BIND),
    "defaults": (False, 0),
    "dev": (True, m.MS_NODEV),
    "diratime": (True, m.MS_NODIRATIME),
    "dirsync": (False, m.MS_DIRSYNC),
    "exec": (True, m.MS_NOEXEC),
    "iversion": (False, m.MS_I_VERSION),
    "lazytime": (False, m.MS_LAZYTIME),
    "loud": (True, m.MS_SILENT),
    "mand": (False, m.MS_MANDLOCK),
    "noatime": (False, m.MS_NOATIME),
    "nodev": (False, m.MS_NODEV),
    "nodiratime": (False, m.MS_NODIRATIME),
    "noexec": (False, m.MS_NOEXEC),
    "noiversion": (True, m.MS_I_VERSION),
    "nolazytime": (True, m.MS_LAZYTIME),
    "nomand": (True, m.MS_MANDLOCK),
    "norelatime": (True, m.MS_RELATIME),
    "nostrictatime": (True, m.MS_STRICTATIME),
    "nosuid": (False, m.MS_NOSUID),
    "nosymfollow": (False, m.MS_NOSYMFOLLOW),
    "rbind": (False, m.MS_BIND | m.MS_REC),
    "relatime": (False, m.MS_RELATIME),
    "remount": (False, m.MS_REMOUNT),
    "ro": (False, m.MS_RDONLY),
    "rw": (True, m.MS_RDONLY),
    "silent": (False, m.MS_SILENT),
    "strictatime": (False, m.MS_STRICTATIME),
    "suid": (True, m.MS_NOSUID),
    "symfollow": (True, m.MS_NOSYMFOLLOW),
    "sync": (False, m.MS_SYNCHRONOUS),
}

PROPAGATION = {
    "private": m.MS_PRIVATE,
    "shared": m.MS_SHARED,
    "slave": m.MS_SLAVE,
    "unbindable": m.MS_UNBINDABLE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "rshared": m.MS_SHARED | m.MS_REC,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}

# word -> (clear, MOUNT_ATTR_ bits), set on the whole tree with mount_setattr(AT_RECURSIVE)
RECURSIVE = {
    "rro": (False, m.MOUNT_ATTR_RDONLY),
    "rrw": (True, m.MOUNT_ATTR_RDONLY),
    "rnosuid": (False, m.MOUNT_ATTR_NOSUID),
    "rsuid": (True, m.MOUNT_ATTR_NOSUID),
    "rnodev": (False, m.MOUNT_ATTR_NODEV),
    "rdev": (True, m.MOUNT_ATTR_NODEV),
    "rnoexec": (False, m.MOUNT_ATTR_NOEXEC),
    "rexec": (True, m.MOUNT_ATTR_NOEXEC),
    "rnodiratime": (False, m.MOUNT_ATTR_NODIRATIME),
    "rdiratime": (True, m.MOUNT_ATTR_NODIRATIME),
    "rrelatime": (False, m.MOUNT_ATTR_RELATIME),
    "rnorelatime": (True, m.MOUNT_ATTR_RELATIME),
    "rnoatime": (False, m.MOUNT_ATTR_NOATIME),
    "ratime": (True, m.MOUNT_ATTR_NOATIME),
    "rstrictatime": (False, m.MOUNT_ATTR_STRICTATIME),
    "rnostrictatime": (True, m.MOUNT_ATTR_STRICTATIME),
    "rnosymfollow": (False, m.MOUNT_ATTR_NOSYMFOLLOW),
    "rsymfollow": (True, m.MOUNT_ATTR_NOSYMFOLLOW),
}

EXTENSIONS = {"tmpcopyup": 1}

# word -> whether the mounts below it are mapped too
ID_MAPS = {"idmap": False, "ridmap": True}

_ATTRS = (
    (m.MS_RDONLY, m.MOUNT_ATTR_RDONLY),
    (m.MS_NOSUID, m.MOUNT_ATTR_NOSUID),
    (m.MS_NODEV, m.MOUNT_ATTR_NODEV),
    (m.MS_NOEXEC, m.MOUNT_ATTR_NOEXEC),
    (m.MS_NODIRATIME, m.MOUNT_ATTR_NODIRATIME),
    (m.MS_NOSYMFOLLOW, m.MOUNT_ATTR_NOSYMFOLLOW),
)
_ATIMES = (
    (m.MS_NOATIME, m.MOUNT_ATTR_NOATIME),
    (m.MS_STRICTATIME, m.MOUNT_ATTR_STRICTATIME),
    (m.MS_RELATIME, m.MOUNT_ATTR_RELATIME),
)
SUPERBLOCK_FLAGS = (
    m.MS_SYNCHRONOUS | m.MS_MANDLOCK | m.MS_DIRSYNC | m.MS_SILENT | m.MS_I_VERSION | m.MS_LAZYTIME
)


class MountOptions:
    """One mount's options, taken apart. `cleared` holds the MS_ flags that were turned off by name.

    `id_map` is None without idmap or ridmap, else whether it is the recursive one.
    """

    __slots__ = ("attr_clr", "attr_set", "cleared", "data", "extensions", "flags", "id_map", "propagation")

    def __init__(self) -> None:
        self.flags = 0
        self.cleared = 0
        self.propagation: list[int] = []
        self.attr_set = 0
        self.attr_clr = 0
        self.data: list[str] = []
        self.extensions = 0
        self.id_map: bool | None = None


def parse_options(options: list[str]) -> MountOptions:
    """Words in their order: a later one undoes an earlier; an unknown one is data for the filesystem."""
    found = MountOptions()
    for word in options:
        if word in FLAGS:
            clear, flag = FLAGS[word]
            if clear:
                found.flags &= ~flag
                found.cleared |= flag
            else:
                found.flags |= flag
                found.cleared &= ~flag
        elif word in PROPAGATION:
            found.propagation.append(PROPAGATION[word])
        elif word in RECURSIVE:
            _apply_recursive(found, *RECURSIVE[word])
        elif word in EXTENSIONS:
            found.extensions |= EXTENSIONS[word]
        elif word in ID_MAPS:
            found.id_map = ID_MAPS[word]
        else:
            found.data.append(word)
    return found


def _apply_recursive(found: MountOptions, clear: bool, attr: int) -> None:
    is_atime = attr == 0 or attr & m.MOUNT_ATTR__ATIME
    if clear:
        found.attr_clr |= m.MOUNT_ATTR__ATIME if is_atime else attr
        found.attr_set &= ~attr
        return
    if is_atime:
        found.attr_clr |= m.MOUNT_ATTR__ATIME
        found.attr_set &= ~m.MOUNT_ATTR__ATIME
    else:
        found.attr_clr &= ~attr
    found.attr_set |= attr


def mount_attrs(flags: int) -> int:
    """MS_ flags as MOUNT_ATTR_ bits for fsmount(2) and mount_setattr(2)."""
    attr = sum(bit for flag, bit in _ATTRS if flags & flag)
    for flag, bit in _ATIMES:
        if flags & flag:
            return attr | bit
    return attr


def setattr_pair(flags: int, cleared: int) -> tuple[int, int]:
    """(attr_set, attr_clr) that put MS_ flags on a mount and take the named ones off."""
    attr_set = mount_attrs(flags)
    attr_clr = mount_attrs(cleared) & ~attr_set & ~m.MOUNT_ATTR__ATIME
    if flags & (m.MS_NOATIME | m.MS_STRICTATIME | m.MS_RELATIME):
        attr_clr |= m.MOUNT_ATTR__ATIME
    return attr_set, attr_clr
