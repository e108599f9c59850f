"""From a config to a container whose init waits on exec.fifo: the parent's side of a create.

Spec:    runtime-spec runtime.md#create
Runs in: parent
"""

from __future__ import annotations

import os

from pycontainerd.lib import trace
from pycontainerd.lib.cgroups import manager_for, systemd_manager_for
from pycontainerd.lib.errdefs import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    Unknown,
)
from pycontainerd.lib.linux import process as proc
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.runtime.libcontainer import hooks, parent, runc_config, state, sync
from pycontainerd.runtime.libcontainer.config import Config, load_spec
from pycontainerd.runtime.libcontainer.container import KERNEL_MEMORY, Container
from pycontainerd.runtime.libcontainer.init.program import InitError
from pycontainerd.runtime.libcontainer.init.standard import run_init, run_outer
from pycontainerd.runtime.libcontainer.plan import plan_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainerd.lib.cgroups import Manager
    from pycontainerd.lib.log import Logger
    from pycontainerd.runtime.libcontainer.init.standard import InitPlan
    from pycontainerd.runtime.libcontainer.options import CreateOptions

RESOURCES_ERROR = "error setting cgroup config for procHooks process: "


def execute(options: CreateOptions) -> Container:
    """Makes a container whose init waits on exec.fifo; on an error nothing of it is left."""
    state.require_id(options.id)
    with trace.span("config"):
        bundle = os.path.normpath(os.path.join(os.getcwd(), options.bundle or "."))
        spec = load_spec(bundle) if options.spec is None else options.spec
        config = Config(spec, id=options.id, bundle=bundle, systemd_cgroup=options.systemd_cgroup)
    config.no_pivot, config.no_new_keyring = options.no_pivot, options.no_new_keyring
    config.process.env = [*config.process.env, *options.environment]
    _check_terminal(config, options)
    if options.log is not None:
        for text in _without_effect(config):
            options.log.warning(text)
    rootless = os.geteuid() != 0 if options.rootless is None else options.rootless
    if config.net_devices and (rootless or os.geteuid() != 0):
        raise InvalidArgument("linux.netDevices: network devices are not supported for rootless containers")
    with trace.span("cgroup.find"):
        cgroups = _new_manager(config, rootless)
    directory = _make_directory(options.root, options.id)
    try:
        container = _new_container(config, options, cgroups, rootless)
    except BaseException:
        os.rmdir(directory)
        raise
    try:
        if options.folder:
            os.mkdir(f"{directory}/{options.folder}", 0o755)
        # The intent, before the first cgroup: whatever a killed create leaves can be found and removed.
        with trace.span("state.store"):
            state.store(directory, container.record)
        _make_init(container, config, options)
    except BaseException as error:
        container.abandon()
        if isinstance(error, InitError):
            raise Unknown(init_error_text(str(error))) from error
        raise
    container.shares_cgroups = False
    return container


def _new_container(config: Config, options: CreateOptions, cgroups: Manager, rootless: bool) -> Container:
    """With all that is to be kept of it before the first thing is made; what makes no container is refused."""
    made = state.State(options.id, runc_config.to_runc(config), cgroups.paths)
    made.rootless = rootless
    container = Container(options.root, made, cgroups, options.log)
    if config.intel_rdt is not None:
        group = container.new_intel_rdt_group(config.intel_rdt)
        made.intel_rdt_path, made.intel_rdt_made = group.path, group.made
    container.shares_cgroups = cgroups.exists()  # somebody else's: a failing create leaves them alone
    if container.shares_cgroups:
        _look_into(cgroups, options.log)
    return container


def _look_into(cgroups: Manager, log: Logger | None) -> None:
    """Whoever is in cgroups that are there gets the container's limits: told, in runc's words. Frozen ones are refused."""
    try:
        count = len(cgroups.pids())
    except FileNotFoundError:
        return  # removed meanwhile
    text = f"container's cgroup is not empty: {count} process(es) found"
    if count and log is not None:
        log.warning(text)
    if cgroups.is_frozen():
        raise FailedPrecondition("container's cgroup unexpectedly frozen")


def _without_effect(config: Config) -> list[str]:
    """What the config asks for and nobody can give: runc's warnings, in its words."""
    found = []
    if config.process.unknown_capabilities:
        names = " ".join(config.process.unknown_capabilities)
        found.append(f"ignoring unknown or unavailable capabilities: [{names}]")
    if {"kernel", "kernelTCP"} & set(config.resources.get("memory", {})):
        found.append(KERNEL_MEMORY)
    return found


def _new_manager(config: Config, rootless: bool) -> Manager:
    if not config.systemd_cgroup:
        return manager_for(config.cgroups_path, config.id, rootless=rootless)
    return systemd_manager_for(
        config.cgroups_path,
        config.id,
        rootless=rootless,
        annotations=config.annotations,
        resources=config.resources,
    )


def init_error_text(text: str) -> str:
    """What init said, under runc's headings."""
    head = "unable to start container process: "
    return head + text if text.startswith('exec: "') else f"{head}error during container init: {text}"


