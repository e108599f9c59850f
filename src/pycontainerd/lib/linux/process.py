"""Making and knowing processes: clone3 for a child that goes on in Python, pidfds, start times.

The child of clone3() is a copy of this single-threaded process in which no at-fork hook has run: it may use plain
system calls and code that is already imported, and it leaves only by execve or os._exit.

Man:     clone(2), pidfd_open(2), proc_pid_stat(5)
"""

from __future__ import annotations

import errno
import gc
import os

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.constants import number
from pycontainerd.lib.linux.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
else:
    import _signal as signal  # the signal module costs 3 ms: it makes enums

CLONE_PARENT = 0x8000
CLONE_CLEAR_SIGHAND = 0x100000000
CLONE_INTO_CGROUP = 0x200000000

_EVERY_CPU = b"\xff" * (8192 // 8)  # CONFIG_NR_CPUS at its largest: the kernel cuts it to what there is
_sched_setaffinity = syscall(
    number("sched_setaffinity"), "sched_setaffinity", ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
)

EXIT_BUG = 70  # the child's function raised: it must end itself


class CloneArgs(ctypes.Structure):
    """struct clone_args of linux/sched.h, version 2 (88 bytes)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


# PyDLL keeps the GIL across the call: in the child there is no other thread that could ever hand it back.
_clone3 = ctypes.PyDLL(None, use_errno=True)["syscall"]
_clone3.restype = ctypes.c_long
_clone3.argtypes = (ctypes.c_long, ctypes.POINTER(CloneArgs), ctypes.c_size_t)
_CLONE3 = number("clone3")
_ALL_SIGNALS = frozenset(range(1, 65)) - {32, 33}  # glibc keeps those two for itself


def clone3(child: Callable[[], None], *, flags: int = 0, parent: bool = False, cgroup_fd: int = -1) -> int:
    """Runs `child` in a new process and returns its pid; OSError when the kernel refuses.

    parent=True makes it a sibling (CLONE_PARENT), so the caller may leave. cgroup_fd >= 0 places it in that cgroup v2
    folder from its first instruction. Every signal is blocked in the child: it clears the mask itself before execve.
    """
    args = CloneArgs()
    args.flags = flags | CLONE_CLEAR_SIGHAND
    if parent:
        args.flags |= CLONE_PARENT  # clone3 then wants exit_signal 0 and takes the caller's own
    else:
        args.exit_signal = signal.SIGCHLD
    if cgroup_fd >= 0:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup_fd
    # Before clone3: a signal that comes while the child still has our handlers would run them there.
    old_mask = signal.pthread_sigmask(signal.SIG_SETMASK, _ALL_SIGNALS)
    try:
        pid = _clone3(_CLONE3, args, ctypes.sizeof(args))
        if pid == 0:
            _run_child(child)
        if pid < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"clone3: {os.strerror(code)}")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    return int(pid)


def _run_child(child: Callable[[], None]) -> None:
    try:
        gc.disable()  # a finaliser must not run twice
        signal.set_wakeup_fd(-1)
        child()
    except BaseException as error:  # noqa: BLE001 - nothing may run on in a copied process
        text = f"child process: {type(error).__name__}: {error}\n"
        os.write(2, text.encode("utf-8", "replace"))
    finally:
        os._exit(EXIT_BUG)


def reset_signals() -> None:
    """Handlers and mask as after exec, in a child of clone3() that goes on in Python."""
    for each in _ALL_SIGNALS - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(each, signal.SIG_DFL)
    # As every Python program starts: writing to a pipe nobody reads is an error, not a death.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat in clock ticks since boot; ProcessLookupError when there is no such process."""
    return stat(pid)[1]


def stat(pid: int) -> tuple[str, int]:
    """(state letter, start time) of a process; ProcessLookupError when it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except FileNotFoundError:
        raise ProcessLookupError(3, "no such process") from None
    try:
        data = os.read(fd, 4096)
    finally:
        os.close(fd)
    # The name may hold spaces and parentheses: fields count from its last `)`.
    fields = data[data.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[19])


def reset_affinity(pid: int) -> None:
    """Lets a process run on every CPU of its cpuset, whatever its maker was bound to; what can't be changed stays."""
    try:
        _sched_setaffinity(pid, len(_EVERY_CPU), _EVERY_CPU)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):  # another user's; a cpuset without any CPU
            raise


def exit_code(status: int) -> int:
    """A wait status as a shell's: 128 + signal when killed."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
