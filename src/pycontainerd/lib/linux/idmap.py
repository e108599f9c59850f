"""Id maps: user namespaces that hold a mapping and nobody, and mounts whose files are shown through one.

The kernel takes the mapping of a mount as a user namespace's descriptor. The process that such a namespace is made
with is libc's sleep(3), called by clone(2) itself: nothing of Python runs in it, so that a program with threads may
make one, too, and it ends by itself should its maker be killed.

Man:     user_namespaces(7), mount_setattr(2) "ID-mapped mounts", clone(2)
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import ctypes, mount
from pycontainerd.lib.linux.libc import libc, prototype
from pycontainerd.lib.linux.namespaces import CLONE_NEWUSER

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    Row = tuple[int, int, int]  # id inside, id outside, how many from there
else:
    import _signal as signal  # the signal module costs 3 ms: it makes enums

_STACK_BYTES = 64 << 10  # the host of a few C frames
_LIFE_S = 10
_WALL = 0x40000000  # waitpid(2): a child without an exit signal is waited for by name only
_ALL_SIGNALS = frozenset(range(1, 65)) - {32, 33}  # glibc keeps those two for itself

_clone = prototype("clone", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_sleep = ctypes.c_void_p.from_buffer(libc["sleep"])


def user_namespace(uids: Sequence[Row], gids: Sequence[Row]) -> int:
    """A descriptor, the caller's, of a new user namespace with these maps and nobody in it. OSError for maps that can't be."""
    stack = ctypes.create_string_buffer(_STACK_BYTES)
    top = (ctypes.addressof(stack) + _STACK_BYTES) & ~15
    # The child must not run our handlers; nobody is told of its end by a signal.
    before = signal.pthread_sigmask(signal.SIG_SETMASK, _ALL_SIGNALS)
    try:
        pid = _clone(_sleep, top, CLONE_NEWUSER, _LIFE_S)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        write_maps(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, _WALL)


def write_maps(pid: int, uids: Sequence[Row], gids: Sequence[Row]) -> None:
    """The id maps of a process that has just made its user namespace. OSError; newuidmap(1) where only that may."""
    if os.geteuid() != 0:
        # Without CAP_SETGID in the parent namespace the kernel wants setgroups(2) given up first.
        _write(f"/proc/{pid}/setgroups", "deny")
    for name, helper, rows in (
        ("uid_map", "/usr/bin/newuidmap", uids),
        ("gid_map", "/usr/bin/newgidmap", gids),
    ):
        lines = [f"{inside} {outside} {size}" for inside, outside, size in rows]
        try:
            _write(f"/proc/{pid}/{name}", "\n".join(lines) + "\n")
        except PermissionError:
            if os.geteuid() == 0 or not os.path.exists(helper):
                raise
            argv = [helper, str(pid), *(word for line in lines for word in line.split())]
            child = os.posix_spawn(helper, argv, {})
            if os.waitpid(child, 0)[1] != 0:
                raise


def map_tree(
    tree_fd: int, userns_fd: int, *, recursive: bool = False, attr_set: int = 0, propagation: int = 0
) -> None:
    """Shows a detached mount (or tree of them) through a user namespace's maps. OSError: EINVAL where it can't be."""
    mount.mount_setattr(
        tree_fd,
        attr_set=mount.MOUNT_ATTR_IDMAP | attr_set,
        propagation=propagation,
        userns_fd=userns_fd,
        recursive=recursive,
    )


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
