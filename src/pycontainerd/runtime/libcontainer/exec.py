"""Another process in a container that is there: the parent's side.

Spec:    runtime-spec config.md#process (process.json)
Man:     setns(2), pidfd_open(2)
Runs in: parent
"""

from __future__ import annotations

import os

from pycontainerd.lib.cgroups import manager_from_paths
from pycontainerd.lib.errdefs import FailedPrecondition, InvalidArgument, Unknown
from pycontainerd.lib.linux import procfs
from pycontainerd.lib.linux.capabilities import last_cap, permitted
from pycontainerd.lib.linux.namespaces import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, LINUX_NAMESPACES
from pycontainerd.lib.linux.process import reset_affinity
from pycontainerd.lib.oci import runtime as oci
from pycontainerd.runtime.libcontainer import parent, runc_config, seccomp, sync, user
from pycontainerd.runtime.libcontainer.config import Process
from pycontainerd.runtime.libcontainer.init.common import needs_home
from pycontainerd.runtime.libcontainer.init.identity import Identity
from pycontainerd.runtime.libcontainer.init.joined import JoinPlan, run_joined, run_outer
from pycontainerd.runtime.libcontainer.init.program import InitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.lib.cgroups import Manager
    from pycontainerd.runtime.libcontainer.container import Container
    from pycontainerd.runtime.libcontainer.init.program import Operation
    from pycontainerd.runtime.libcontainer.options import ExecOptions


class _Joins(parent.Joins):
    """What parent.start closes and enters for an exec: nothing, the children do it themselves."""

    __slots__ = ()

    def __init__(self) -> None:
        self.flags = self.unshare_flags = 0
        self.time_offsets = {}
        self.child_fds = []
        self.parent_fds = []


def execute(container: Container, options: ExecOptions) -> int:
    """Starts the process and returns its host pid once it is about to execve."""
    return parent.finish(steps(container, options))


def is_free_of_the_container(container: Container, options: ExecOptions) -> bool:
    """Whether `steps` waits at its yields only: nothing of the container's is opened in this process, which could hang for it."""
    return not options.process.get("terminal") and _first_flags(_differing_namespaces(container.pid)) != 0


def steps(container: Container, options: ExecOptions) -> parent.Steps[int]:
    """`execute` for a caller that has something else to do: what is yielded is the descriptor to wait for.

    Closed before its end it takes back what was done. Raises as `execute`.
    """
    status = container.status()
    if status == "stopped":
        raise FailedPrecondition("cannot exec in a stopped container")
    if status == "paused" and not options.ignore_paused:
        raise FailedPrecondition("cannot exec in a paused container (use --ignore-paused to override)")
    document = oci.checked(options.process, oci.PROCESS, "process")
    process = Process({**runc_config.scheduling_of(container.record.config), **document})
    if process.terminal and options.console_socket_fd < 0:
        raise InvalidArgument("cannot allocate tty if runc will detach without setting console socket")
    if not process.terminal and options.console_socket_fd >= 0:
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")
    opened: list[int] = []
    try:
        return (yield from _start(container, options, process, opened))
    except InitError as error:
        raise Unknown(f"unable to start container process: {error}") from error
    finally:
        for fd in opened:
            os.close(fd)


