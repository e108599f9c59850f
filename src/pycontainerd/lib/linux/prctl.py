"""prctl(2), one function per option that this project sets.

Man:     prctl(2)
"""

from __future__ import annotations

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.libc import prototype

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_SCHED_CORE = 62
PR_SCHED_CORE_CREATE = 1
_PIDTYPE_PGID = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_prctl = prototype("prctl", ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2) with integer arguments."""
    return int(_prctl(option, arg2, arg3, arg4, arg5))


def set_dumpable(on: bool) -> None:
    """Off: no core, no ptrace, /proc/PID belongs to root. execve sets it again."""
    prctl(PR_SET_DUMPABLE, int(on))


def set_child_subreaper(on: bool) -> None:
    """Orphaned descendants become children of this process."""
    prctl(PR_SET_CHILD_SUBREAPER, int(on))


def set_no_new_privs() -> None:
    """execve grants no privileges from now on; there is no way back."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_pdeathsig(signal_number: int) -> None:
    """The signal this process gets when the thread that made it ends."""
    prctl(PR_SET_PDEATHSIG, signal_number)


def create_core_scheduling_group() -> None:
    """This process group, and what it forks, shares CPU cores with nobody else (core-scheduling.rst)."""
    prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, _PIDTYPE_PGID, 0)
