"""The prepared list: everything init does from pivot_root to execve, as operations computed before.

Python is the runtime, so after pivot_root every import, codec or lookup would load what the image holds. Hence nothing
is decided there: paths, argv, env and masks are bytes and numbers by then, and OPERATIONS is the allow-list of what can
happen. An operation is (name, arguments, what): `what` begins the message when it fails.

Man:     pivot_root(2), capset(2), seccomp(2), execve(2)
Runs in: init (child side), from pivot_root on
"""

from __future__ import annotations

import os
from time import monotonic_ns

from pycontainerd.lib.linux import ctypes, prctl
from pycontainerd.lib.linux.capabilities import CapData, CapHeader
from pycontainerd.lib.linux.constants import number
from pycontainerd.lib.linux.fd import close_range
from pycontainerd.lib.linux.libc import go_error, libc, prototype, syscall
from pycontainerd.lib.linux.mount import mount, mount_setattr, pivot_root, umount2
from pycontainerd.lib.linux.namespaces import CLONE_NEWNS, setns
from pycontainerd.runtime.libcontainer import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any

    Operation = tuple[str, tuple[Any, ...], str]
else:
    import _signal as signal  # the signal module costs 3 ms: it makes enums

_GETCWD = {"x86_64": 79, "aarch64": 17}[os.uname().machine]
_PATH_MAX = 4096
_cwd_buffer = ctypes.create_string_buffer(_PATH_MAX)

_getcwd = syscall(_GETCWD, "getcwd", ctypes.c_char_p, ctypes.c_size_t)
_capset = syscall(number("capset"), "capset", ctypes.POINTER(CapHeader), ctypes.POINTER(CapData))
_setgroups = syscall(number("setgroups"), "setgroups", ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint32))
_setresgid = syscall(number("setresgid"), "setresgid", ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32)
_setresuid = syscall(number("setresuid"), "setresuid", ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32)
_seccomp = syscall(number("seccomp"), "seccomp", ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)
_execve = prototype(
    "execve", ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_char_p)
)

_rt_sigaction = syscall(
    number("rt_sigaction"), "rt_sigaction", ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
)
_DEFAULT_ACTION = bytes(32)  # struct sigaction of the kernel: SIG_DFL, no flags, nothing blocked
_LIBC_SIGNALS = (32, 33)  # posix_spawn(3) leaves them ignored, and sigaction(3) refuses them
_libc_signal = libc["signal"]
_libc_signal.argtypes, _libc_signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
_EXIT_ADDRESS = ctypes.c_void_p.from_buffer(libc["_exit"]).value

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8


class InitError(Exception):
    """A step of init failed; the text is what a person reads."""


class Interrupted(Exception):
    """The parent is gone: init leaves without a word."""


class State:
    """What operations hand on to later ones: the executable that the PATH search found, the seccomp listener, and how
    long each has taken, for READY."""

    __slots__ = ("_since", "argv", "envp", "executable", "listener_fd", "steps", "sync_fd")

    def __init__(self, sync_fd: int) -> None:
        self.sync_fd = sync_fd
        self.steps: list[sync.Step] = []
        self._since = monotonic_ns()
        self.executable = b""
        self.argv: Any = None
        self.envp: Any = None
        self.listener_fd = -1

    def begin(self) -> None:
        """The next step starts now: what came before was waiting for somebody else."""
        self._since = monotonic_ns()

    def done(self, step: str) -> None:
        """A step ends here; it began where the one before ended."""
        now = monotonic_ns()
        self.steps.append((step, self._since, now - self._since))
        self._since = now