def _start(
    container: Container, options: ExecOptions, process: Process, opened: list[int]
) -> parent.Steps[int]:
    pid = container.pid
    pidfd = os.pidfd_open(pid)
    opened.append(pidfd)
    if not container.is_alive():  # asked after the pidfd was opened: the pid can't have been reused
        raise FailedPrecondition("cannot exec in a stopped container")
    proc_fd = procfs.open_proc()
    opened.append(proc_fd)
    root_fd = os.open(f"{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
    opened.append(root_fd)
    flags = _differing_namespaces(pid)
    first_flags = _first_flags(flags)
    plan = JoinPlan(
        _identity(container, process, root_fd, flags),
        pidfd=pidfd,
        first_flags=first_flags,
        namespace_flags=flags & ~first_flags,
    )
    plan.in_user_namespace = bool(flags & CLONE_NEWUSER)
    plan.stdio, plan.preserve_fds = options.stdio, options.preserve_fds
    plan.keyring = "" if container.record.config.get("no_new_keyring") else container.id
    if needs_home(process.env) and first_flags:
        plan.root_fd = root_fd  # for the first child, which may wait for it as long as the container likes
    elif needs_home(process.env):
        plan.home = user.find_home(root_fd, process.uid)
    if process.terminal:
        from pycontainerd.runtime.libcontainer.init.terminal import open_terminal

        plan.slave_fd = open_terminal(root_fd, options.console_socket_fd, process.console_size)
        opened.append(plan.slave_fd)
    plan.scheduling = _scheduling(container, process)
    cgroups = _cgroups(container, options.cgroups)
    ends = sync.make_pair()  # closed by parent.start or with the child: nothing else may fail from here on
    plan.sync_fd = ends[1]

    def start() -> parent.Child:
        return parent.start(
            _Joins(),
            lambda: run_joined(plan),
            ends,
            sibling=options.clone_parent,
            cgroups=cgroups,
            outer=(lambda *more: run_outer(plan, *more)) if first_flags else None,
        )

    child = start() if process.exec_affinity is None else process.exec_affinity.during(start)
    try:
        if first_flags:
            yield from child.replacing()
        yield from _see_through(container, child, process, options)
    except BaseException:
        child.kill()
        raise
    finally:
        os.close(child.sync_fd)
    child.reap_first()
    return child.pid


def _first_flags(flags: int) -> int:
    """Of the namespaces to join, those in which the process has to be born: the pid namespace takes effect by a clone only,
    and whoever is seen there must have the container's mounts. Without root the user namespace gives the right to enter both.
    """
    if not flags & CLONE_NEWPID:
        return 0
    wanted = CLONE_NEWPID | CLONE_NEWNS
    return flags & (wanted if os.geteuid() == 0 else wanted | CLONE_NEWUSER)


def _see_through(
    container: Container, child: parent.Child, process: Process, options: ExecOptions
) -> parent.Steps[None]:
    """From a child that waits to one that is about to execve."""
    _inherit_oom_score(container, process)
    parent.limit(child.pid, process)
    if process.exec_affinity is None:
        reset_affinity(child.pid)
    group = container.intel_rdt_group()
    if group is not None and os.path.exists(group.path):
        try:
            group.add(child.pid)
        except Unknown as error:
            raise InitError(f"error adding pid {child.pid} to Intel RDT: {error}") from error
    child.go()
    yield from child.expecting(sync.READY)
    if options.pid_file:
        parent.write_pid_file(options.pid_file, child.pid)
    if options.pidfd_socket_fd >= 0:
        parent.send_pidfd(options.pidfd_socket_fd, child.pid, "setns")
    child.go()


def _inherit_oom_score(container: Container, process: Process) -> None:
    if process.oom_score_adj is None:
        process.oom_score_adj = container.record.config.get("oom_score_adj")


def _scheduling(container: Container, process: Process) -> list[Operation]:
    stored, steps = container.record.config, []
    if process.exec_affinity is not None:
        # First, and in the child: it is in its cpuset by now, which the set must have a CPU of.
        steps += process.exec_affinity.steps()
    if process.scheduling is not None:
        steps += process.scheduling.steps((stored.get("cgroups") or {}).get("cpuset_cpus", ""))
    if stored.get("memory_policy"):
        from pycontainerd.runtime.libcontainer.scheduling import stored_policy

        steps += stored_policy(stored["memory_policy"]).steps()
    return steps


def _differing_namespaces(pid: int) -> int:
    """Flags of init's namespaces that aren't ours: joining one's own user namespace is an error."""
    flags = 0
    for flag, name in LINUX_NAMESPACES.values():
        try:
            theirs, ours = os.stat(f"/proc/{pid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            continue  # a kernel without this kind
        if theirs.st_ino != ours.st_ino:
            flags |= flag
    return flags


def _identity(container: Container, process: Process, root_fd: int, flags: int) -> Identity:
    stored = container.record.config
    capabilities = process.capabilities
    if capabilities is None:
        capabilities = runc_config.capabilities_of(stored)
    if not process.apparmor_profile:
        process.apparmor_profile = stored.get("apparmor_profile", "")
    filter_ = seccomp.prepare(
        runc_config.seccomp_of(stored), container.root, lambda: container.hook_state("running", container.pid)
    )
    return Identity(
        process,
        capabilities,
        no_new_privileges=process.no_new_privileges,
        filter=filter_,
        last_cap=last_cap(),
        available=-1 if flags & CLONE_NEWUSER else permitted(),
        additional_gids=process.additional_gids,
        setgroups_allowed=_setgroups_allowed(container.pid),
    )


def _setgroups_allowed(pid: int) -> bool:
    fd = os.open(f"/proc/{pid}/setgroups", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 16).startswith(b"allow")
    finally:
        os.close(fd)


def _cgroups(container: Container, wanted: list[str]) -> Manager:
    """The container's cgroups, or the existing sub-cgroups named `[controller[,controller]:]path`."""
    if not wanted:
        return container.cgroups
    paths = dict(container.record.cgroup_paths)
    for item in wanted:
        controllers, colon, sub = item.rpartition(":")
        sub = sub.strip("/")
        if ".." in sub.split("/"):
            raise InvalidArgument(f"bad sub cgroup path: {item}")
        names = controllers.split(",") if colon else list(paths)
        for name in names:
            if name not in paths:
                raise InvalidArgument(f"unknown controller {name} in --cgroup {item}")
            paths[name] = f"{container.record.cgroup_paths[name]}/{sub}" if sub else paths[name]
    for folder in paths.values():
        if not os.path.isdir(folder):
            raise InvalidArgument(f"sub-cgroup {folder} does not exist")
    return manager_from_paths(paths)
