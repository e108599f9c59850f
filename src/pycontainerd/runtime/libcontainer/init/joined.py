"""One more process in a running container: from its clone into the namespaces to execve(2).

Runs in: exec's child
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import prctl, procfs
from pycontainerd.lib.linux.fd import close_range, gaps
from pycontainerd.lib.linux.namespaces import setns
from pycontainerd.lib.linux.process import clone3
from pycontainerd.runtime.libcontainer import sync, user
from pycontainerd.runtime.libcontainer.init import identity as ident
from pycontainerd.runtime.libcontainer.init import program
from pycontainerd.runtime.libcontainer.init.common import (
    FIRST_EXTRA_FD,
    apply_apparmor,
    await_go,
    give_stdio,
    join_keyring,
    take_terminal,
    tell_pid,
)
from pycontainerd.runtime.libcontainer.init.program import InitError, Interrupted, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainerd.runtime.libcontainer.init.identity import Identity
    from pycontainerd.runtime.libcontainer.init.program import Operation


class JoinPlan:
    """Everything the child is told; descriptors are the parent's numbers."""

    __slots__ = (
        "first_flags",
        "home",
        "identity",
        "in_user_namespace",
        "keyring",
        "namespace_flags",
        "pidfd",
        "preserve_fds",
        "root_fd",
        "scheduling",
        "slave_fd",
        "stdio",
        "sync_fd",
    )

    def __init__(self, identity: Identity, *, pidfd: int, first_flags: int, namespace_flags: int) -> None:
        self.identity = identity
        self.pidfd = pidfd
        self.first_flags = first_flags  # of the namespaces that the process is born in
        self.namespace_flags = namespace_flags  # of those that it enters itself
        self.root_fd = (
            -1
        )  # the container's root, for the first child, where the home directory is yet to be found
        self.sync_fd = self.slave_fd = -1
        self.preserve_fds = 0
        self.stdio: tuple[int, int, int] = (0, 1, 2)
        self.keyring = ""
        self.home = "/"
        self.scheduling: list[Operation] = []
        self.in_user_namespace = False

    def close_others(self, more: tuple[int, ...] = ()) -> None:
        """Closes every descriptor that neither the process nor what comes before it needs."""
        keep = {self.sync_fd, self.pidfd, self.slave_fd, *self.stdio, *ident.kept_fds(self.identity), *more}
        keep.update(range(FIRST_EXTRA_FD, FIRST_EXTRA_FD + self.preserve_fds))
        for first, last in gaps(keep - {-1}):
            close_range(first, last)


def run_outer(plan: JoinPlan, inner: Callable[[], None], cgroup_fd: int, entries: list[int]) -> None:
    """The first of two children, which the container can't see: from it the second is born where it belongs.

    A container that may trace looks at every process in its pid namespace. What it finds must have the container's root
    from its first moment on, and no descriptor by which a path leads out (CVE-2016-9962).
    """
    try:
        prctl.set_dumpable(False)
        plan.close_others((cgroup_fd, plan.root_fd, *entries))
        if plan.root_fd >= 0:
            plan.home = user.find_home(plan.root_fd, plan.identity.process.uid)
            os.close(plan.root_fd)
        setns(plan.pidfd, plan.first_flags)
        pid = clone3(inner, parent=True, cgroup_fd=cgroup_fd)
        sync.send(plan.sync_fd, sync.PID, str(pid).encode())
    except OSError as error:
        sync.send(plan.sync_fd, sync.ERROR, f"error executing setns process: {error.strerror}".encode())
        os._exit(1)
    os._exit(0)


def run_joined(plan: JoinPlan) -> None:
    """The child of clone3: ends in execve or an exit. It opens nothing: its root may be the container's already."""
    state = State(plan.sync_fd)
    try:
        prctl.set_dumpable(False)
        plan.close_others()
        state.done("begin")
        tell_pid(plan.identity, await_go(state))
        operations = _prepare(plan)
        state.done("prepare list")
        program.run(operations, state)
    except Interrupted:
        pass
    except InitError as error:
        program.fail(state, str(error))
    except OSError as error:
        program.fail(state, f"error executing setns process: {(error.strerror or '').lower()}")
    os._exit(1)


def _prepare(plan: JoinPlan) -> list[Operation]:
    process = plan.identity.process
    env = ident.environment(process, plan.home)
    os.setsid()
    if plan.keyring:
        join_keyring(plan.keyring)
    for number, fd in enumerate(plan.stdio if plan.slave_fd < 0 else ()):
        if fd != number:
            os.dup2(fd, number)
    if process.apparmor_profile:
        _apply_apparmor(plan.identity)
    steps: list[Operation] = []
    if plan.namespace_flags:
        steps.append(("setns", (plan.pidfd, plan.namespace_flags), "setns"))
    if plan.in_user_namespace:
        # Root of the joined user namespace, in whose ids all that follows is meant.
        steps += [("setgid", (0,), "setresgid"), ("setuid", (0,), "setresuid")]
        steps.append(("prctl", (prctl.PR_SET_DUMPABLE, 0, 0), "unable to clear dumpable"))
    if plan.slave_fd >= 0:
        steps.append(
            ("take_terminal", (plan.slave_fd, process.uid), "unable to set the controlling terminal")
        )
    else:
        steps.append(("give_stdio", (process.uid,), "unable to change the owner of stdio"))
    steps.append(("umask", (0o022 if process.umask is None else process.umask,), "umask"))
    steps += plan.scheduling
    steps += ident.become(plan.identity, env)
    steps += [("ready", (), "sync"), ("await_go", (), "sync")]
    steps += ident.finish(plan.identity, env, FIRST_EXTRA_FD + plan.preserve_fds)
    return steps


def _apply_apparmor(identity: Identity) -> None:
    # By a procfs of the container's processes that nobody else has; a descriptor of the host's would lead out.
    try:
        proc_fd = procfs.private_proc()
    except OSError as error:
        if error.errno not in (1, 22):  # EPERM in some user namespaces, EINVAL before Linux 5.8
            raise
        proc_fd = procfs.open_proc()  # the container's own
    try:
        apply_apparmor(identity, proc_fd)
    finally:
        os.close(proc_fd)


def _setns(state: State, pidfd: int, flags: int) -> None:
    setns(pidfd, flags)


def _take_terminal(state: State, slave_fd: int, uid: int) -> None:
    take_terminal(slave_fd, uid)


def _give_stdio(state: State, uid: int) -> None:
    give_stdio(uid)


program.OPERATIONS.update(setns=_setns, take_terminal=_take_terminal, give_stdio=_give_stdio)
