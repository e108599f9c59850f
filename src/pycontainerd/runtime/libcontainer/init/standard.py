"""PID 1 of a new container, from its first namespace to execve(2).

Spec:    runtime-spec runtime.md#lifecycle
Runs in: init (child side)
"""

from __future__ import annotations

import fcntl
import os

from pycontainerd.lib.linux import mount as m
from pycontainerd.lib.linux import path as fspath
from pycontainerd.lib.linux import prctl, procfs, sockets
from pycontainerd.lib.linux.fd import close_range, gaps
from pycontainerd.lib.linux.hostname import setdomainname, sethostname
from pycontainerd.lib.linux.libc import AT_FDCWD, go_error
from pycontainerd.lib.linux.namespaces import CLONE_NEWCGROUP, setns, unshare
from pycontainerd.lib.linux.process import clone3
from pycontainerd.runtime.libcontainer import hooks, sync, user
from pycontainerd.runtime.libcontainer.init import identity as ident
from pycontainerd.runtime.libcontainer.init import program
from pycontainerd.runtime.libcontainer.init.common import (
    FIRST_EXTRA_FD,
    apply_apparmor,
    await_go,
    give_stdio,
    join_keyring,
    needs_home,
    take_terminal,
    tell_pid,
)
from pycontainerd.runtime.libcontainer.init.program import InitError, Interrupted, State
from pycontainerd.runtime.libcontainer.rootfs import device, mask, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainerd.runtime.libcontainer.config import Config
    from pycontainerd.runtime.libcontainer.init.identity import Identity
    from pycontainerd.runtime.libcontainer.init.program import Operation
    from pycontainerd.runtime.libcontainer.rootfs.cgroup import CgroupView

SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP, IFF_RUNNING = 0x1, 0x40


class InitPlan:
    """Everything init is told. Descriptors are the parent's numbers: the child has the same ones."""

    __slots__ = (
        "cgroup_view",
        "config",
        "console_socket_fd",
        "fifo_fd",
        "identity",
        "join_fds",
        "late_readonly",
        "open_terminal",
        "preserve_fds",
        "proc_fd",
        "rootless",
        "scheduling",
        "set_domain",
        "source_fds",
        "starts_at_once",
        "stdio",
        "sync_fd",
        "unshare_flags",
    )

    def __init__(self, config: Config, identity: Identity, view: CgroupView) -> None:
        self.config = config
        self.identity = identity
        self.cgroup_view = view
        self.sync_fd = self.fifo_fd = self.proc_fd = self.console_socket_fd = -1
        self.preserve_fds = 0
        self.stdio: tuple[int, int, int] = (0, 1, 2)
        self.source_fds: dict[int, int] = {}
        self.join_fds: list[tuple[int, int]] = []
        self.unshare_flags = 0
        self.late_readonly: list[int] = []
        self.scheduling: list[Operation] = []
        # Of one that wants a terminal: init/terminal.py's, which init may not load itself.
        self.open_terminal: Callable[[int, int, tuple[int, int] | None], int] | None = None
        self.set_domain: Callable[[str], None] | None = None  # of a config that has a personality
        self.rootless = False
        self.starts_at_once = False  # nothing has to be made for it by the parent before it enters namespaces


