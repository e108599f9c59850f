"""Protects the interpreter's file from the containers it starts (CVE-2019-5736).

`/proc/self/exe` of a container's init is this interpreter until execve, and a container may keep a handle on it and
reopen it for writing. So programs that start container processes run from a copy that can't be reopened so: a read-only
bind mount of the same file under /run/pycontainerd/interpreter (made by the first run as root; the launchers exec it when
it is there, which costs nothing), or else a sealed memfd (50 ms; rootless, or where mounting is refused).

    PYCONTAINERD_INTERPRETER   another folder for the mounts (tests)

Man:     mount_setattr(2), open_tree(2), move_mount(2), memfd_create(2), fcntl_sealing(2)
Runs in: pyrunc create|run|exec, the forkserver and the daemon, before any container process exists
"""

from __future__ import annotations

import os
import sys

from pycontainerd.lib import errdefs, launcher

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final, NoReturn

DIR_ENV: Final = "PYCONTAINERD_INTERPRETER"
DEFAULT_DIR: Final = "/run/pycontainerd/interpreter"
MARK_ENV: Final = (
    "_PYCONTAINERD_PROTECTED"  # set across our own re-exec, so that a failure can't become a loop
)

_F_GET_SEALS: Final = 1034
_F_SEAL_WRITE: Final = 8
_ST_RDONLY: Final = 1


def is_protected() -> bool:
    """Whether this process's executable can't be reopened for writing: judged by the open file, not by its path."""
    exe_fd = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.readlink("/proc/self/exe").startswith("/memfd:"):
            import fcntl

            return bool(fcntl.fcntl(exe_fd, _F_GET_SEALS) & _F_SEAL_WRITE)
        if not os.fstatvfs(exe_fd).f_flag & _ST_RDONLY or os.fstat(exe_fd).st_uid != 0:
            return False
        return not _is_stale(exe_fd)
    finally:
        os.close(exe_fd)


def require_protected(argv: list[str]) -> None:
    """Returns when the interpreter is protected; else runs the program `argv` anew on one that is.

    argv: the program's own arguments, argv[0] as it was called (what `main` got). Raises PermissionDenied when neither
    way works. The re-exec keeps pid, cwd, environment and inheritable fds.
    """
    mark = os.environ.pop(MARK_ENV, "")
    if is_protected():
        return
    if not launcher.self_path():
        raise errdefs.PermissionDenied(
            "the Python interpreter is writable through /proc/self/exe and can't be replaced in an embedding program",
            hint="start the embedding program from a launcher, or run it on a read-only file system",
        )
    if mark:
        raise errdefs.PermissionDenied(
            f"the Python interpreter is still writable through /proc/self/exe after a re-exec by {mark}",
            hint="is /run mounted in this mount namespace? see SECURITY.md, protected interpreter",
        )
    safe = _mounted()
    if safe:
        _re_exec(safe, safe, argv, "mount")
    _re_exec_sealed(argv)


def real_path() -> str:
    """The interpreter file that the launchers would choose: this one's path without the mounts' folder."""
    root = _root()
    executable = sys.executable
    return executable[len(root) :] if executable.startswith(root + "/") else executable


def _root() -> str:
    return os.environ.get(DIR_ENV) or DEFAULT_DIR


def _is_stale(exe_fd: int) -> bool:
    """Whether the interpreter was upgraded since its mount was made: then its library no longer fits it."""
    try:
        now = os.stat(real_path())
    except FileNotFoundError:
        return False
    mine = os.fstat(exe_fd)
    return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino)


def _mounted() -> str:
    """The path of the read-only mount of this interpreter, made when it isn't there; empty when it can't be."""
    if os.geteuid() != 0:
        return ""
    source = real_path()
    target = _root() + source
    try:
        os.makedirs(os.path.dirname(target), 0o711, exist_ok=True)
        lock_fd = os.open(_root(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""  # a read-only /run: the sealed copy is the way left
    try:
        import fcntl

        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        if os.fstat(lock_fd).st_uid != 0:
            return ""
        return target if _is_mounted(source, target) or _mount(source, target) else ""
    finally:
        os.close(lock_fd)


def _is_mounted(source: str, target: str) -> bool:
    """Whether `target` is a read-only mount of the file that `source` is now; a stale one is detached."""
    try:
        wanted, have = os.stat(source), os.stat(target)
    except FileNotFoundError:
        return False
    if (wanted.st_dev, wanted.st_ino) == (have.st_dev, have.st_ino):
        return bool(os.statvfs(target).f_flag & _ST_RDONLY)
    if have.st_size:
        from pycontainerd.lib.linux import bindmount

        bindmount.detach(target)
    return False


def _mount(source: str, target: str) -> bool:
    from pycontainerd.lib.linux import bindmount

    # Not executable by itself: a launcher must not take the bare mount point for an interpreter.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    try:
        bindmount.bind_read_only(os.path.realpath(source), target)
    except OSError:
        return False
    return True


def _re_exec(file: str | int, argv0: str, argv: list[str], how: str) -> NoReturn:
    args = [argv0, "-IS", launcher.self_path(), *argv]
    os.execve(file, args, {**os.environ, MARK_ENV: how})  # noqa: S606 - no shell, by design


def _re_exec_sealed(argv: list[str]) -> NoReturn:
    """Runs the program from a sealed copy of the interpreter in memory."""
    import fcntl

    source_fd = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    memory_fd = os.memfd_create("python3", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    left = os.fstat(source_fd).st_size
    while left:
        left -= os.sendfile(memory_fd, source_fd, None, left)
    # SEAL | SHRINK | GROW | WRITE
    fcntl.fcntl(memory_fd, 1033, 1 | 2 | 4 | _F_SEAL_WRITE)
    os.fchmod(memory_fd, 0o755)
    # argv[0] is where Python looks for its library, so it stays the real path.
    _re_exec(memory_fd, os.path.realpath(real_path()), argv, "sealed copy")
