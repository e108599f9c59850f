"""What init of a new container is told: identity, limits of what it may become, and all that must be opened for it before.

Runs in: parent, before the clone
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import procfs
from pycontainerd.lib.linux.capabilities import last_cap, permitted
from pycontainerd.runtime.libcontainer import seccomp, state
from pycontainerd.runtime.libcontainer.init.identity import Identity
from pycontainerd.runtime.libcontainer.init.standard import InitPlan
from pycontainerd.runtime.libcontainer.rootfs import mounts
from pycontainerd.runtime.libcontainer.rootfs.cgroup import CgroupView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.libcontainer import parent
    from pycontainerd.runtime.libcontainer.config import Config
    from pycontainerd.runtime.libcontainer.container import Container
    from pycontainerd.runtime.libcontainer.options import CreateOptions


def plan_init(
    container: Container, config: Config, options: CreateOptions, joins: parent.Joins, opened: list[int]
) -> InitPlan:
    """The plan of a new container's init. What is opened for it is added to `opened`: the caller's, even on an error."""
    process = config.process
    filter_ = seccomp.prepare(config.seccomp, container.root, lambda: container.hook_state("creating", 0))
    identity = Identity(
        process,
        process.capabilities or {},
        no_new_privileges=process.no_new_privileges,
        filter=filter_,
        last_cap=last_cap(),
        available=-1 if "user" in config.namespaces else permitted(),
        additional_gids=process.additional_gids,
        setgroups_allowed=os.geteuid() == 0 or not config.creates("user"),
    )
    hierarchies: list[tuple[str, str, str]] = []
    unified = ""
    if any(entry.fstype in ("cgroup", "cgroup2") for entry in config.mounts):
        hierarchies, unified = container.cgroups.view()
    plan = InitPlan(config, identity, CgroupView(hierarchies, unified))
    plan.join_fds, plan.unshare_flags = joins.child_fds, joins.unshare_flags
    plan.stdio, plan.preserve_fds = options.stdio, options.preserve_fds
    plan.console_socket_fd = options.console_socket_fd
    if process.terminal:
        from pycontainerd.runtime.libcontainer.init.terminal import open_terminal

        plan.open_terminal = open_terminal
    if process.scheduling is not None:
        plan.scheduling += process.scheduling.steps(config.resources.get("cpu", {}).get("cpus", ""))
    if config.memory_policy is not None:
        plan.scheduling += config.memory_policy.steps()
    if config.personality:
        from pycontainerd.lib.linux.personality import set_domain

        plan.set_domain = set_domain  # loaded here: init may not be able to read it any more
    plan.proc_fd = procfs.open_proc()
    opened.append(plan.proc_fd)
    plan.fifo_fd = _make_fifo(container.directory, config)
    opened.append(plan.fifo_fd)
    _open_sources(plan, opened)
    return plan


def _open_sources(plan: InitPlan, opened: list[int]) -> None:
    """Bind mounts that init could not make itself."""
    config = plan.config
    # With our rights: the root of the user namespace may not be able to reach them.
    reached = config.creates("user") and os.geteuid() == 0
    for at, entry in enumerate(config.mounts):
        if entry.is_id_mapped or (entry.is_bind and reached):
            plan.source_fds[at] = mounts.open_source(entry)
            opened.append(plan.source_fds[at])
    if any(entry.is_id_mapped for entry in config.mounts):
        from pycontainerd.runtime.libcontainer.idmap import map_ids

        map_ids(config.mounts, plan.source_fds)


def _make_fifo(directory: str, config: Config) -> int:
    path = f"{directory}/{state.FIFO_FILE}"
    old_umask = os.umask(0)
    try:
        os.mkfifo(path, 0o622)
    finally:
        os.umask(old_umask)
    if "user" in config.namespaces and os.geteuid() == 0:
        os.chown(path, config.host_uid(0), config.host_gid(0))
    return os.open(path, os.O_PATH | os.O_CLOEXEC)
