"""What a forked shim undoes before it becomes one: everything the forkserver froze when it started.

    environment, folder, umask, limits, nice, affinity, OOM score, cgroup, session keyring      from the request
    signals, descriptors, process group and session, trace, garbage collector                   as after exec

Namespaces are the forkserver's, which are the daemon's: nothing here changes those.

Man:     credentials(7), prlimit(2), sched_setaffinity(2), keyctl(2), close_range(2)
Runs in: the forked child, before the shim's own code
"""

from __future__ import annotations

import _signal
import gc
import os
import sys

from pycontainerd.lib import trace
from pycontainerd.shim import bootstrap
from pycontainerd.shim import flags as command_line
from pycontainerd.shim.serve import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    Request = dict[str, Any]

IDLE_TIMEOUT_S: Final = 60  # a forked shim that nobody gives a container by then leaves


def become_shim(request: Request, stdio: Sequence[int], report: Callable[[int, bytes], None]) -> int:
    """Sets up the process, listens, reports (pid, what `start` would print), and serves; gives the exit code.

    Descriptors 0, 1, 2 and the one behind `report` are all that is left when this is called.
    """
    reset_state(request)
    program, *arguments = request["argv"]
    flags = command_line.parse(arguments)
    listener, answer = bootstrap.prepare(flags, bytes.fromhex(request["stdin"]))
    if listener is None:
        report(0, answer)  # a group's shim is there already: it takes this container in
        return 0
    os.dup2(listener.detach(), bootstrap.LISTENER_FD)
    report(os.getpid(), answer)
    return serve(program, flags, idle_timeout_s=IDLE_TIMEOUT_S)


def reset_state(request: Request) -> None:
    """In this order: what needs privileges or the old folder comes first."""
    if request["new_keyring"]:
        from pycontainerd.lib.linux import keyring

        keyring.join_session_keyring("")
    if request["cgroup"]:
        with open(f"{request['cgroup']}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    _set_limits(request["limits"])
    os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
    os.sched_setaffinity(0, request["affinity"])
    if request["oom_score_adj"] is not None:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(request["oom_score_adj"]))
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv[:] = request["argv"]
    trace.after_fork()
    trace.start(os.environ)
    gc.enable()


def _set_limits(limits: Sequence[Sequence[int]]) -> None:
    import resource

    for number, soft, hard in limits:
        resource.setrlimit(number, (soft, hard))


def reset_signals() -> None:
    """As after exec; the one part that doesn't depend on the request, so that it can be done before there is one."""
    for number in range(1, _signal.NSIG):
        if number in (_signal.SIGKILL, _signal.SIGSTOP, 32, 33):  # the C library keeps 32 and 33
            continue
        _signal.signal(number, _signal.SIG_DFL)
    # As every Python program starts: writing to a pipe nobody reads is an error, not a death.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
