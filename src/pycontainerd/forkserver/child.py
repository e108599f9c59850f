"""What a forked shim undoes before it becomes one: everything the forkserver froze when it started, or an earlier shim set.

    environment, folder, umask, limits, nice, affinity, OOM score, cgroup, session keyring      from the request
    signals, descriptors, process group and session, trace, garbage collector                   as after exec

Namespaces are the forkserver's, which are the daemon's: nothing here changes those.

Man:     credentials(7), prlimit(2), sched_setaffinity(2), keyctl(2), close_range(2)
Runs in: the forked child, before the shim's own code
"""

from __future__ import annotations

import gc
import os
import sys

from pycontainerd.lib import spawn, trace
from pycontainerd.lib.linux import prctl
from pycontainerd.shim import bootstrap
from pycontainerd.shim import flags as command_line
from pycontainerd.shim.attendant import Attendant, unpack
from pycontainerd.shim.fifo_log import FifoLog
from pycontainerd.shim.serve import open_log, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    from pycontainerd.lib.linux.pages import Pages

    Request = dict[str, Any]

IDLE_TIMEOUT_S: Final = 60  # a forked shim that nobody gives a container by then leaves


def become_shim(
    request: Request,
    report: Callable[[int, bytes], None],
    link: _socket.socket,
    pages: Pages | None,
    *,
    is_renewed: bool,
) -> int:
    """Sets up the shim, listens, reports (pid, what `start` would print), and serves; gives the exit code.

    Runs in the first attendant of the shim; `link` leads to the keeper, whose pid is the shim's. Descriptors 0, 1, 2 and
    the two behind `report` and `link` are all that is left when this is called. `pages` are those that
    it will write to, None for one that was forked when it was asked for. is_renewed: it has been another shim's attendant before.
    """
    keeper_pid = os.getppid()
    for pid in (keeper_pid, os.getpid()):
        place(pid, request)
    adopt(request)
    program, *arguments = request["argv"]
    flags = command_line.parse(arguments)
    listener, answer = bootstrap.prepare(flags, bytes.fromhex(request["stdin"]), (keeper_pid, os.getpid()))
    if listener is None:
        report(0, answer)  # a group's shim is there already: it takes this container in
        return 0
    os.dup2(listener.detach(), bootstrap.LISTENER_FD)
    if os.environ.get(bootstrap.SCHED_CORE_ENV):
        prctl.create_core_scheduling_group()  # the keeper's, too: the two are one process group
    report(keeper_pid, answer)
    attendant = Attendant(link, request, pages=pages, is_renewed=is_renewed)
    code = serve(program, flags, idle_timeout_s=IDLE_TIMEOUT_S, attendant=attendant)
    if pages is not None:
        pages.record()
    return code


def go_on(link: _socket.socket, fds: Sequence[int]) -> int:
    """Serves a shim that its last attendant has left to the keeper, which this process is a copy of."""
    try:
        left = unpack(fds)
        request = left["request"]
        adopt(request)
        program, *arguments = request["argv"]
        return serve(program, command_line.parse(arguments), attendant=Attendant(link, request, left, fds))
    except Exception as e:  # noqa: BLE001 - the top of a process: what can be told is told, then it ends
        log_death(e)
        return 1


def log_death(error: Exception) -> None:
    """The last line in the log of a shim that ends by a bug."""
    FifoLog(open_log("log"), "info").error("the shim ends: " + type(error).__name__, error=error)


def place(pid: int, request: Request) -> None:
    """What the kernel lets one process set for another; children inherit it."""
    if request["cgroup"]:
        with open(f"{request['cgroup']}/cgroup.procs", "w", encoding="utf-8") as file:
            file.write(str(pid))
    _set_limits(pid, request["limits"])
    if os.getpriority(os.PRIO_PROCESS, pid) != request["nice"]:
        os.setpriority(os.PRIO_PROCESS, pid, request["nice"])
    os.sched_setaffinity(pid, request["affinity"])
    if request["oom_score_adj"] is not None:
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="utf-8") as file:
            file.write(str(request["oom_score_adj"]))


def adopt(request: Request) -> None:
    """What a process can only set for itself. In this order: what needs the old folder comes first."""
    if request["new_keyring"]:
        from pycontainerd.lib.linux import keyring

        keyring.join_session_keyring("")
    os.umask(request["umask"])
    _set_environment(request["env"])
    os.chdir(request["cwd"])
    sys.argv[:] = request["argv"]
    trace.after_fork()
    trace.start(os.environ)
    gc.enable()


def remember_limits() -> None:
    """What a child has from this process, so that only what a request wants otherwise is set."""
    _inherited.update(spawn.current_limits())


_inherited: dict[int, tuple[int, int]] = {}


def _set_limits(pid: int, limits: Sequence[Sequence[int]]) -> None:
    import resource

    for number, soft, hard in limits:
        if _inherited.get(number) != (soft, hard):
            resource.prlimit(pid, number, (soft, hard))


def _set_environment(wanted: dict[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