def c_strings(values: list[bytes]) -> Any:
    """A NULL-terminated char *[] that owns its strings."""
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def _pivot(state: State, new_root_fd: int, mntns_fd: int) -> None:
    # Joining one's own mount namespace leads to its root. In a chroot, pivot_root would swap the chroot's root only:
    # the host's would stay the namespace's, and whoever joins it later (exec, nsenter) would stand there.
    setns(mntns_fd, CLONE_NEWNS)
    old_root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(new_root_fd)
    pivot_root(b".", b".")
    # The old root now lies on the new one at "/": leave it by its descriptor, and detach it without the
    # unmount reaching the host, of whose mounts these are peers or slaves.
    os.fchdir(old_root_fd)
    mount(b"", b".", None, flags=(1 << 19) | (1 << 14))  # MS_SLAVE | MS_REC
    umount2(b".", flags=2)  # MNT_DETACH
    os.chdir(b"/")


def _move_root(state: State, new_root_fd: int, full_mounts: tuple[bytes, ...]) -> None:
    # An unmasked procfs or sysfs left behind would allow new mounts of them inside a user namespace.
    for path in full_mounts:
        mount(b"", path, None, flags=(1 << 19) | (1 << 14))
        try:
            umount2(path, flags=2)
        except OSError as error:
            if error.errno not in (22, 1):  # EINVAL: locked; EPERM: not ours. Cover it then.
                raise
            mount(b"tmpfs", path, b"tmpfs")
    os.fchdir(new_root_fd)
    mount(b".", b"/", None, flags=1 << 13)  # MS_MOVE
    os.chroot(b".")
    os.chdir(b"/")


def _mount_flags(state: State, path: bytes, flags: int) -> None:
    mount(b"", path, None, flags=flags)


def _root_readonly(state: State, root_fd: int) -> None:
    mount_setattr(root_fd, attr_set=1)


def _umask(state: State, mask: int) -> None:
    os.umask(mask)


def _write(state: State, fd: int, data: bytes) -> None:
    os.write(fd, data)


def _prctl(state: State, option: int, arg2: int, arg3: int) -> None:
    prctl.prctl(option, arg2, arg3)


def _drop_bounding(state: State, numbers: tuple[int, ...]) -> None:
    for item in numbers:
        prctl.prctl(prctl.PR_CAPBSET_DROP, item)


def _groups(state: State, count: int, gids: Any) -> None:
    _setgroups(count, gids)


def _gid(state: State, gid: int) -> None:
    _setresgid(gid, gid, gid)


def _uid(state: State, uid: int) -> None:
    _setresuid(uid, uid, uid)


def _capabilities(state: State, header: Any, data: Any) -> None:
    _capset(header, data)


def _ambient(state: State, numbers: tuple[int, ...]) -> None:
    prctl.prctl(prctl.PR_CAP_AMBIENT, prctl.PR_CAP_AMBIENT_CLEAR_ALL)
    for item in numbers:
        prctl.prctl(prctl.PR_CAP_AMBIENT, prctl.PR_CAP_AMBIENT_RAISE, item)


def _chdir_early(state: State, cwd: bytes) -> None:
    try:
        os.chdir(cwd)
    except PermissionError:
        return  # the user may be let in where root, without its capabilities, is not: tried again later


def _chdir(state: State, cwd: bytes) -> None:
    os.chdir(cwd)


def _check_cwd(state: State) -> None:
    # CVE-2024-21626: a cwd that came from a leaked descriptor has no path from this root.
    try:
        length = _getcwd(_cwd_buffer, _PATH_MAX)
    except FileNotFoundError:
        length = 0
    if length <= 0 or _cwd_buffer.raw[:1] != b"/":
        raise InitError(
            "current working directory is outside of container mount namespace root -- possible container breakout"
        )