def _check_terminal(config: Config, options: CreateOptions) -> None:
    if config.process.terminal and options.console_socket_fd < 0:
        raise InvalidArgument("cannot allocate tty if runc will detach without setting console socket")
    if not config.process.terminal and options.console_socket_fd >= 0:
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")
    for fd in range(3, 3 + options.preserve_fds):
        try:
            os.set_inheritable(fd, True)
        except OSError:
            raise InvalidArgument(
                f"please check that preserved-fd {fd - 2} (of {options.preserve_fds}) is present"
            ) from None


def _make_directory(root: str, id: str) -> str:
    os.makedirs(root, 0o700, exist_ok=True)
    directory = f"{root}/{id}"
    try:
        os.mkdir(directory, 0o711)
    except FileExistsError:
        raise AlreadyExists("container with given ID already exists") from None
    os.chmod(directory, 0o711)
    return directory


def _make_init(container: Container, config: Config, options: CreateOptions) -> None:
    """The parent's story of a create, with sync.py's diagram."""
    rootless = os.geteuid() != 0
    joins = parent.Joins(config)
    opened: list[int] = []
    try:
        with trace.span("cgroup.create"):
            container.cgroups.create()
        with trace.span("init.plan"):
            plan = plan_init(container, config, options, joins, opened)
        plan.rootless = rootless
        plan.starts_at_once = _starts_at_once(container, config, joins)
        # Closed by parent.start or with the child: nothing else may fail from here on.
        ends = sync.make_pair()
        plan.sync_fd = ends[1]
        run = run_outer if joins.in_two_steps else run_init
        pages = options.pages
        if pages is not None:
            pages.before_clone()
        child = parent.start(
            joins,
            lambda: run(plan),
            ends,
            sibling=options.clone_parent,
            cgroups=container.cgroups,
            pages=pages,
        )
    finally:
        joins.close()
        for fd in opened:
            os.close(fd)
    try:
        if joins.in_two_steps:
            child.replace()
        _see_through(container, config, options, child, plan)
        if pages is not None:
            pages.record_init(child.pid)
    except BaseException:
        child.kill()
        raise
    finally:
        os.close(child.sync_fd)
    child.reap_first()


def _starts_at_once(container: Container, config: Config, joins: parent.Joins) -> bool:
    """Whether init needs nothing of what is done between its clone and its first GO: ids, cgroups that systemd makes, Intel RDT."""
    return not (
        config.creates("user")
        or joins.in_two_steps
        or config.systemd_cgroup
        or container.intel_rdt_group() is not None
    )


def _see_through(
    container: Container, config: Config, options: CreateOptions, child: parent.Child, plan: InitPlan
) -> None:
    """From an init that waits for its first GO, or is under way, to one that waits on exec.fifo."""
    if config.creates("user"):
        parent.write_id_maps(child.pid, config.uid_mappings, config.gid_mappings)
    parent.limit(child.pid, config.process)
    try:
        container.cgroups.place(child.pid)
    except ContainerdError as error:
        raise Unknown(
            f"unable to start container process: unable to apply cgroup configuration: {error}"
        ) from error
    proc.reset_affinity(child.pid)
    container.record.init_pid, container.record.init_start = child.pid, proc.start_time(child.pid)
    group = container.intel_rdt_group()
    if group is not None:
        _apply_intel_rdt(group.apply, "unable to apply Intel RDT configuration", child.pid)
    if not plan.starts_at_once:
        child.go()
    if options.pages is not None:
        with trace.span("copy pages"):
            options.pages.after_clone.copy()  # while init mounts
    container.cgroups.get_ready()
    child.expect(sync.HOOKS)
    if config.net_devices:
        from pycontainerd.runtime.libcontainer.netdevice import move_all

        move_all(config.net_devices, child.pid)
    # While init waits: between denying all devices and allowing some, it could not open its terminal.
    _set_resources(container, config)
    if group is not None:
        _apply_intel_rdt(group.set, "error setting Intel RDT config for procHooks process")
    for kind in ("prestart", "createRuntime"):
        if config.hooks.get(kind):
            hooks.run_all(config.hooks[kind], container.hook_state("creating", child.pid))
    child.go()
    with trace.span("state.prepare"):
        prepared = state.prepare(container.directory, container.record)  # while init masks paths
    child.expect(sync.READY)
    with trace.span("state.store"):
        state.put(container.directory, prepared)
        if options.pid_file:
            parent.write_pid_file(options.pid_file, child.pid)
    if options.pidfd_socket_fd >= 0:
        parent.send_pidfd(options.pidfd_socket_fd, child.pid, "standard")
    child.go()


def _apply_intel_rdt(step: Callable[..., None], what: str, *arguments: int) -> None:
    try:
        step(*arguments)
    except Unknown as error:
        raise InitError(f"{what}: {error}") from error


def _set_resources(container: Container, config: Config) -> None:
    with trace.span("cgroup.set"):
        try:
            container.cgroups.set(config.resources)
        except InvalidArgument as error:
            raise InitError(f"{RESOURCES_ERROR}{error}") from error
        except OSError as error:
            text = f"{error.filename}: {go_error(error.errno or 0)}"
            raise InitError(f"{RESOURCES_ERROR}{text}") from error
