"""Exits of everything the shim is a parent of: runtimes it ran, and container processes that were left to it.

A runtime's exit settles the future of who waits for it; any other goes to the service. The shim is a subreaper, so a
container's init becomes its child when the runtime that cloned it exits.

Man: wait(2), prctl(2) PR_SET_CHILD_SUBREAPER
"""

from __future__ import annotations

import os
from time import time_ns

from pycontainerd.shim.future import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Exit:
    """`status` is as a shell would say it: the exit code, or 128 plus the signal. `at_nanos` is since the epoch."""

    __slots__ = ("at_nanos", "pid", "status")

    def __init__(self, pid: int, status: int, at_nanos: int) -> None:
        self.pid = pid
        self.status = status
        self.at_nanos = at_nanos


def exit_status(wait_status: int) -> int:
    """containerd's number for a wait(2) status."""
    if os.WIFSIGNALED(wait_status):
        return 128 + os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)


class Reaper:
    """Reaps on SIGCHLD. `on_exit` gets every exit that nobody waits for."""

    def __init__(self, on_exit: Callable[[Exit], object]) -> None:
        self._on_exit = on_exit
        self._waiters: dict[int, Future[Exit]] = {}

    def wait(self, pid: int) -> Future[Exit]:
        """The exit of a child started in this turn of the loop: it can't have been reaped yet."""
        future: Future[Exit] = Future()
        self._waiters[pid] = future
        return future

    def reap(self) -> None:
        """Collects every child that has ended. One SIGCHLD may stand for many."""
        ended: list[Exit] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            ended.append(Exit(pid, exit_status(status), time_ns()))
        for exited in ended:
            self.settle(exited)

    def settle(self, exited: Exit) -> None:
        """An exit reaped here, or by the keeper whose child it was."""
        waiter = self._waiters.pop(exited.pid, None)
        if waiter is None:
            self._on_exit(exited)
        else:
            waiter.set(exited)

    def waits_for(self) -> set[int]:
        """Pids whose exits somebody waits for."""
        return set(self._waiters)