def _find_executable(path: bytes) -> int:
    """errno of why it can't be run, 0 when it can, by mode bits as Go's LookPath judges."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.errno or 5
    if mode & 0o170000 == 0o040000 or not mode & 0o111:
        return 13
    return 0


def _search_path(state: State, name: bytes, directories: tuple[bytes, ...], shown: str) -> None:
    if b"/" in name:
        code = _find_executable(name)
        if code == 13:
            raise InitError(f"exec: {shown}: permission denied")
        if code:
            raise InitError(f"exec: {shown}: stat {shown[1:-1]}: {go_error(code)}")
        state.executable = name
        return
    for directory in directories:
        candidate = directory + b"/" + name
        if _find_executable(candidate) == 0:
            state.executable = candidate
            return
    raise InitError(f"exec: {shown}: executable file not found in $PATH")


def _ready(state: State) -> None:
    sync.send(state.sync_fd, sync.READY, sync.pack_steps(state.steps))


def _await_go(state: State) -> None:
    kind, _payload = sync.receive(state.sync_fd)
    if kind != sync.GO:
        raise Interrupted
    # From here on the parent is done: what fails now is said on stderr.
    os.close(state.sync_fd)
    state.sync_fd = -1


def _open_fifo(state: State, proc_fd: int, path: bytes) -> None:
    # Blocks until `start` opens the other end.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_fd if proc_fd >= 0 else None)
    os.write(fd, b"0")
    os.close(fd)


def _hook(state: State, run: Callable[[], None]) -> None:
    run()


def _close_ranges(state: State, ranges: tuple[tuple[int, int], ...]) -> None:
    for first, last in ranges:
        close_range(first, last)


def _leave_on_signals(state: State, numbers: tuple[int, ...]) -> None:
    # Not Python handlers, which run only between bytecodes: _exit itself, called by the kernel while open(2) waits.
    # PID 1 of a pid namespace would otherwise ignore them.
    for item in numbers:
        _libc_signal(item, _EXIT_ADDRESS)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _reset_signals(state: State, numbers: tuple[int, ...]) -> None:
    for item in numbers:
        signal.signal(item, signal.SIG_DFL)
    for item in _LIBC_SIGNALS:
        _rt_sigaction(item, _DEFAULT_ACTION, None, 8)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _load_seccomp(state: State, flags: int, program: Any) -> None:
    result = _seccomp(SECCOMP_SET_MODE_FILTER, flags, program)
    if flags & SECCOMP_FILTER_FLAG_NEW_LISTENER:
        state.listener_fd = result


def _send_listener(state: State, sock: Any, payload: bytes) -> None:
    sock.sendmsg([payload], [(1, 1, state.listener_fd.to_bytes(4, "little"))])
    os.close(state.listener_fd)


def _exec(state: State, argv: Any, envp: Any) -> None:
    _execve(state.executable, argv, envp)


OPERATIONS: dict[str, Callable[..., None]] = {
    "pivot_root": _pivot,
    "move_root": _move_root,
    "mount_flags": _mount_flags,
    "root_readonly": _root_readonly,
    "umask": _umask,
    "write": _write,
    "prctl": _prctl,
    "drop_bounding": _drop_bounding,
    "setgroups": _groups,
    "setgid": _gid,
    "setuid": _uid,
    "capset": _capabilities,
    "ambient": _ambient,
    "chdir_early": _chdir_early,
    "chdir": _chdir,
    "check_cwd": _check_cwd,
    "search_path": _search_path,
    "ready": _ready,
    "await_go": _await_go,
    "open_fifo": _open_fifo,
    "hook": _hook,
    "close_ranges": _close_ranges,
    "leave_on_signals": _leave_on_signals,
    "reset_signals": _reset_signals,
    "load_seccomp": _load_seccomp,
    "send_listener": _send_listener,
    "execve": _exec,
}


def run(program: list[Operation], state: State) -> None:
    """Runs the list; it comes back only by an exception (InitError, or Interrupted when the parent is gone)."""
    for name, arguments, what in program:
        try:
            OPERATIONS[name](state, *arguments)
            state.done(name)
        except OSError as error:
            if name == "execve":
                shown = state.executable.decode("utf-8", "replace")
                raise InitError(f"exec {shown}: {go_error(error.errno or 0)}") from None
            raise InitError(f"{what}: {go_error(error.errno or 0)}") from None


def fail(state: State, text: str) -> None:
    """Says why init ends: to the parent while it listens, else on stderr as runc does."""
    raw = text.encode("utf-8", "replace")
    if state.sync_fd >= 0:
        sync.send(state.sync_fd, sync.ERROR, raw)
    else:
        os.write(2, raw + b"\n")
