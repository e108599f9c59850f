"""What PID 1 of a new container and one more process in it both do before they execute their program.

Runs in: init and exec's child, but for `needs_home`
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import procfs, pty
from pycontainerd.lib.linux.keyring import join_session_keyring, set_permissions
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.runtime.libcontainer import sync
from pycontainerd.runtime.libcontainer.init.program import InitError, Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.libcontainer.init.identity import Identity
    from pycontainerd.runtime.libcontainer.init.program import State

FIRST_EXTRA_FD = 3


def await_go(state: State) -> int:
    """Waits for the parent; our pid as it sees it."""
    kind, payload = sync.receive(state.sync_fd)
    if kind != sync.GO:
        raise Interrupted
    state.begin()
    return int(payload)


def tell_pid(identity: Identity, pid: int) -> None:
    """A seccomp agent is told of the process by its pid on the host."""
    if identity.filter is not None:
        identity.filter.pid = pid


def needs_home(env: list[str]) -> bool:
    """Whether the config leaves HOME to us."""
    return not any(item.startswith("HOME=") and len(item) > 5 for item in env)


def join_keyring(id: str) -> None:
    """A session keyring of the container's own; a kernel without keyrings has none to protect."""
    try:
        serial = join_session_keyring(f"_ses.{id}")
        set_permissions(serial, 0x3F1F0000)  # possessor everything, owner all but setattr; others nothing
    except OSError as error:
        if error.errno not in (38, 13, 122):  # ENOSYS, EACCES, EDQUOT: as runc, go on with the inherited one
            raise InitError(f"unable to join session keyring: {go_error(error.errno or 0)}") from None


def take_terminal(slave_fd: int, uid: int) -> None:
    """Makes the terminal the controlling one and descriptors 0, 1 and 2, owned by the user."""
    pty.set_controlling(slave_fd)
    for number in range(3):
        os.dup2(slave_fd, number)
    if slave_fd > 2:
        os.close(slave_fd)
    if uid:
        os.fchown(0, uid, -1)


def give_stdio(uid: int) -> None:
    """Pipes and terminals go to the user, who may want to reopen /dev/stdout; host files never do."""
    if not uid:
        return
    for number in range(3):
        found = os.fstat(number)
        kind = found.st_mode & 0o170000
        if found.st_uid == uid or kind not in (0o010000, 0o020000):
            continue
        if kind == 0o020000 and found.st_rdev == os.makedev(1, 3):
            continue  # the host's /dev/null stays root's
        try:
            os.fchown(number, uid, -1)
        except OSError as error:
            if error.errno not in (
                1,
                22,
                30,
            ):  # EPERM, EINVAL, EROFS: an id outside the map, a read-only file
                raise


def apply_apparmor(identity: Identity, proc_fd: int, beginning: str = "") -> None:
    """The profile of the next execve, if there is one: asked for before the parent is told that all is well."""
    profile = identity.process.apparmor_profile
    if not profile:
        return
    what = f"{beginning}apparmor failed to apply profile"
    own = os.readlink(b"self", dir_fd=proc_fd).decode()
    for name in ("attr/apparmor/exec", "attr/exec"):
        try:
            fd = procfs.open_beneath(proc_fd, f"{own}/{name}", os.O_WRONLY)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InitError(f"{what}: open /proc/self/{name}: {go_error(error.errno or 0)}") from None
        try:
            os.write(fd, b"exec " + os.fsencode(profile))
        except OSError as error:
            raise InitError(f"{what}: write /proc/self/{name}: {go_error(error.errno or 0)}") from None
        finally:
            os.close(fd)
        return
    raise InitError(f"{what}: open /proc/self/attr/exec: no such file or directory")