def run_outer(plan: InitPlan) -> None:
    """The first of two children: in the user namespace that is joined, it clones init into the new ones of that."""
    try:
        prctl.set_dumpable(False)
        fd, flag = plan.join_fds.pop(0)  # the user namespace comes first
        setns(fd, flag)
        os.close(fd)
        _become_root()  # as whom the second child makes its namespaces
        flags, plan.unshare_flags = plan.unshare_flags, 0
        pid = clone3(lambda: run_init(plan), flags=flags, parent=True)
        sync.send(plan.sync_fd, sync.PID, str(pid).encode())
    except (OSError, InitError) as error:
        reason = (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
        sync.send(plan.sync_fd, sync.ERROR, f"unable to join the user namespace: {reason}".encode())
        os._exit(1)
    os._exit(0)


def run_init(plan: InitPlan) -> None:
    """The child of clone3: ends in execve or an exit."""
    state = State(plan.sync_fd)
    try:
        if not plan.rootless:
            prctl.set_dumpable(False)
        _close_others(plan)
        state.done("begin")
        if not plan.starts_at_once:
            await_go(state)
        program.run(_set_up(plan, state), state)
    except Interrupted:
        pass
    except InitError as error:
        program.fail(state, str(error))
    except OSError as error:
        name = f" {os.fsdecode(error.filename)}" if error.filename is not None else ""
        program.fail(state, f"{(error.strerror or '').lower()}{name}")
    os._exit(1)


def _close_others(plan: InitPlan) -> None:
    """Only what the plan names stays open: whatever else the caller had is no business of a container's."""
    named = (plan.sync_fd, plan.fifo_fd, plan.proc_fd, plan.console_socket_fd, *plan.stdio)
    keep = {*named, *plan.source_fds.values(), *(fd for fd, _flag in plan.join_fds)}
    keep.update(range(FIRST_EXTRA_FD, FIRST_EXTRA_FD + plan.preserve_fds))
    keep.update(ident.kept_fds(plan.identity))
    for first, last in gaps(keep):
        close_range(first, last)


def _set_up(plan: InitPlan, state: State) -> list[Operation]:
    """All that runs on the host's side of pivot_root; returns what runs on the other."""
    config = plan.config
    enter_namespaces(plan)
    state.done("enter namespaces")
    os.umask(0)
    root_fd = prepare_rootfs(plan, state)
    sync.send(state.sync_fd, sync.HOOKS)
    # prestart and createRuntime hooks ran: they still saw the host's mounts.
    tell_pid(plan.identity, await_go(state))
    hooks.run_all(config.hooks.get("createContainer", []), _hook_state(config, "creating"))
    state.done("createContainer hooks")
    _make_cwd(root_fd, config.process.cwd)
    home = user.find_home(root_fd, config.process.uid) if needs_home(config.process.env) else "/"
    attach_stdio(plan, root_fd)
    state.done("attach stdio")
    finalize_rootfs(plan, root_fd)
    state.done("mask paths")
    _set_names(config)
    _write_sysctls(config, plan.proc_fd)
    apply_apparmor(plan.identity, plan.proc_fd, "unable to apply apparmor profile: ")
    operations = _prepare(plan, root_fd, home)
    state.done("prepare list")
    return operations


def _hook_state(config: Config, status: str) -> bytes:
    """What hooks inside the container read: the pid is the one of their own namespace."""
    return hooks.state_json(
        id=config.id,
        status=status,
        pid=os.getpid(),
        bundle=config.bundle,
        annotations=config.annotations,
        oci_version=config.oci_version,
    )


def enter_namespaces(plan: InitPlan) -> None:
    """The namespaces that clone3 couldn't make or that are joined by path, and what belongs to them."""
    config = plan.config
    for fd, flag in plan.join_fds:
        setns(fd, flag)
        os.close(fd)
    if "user" in config.namespaces:
        _become_root()
    if plan.unshare_flags:
        unshare(plan.unshare_flags)
    prctl.set_dumpable(False)
    os.setsid()
    if config.creates("cgroup"):
        # Only now that we are in our cgroups: they are what the namespace takes as its root.
        unshare(CLONE_NEWCGROUP)
    if not config.no_new_keyring:
        join_keyring(config.id)
    if config.creates("network"):
        _bring_up_loopback()
    if plan.set_domain is not None:
        plan.set_domain(config.personality)


def _become_root() -> None:
    """Of the user namespace that this process has come into."""
    program.run([("setgid", (0,), "setresgid"), ("setuid", (0,), "setresuid")], State(-1))


def _bring_up_loopback() -> None:
    request = b"lo".ljust(16, b"\0") + (IFF_UP | IFF_RUNNING).to_bytes(2, "little") + b"\0" * 22
    probe_fd = sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM)
    try:
        fcntl.ioctl(probe_fd, SIOCSIFFLAGS, request)
    finally:
        os.close(probe_fd)


def prepare_rootfs(plan: InitPlan, state: State) -> int:
    """The rootfs as a mount of its own with everything mounted in it; an O_PATH descriptor of its root."""
    config = plan.config
    propagation = config.rootfs_propagation or m.MS_SLAVE | m.MS_REC
    m.mount(None, b"/", None, flags=propagation)
    if config.rootfs_propagation:  # the default has left nothing shared
        _make_parent_private(config.rootfs)
    target_fd = os.open(config.rootfs, fspath.O_PATH | os.O_DIRECTORY)
    try:
        root_fd = m.open_tree(AT_FDCWD, config.rootfs, recursive=True)
        m.move_mount(root_fd, target_fd)
    except OSError as error:
        raise InitError(
            f"error preparing rootfs: mount {config.rootfs}: {go_error(error.errno or 0)}"
        ) from None
    os.close(target_fd)
    # A read-only tmpfs becomes so after the hooks: mount points in it must still be made.
    state.done("attach rootfs")
    plan.late_readonly = mounts.mount_all(config, root_fd, plan.cgroup_view, plan.source_fds, state.done)
    if device.needs_devices(config):
        device.make_devices(config, root_fd)
        state.done("make devices")
    return root_fd


def _make_parent_private(rootfs: str) -> None:
    """pivot_root refuses a new root whose parent mount is shared."""
    best, optional = "", ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            point = fields[4]
            if (rootfs == point or rootfs.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
                best, optional = point, fields[6]
    if optional.startswith("shared:"):
        m.mount(None, best, None, flags=m.MS_PRIVATE)


def _make_cwd(root_fd: int, cwd: str) -> None:
    try:
        os.close(fspath.make_dirs_in_root(root_fd, cwd))
    except OSError as error:
        if error.errno == 40:  # a magic link such as /proc/self/fd/7: the check after chdir judges it
            return
        raise InitError(f"mkdir {cwd}: {go_error(error.errno or 0)}") from None


def attach_stdio(plan: InitPlan, root_fd: int) -> None:
    """Descriptors 0, 1 and 2: a new terminal of the container's devpts, or what the caller gave."""
    process = plan.config.process
    if process.terminal:
        assert plan.open_terminal is not None
        slave_fd = plan.open_terminal(root_fd, plan.console_socket_fd, process.console_size)
        device.bind_console(root_fd, slave_fd)
        take_terminal(slave_fd, process.uid)
        return
    for number, fd in enumerate(plan.stdio):
        if fd != number:
            os.dup2(fd, number)
    give_stdio(process.uid)


def finalize_rootfs(plan: InitPlan, root_fd: int) -> None:
    """Read-only parts and masks, after the last hook that may change the rootfs."""
    config = plan.config
    for fd in plan.late_readonly:
        m.mount_setattr(fd, attr_set=m.MOUNT_ATTR_RDONLY)
        os.close(fd)
    mask.make_readonly(root_fd, config.readonly_paths)
    mask.mask(root_fd, config.masked_paths)
    if config.root_readonly:
        m.mount_setattr(root_fd, attr_set=m.MOUNT_ATTR_RDONLY)


def _set_names(config: Config) -> None:
    if config.hostname:
        sethostname(config.hostname)
    if config.domainname:
        setdomainname(config.domainname)


def _write_sysctls(config: Config, proc_fd: int) -> None:
    for key, value in config.sysctl.items():
        # `net.ipv4.conf.eth0/1.forwarding`: with a dot first, slashes and dots change places.
        dotted = "." in key.split("/")[0]
        path = key.translate({46: 47, 47: 46}) if dotted else key
        try:
            fd = procfs.open_beneath(proc_fd, f"sys/{path}", os.O_WRONLY)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise InitError(f"open /proc/sys/{path}: {go_error(error.errno or 0)}") from None


def _private_proc() -> int:
    try:
        return procfs.private_proc()
    except OSError as error:
        if error.errno not in (1, 22):  # EPERM in some user namespaces, EINVAL before Linux 5.8
            raise
        return -1


def _prepare(plan: InitPlan, root_fd: int, home: str) -> list[Operation]:
    """The prepared list of a new container."""
    config = plan.config
    env = ident.environment(config.process, home)
    mntns_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    own_proc_fd = _private_proc()
    # The magic link of our own descriptor; in the container's /proc only where a private one is refused.
    fifo = f"self/fd/{plan.fifo_fd}" if own_proc_fd >= 0 else f"/proc/self/fd/{plan.fifo_fd}"
    steps: list[Operation] = []
    if config.no_pivot:
        steps.append(
            ("move_root", (root_fd, _full_mounts(config.rootfs)), "error jailing process inside rootfs")
        )
    else:
        steps.append(("pivot_root", (root_fd, mntns_fd), "error jailing process inside rootfs: pivot_root"))
    if config.rootfs_propagation:
        steps.append(("mount_flags", (b"/", config.rootfs_propagation), "unable to set rootfs propagation"))
    umask = config.process.umask
    steps.append(("umask", (0o022 if umask is None else umask,), "umask"))
    steps += plan.scheduling
    steps += ident.become(plan.identity, env)
    keep = {plan.sync_fd, plan.fifo_fd, own_proc_fd, *ident.kept_fds(plan.identity)}
    keep.update(range(FIRST_EXTRA_FD, FIRST_EXTRA_FD + plan.preserve_fds))
    steps += [
        # Nothing of the host's is open while init waits: the container's processes may reach /proc/PID/fd.
        ("close_ranges", (gaps(keep),), "unable to close descriptors"),
        # A created container ends at the signals that end runc's init.
        ("leave_on_signals", (ident.ENDING_SIGNALS,), "unable to set signal dispositions"),
        ("ready", (), "sync"),
        ("await_go", (), "sync"),
        ("open_fifo", (own_proc_fd, fifo.encode()), "open exec fifo"),
    ]
    for at, hook in enumerate(config.hooks.get("startContainer", [])):
        run = hooks.prepare(at, hook, _hook_state(config, "created"), close_from=FIRST_EXTRA_FD)
        steps.append(("hook", (run,), "hook"))
    steps += ident.finish(plan.identity, env, FIRST_EXTRA_FD + plan.preserve_fds)
    return steps


def _full_mounts(rootfs: str) -> tuple[bytes, ...]:
    """Whole procfs and sysfs mounts outside the rootfs, deepest first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            head, _, tail = line.partition(" - ")
            fields = head.split()
            inside = fields[4] == rootfs or fields[4].startswith(rootfs + "/")
            if tail.split()[0] in ("proc", "sysfs") and fields[3] == "/" and not inside:
                found.append(os.fsencode(fields[4]))
    return tuple(reversed(found))
