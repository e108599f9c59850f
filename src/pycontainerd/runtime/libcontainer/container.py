"""Containers: create, load, and what can be done with one.

    create -> created -> start -> running <-> paused
                 |                   |
                 +------> stopped <--+        delete

Errors are errdefs errors whose text is what runc prints after its command's own prefix.

Spec: runtime-spec runtime.md#lifecycle
"""

from __future__ import annotations

import errno
import os
import select
import time

from pycontainerd.lib import trace
from pycontainerd.lib.cgroups import (
    manager_for,
    manager_from_paths,
    manager_from_unit,
    systemd_manager_for,
)
from pycontainerd.lib.errdefs import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from pycontainerd.lib.linux import process as proc
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.runtime.libcontainer import hooks, parent, runc_config, state, sync
from pycontainerd.runtime.libcontainer.config import Config, load_spec
from pycontainerd.runtime.libcontainer.init.program import InitError
from pycontainerd.runtime.libcontainer.init.standard import run_init, run_outer
from pycontainerd.runtime.libcontainer.options import CreateOptions, ExecOptions
from pycontainerd.runtime.libcontainer.plan import plan_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainerd.lib.cgroups import Manager
    from pycontainerd.runtime.libcontainer.intelrdt import Group

__all__ = ["Container", "CreateOptions", "ExecOptions", "create", "load"]

# The kernel has taken those limits away.
KERNEL_MEMORY = "Kernel memory settings are ignored and will be removed"
RESOURCES_ERROR = "error setting cgroup config for procHooks process: "
KILL_WAIT_S = 10.0


def create(options: CreateOptions) -> Container:
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
    made = state.State(options.id, runc_config.to_runc(config), cgroups.paths)
    made.rootless = rootless
    container = Container(options.root, made, cgroups)
    if config.intel_rdt is not None:
        group = container.new_intel_rdt_group(config.intel_rdt)
        made.intel_rdt_path, made.intel_rdt_made = group.path, group.made
    container.shares_cgroups = cgroups.exists()  # somebody else's: a failing create leaves them alone
    try:
        if options.folder:
            os.mkdir(f"{directory}/{options.folder}", 0o755)
        # The intent, before the first cgroup: whatever a killed create leaves can be found and removed.
        with trace.span("state.store"):
            state.store(directory, made)
        _make_init(container, config, options)
    except BaseException as error:
        container.abandon()
        if isinstance(error, InitError):
            raise Unknown(init_error_text(str(error))) from error
        raise
    container.shares_cgroups = False
    return container


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
    with trace.span("cgroup.create"):
        container.cgroups.create()
    ends = sync.make_pair()
    opened: list[int] = []
    try:
        with trace.span("init.plan"):
            plan = plan_init(container, config, options, joins, opened)
        plan.sync_fd = ends[1]
        plan.rootless = rootless
        run = run_outer if joins.in_two_steps else run_init
        child = parent.start(
            joins, lambda: run(plan), ends, sibling=options.clone_parent, cgroups=container.cgroups
        )
    finally:
        for fd in opened:
            os.close(fd)
    try:
        if joins.in_two_steps:
            child.replace()
        _see_through(container, config, options, child)
    except BaseException:
        child.kill()
        raise
    finally:
        os.close(child.sync_fd)
    child.reap_first()


def _see_through(container: Container, config: Config, options: CreateOptions, child: parent.Child) -> None:
    """From an init that waits for its first GO to one that waits on exec.fifo."""
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
    group = container.intel_rdt_group()
    if group is not None:
        _apply_intel_rdt(group.apply, "unable to apply Intel RDT configuration", child.pid)
    child.go()
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
    child.expect(sync.READY)
    container.record.init_pid = child.pid
    container.record.init_start = proc.start_time(child.pid)
    with trace.span("state.store"):
        state.store(container.directory, container.record)
        if options.pid_file:
            write_pid_file(options.pid_file, child.pid)
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


def write_pid_file(path: str, pid: int) -> None:
    """The pid without a newline, by rename, as go-runc reads it."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_SYNC | os.O_CLOEXEC, 0o666)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)


def load(root: str, id: str) -> Container:
    """A container that exists; NotFound otherwise."""
    record = state.load(root, id)
    unit = runc_config.unit_of(record.config)
    cgroups: Manager
    if unit is None:
        cgroups = manager_from_paths(record.cgroup_paths, rootless=record.rootless)
    else:
        cgroups = manager_from_unit(record.cgroup_paths, *unit, rootless=record.rootless)
    return Container(root, record, cgroups)


def delete_by_force(root: str, id: str) -> None:
    """Removes a container, killing it, or the folder that a create killed before its first record has left; none is fine."""
    try:
        container = load(root, id)
    except NotFound:
        state.remove(root, id)
        return
    container.delete(force=True)


class Container:
    """One container: its record on disk and its cgroups."""

    __slots__ = ("cgroups", "directory", "record", "root", "shares_cgroups")

    def __init__(self, root: str, record: state.State, cgroups: Manager) -> None:
        self.root = root
        self.record = record
        self.cgroups = cgroups
        self.directory = f"{root}/{record.id}"
        self.shares_cgroups = False

    @property
    def id(self) -> str:
        """The container ID."""
        return self.record.id

    @property
    def pid(self) -> int:
        """Host pid of init; 0 when create didn't get that far."""
        return self.record.init_pid

    @property
    def fifo(self) -> str:
        """The exec FIFO's path."""
        return f"{self.directory}/{state.FIFO_FILE}"

    def hook_state(self, status: str, pid: int) -> bytes:
        """What a hook reads on stdin."""
        return hooks.state_json(
            id=self.id,
            status=status,
            pid=pid,
            bundle=self.record.label("bundle"),
            annotations=self.record.annotations(),
            oci_version=self.record.config.get("version", ""),
        )

    def status(self) -> str:
        """created, running, paused or stopped, from what /proc and the files say now."""
        if not self.is_alive():
            return "stopped"
        if self.cgroups.is_frozen():
            return "paused"
        return "created" if os.path.lexists(self.fifo) else "running"

    def is_alive(self) -> bool:
        """Whether init is the process that was made, and no zombie."""
        if not self.pid:
            return False
        try:
            letter, start = proc.stat(self.pid)
        except ProcessLookupError:
            return False
        return letter not in ("Z", "X") and start == self.record.init_start

    def state(self) -> dict[str, Any]:
        """The document of `runc state`."""
        status = self.status()
        document = {
            "ociVersion": self.record.config.get("version", ""),
            "id": self.id,
            "pid": 0 if status == "stopped" else self.pid,
            "status": status,
            "bundle": self.record.label("bundle"),
            "rootfs": self.record.config.get("rootfs", ""),
            "created": self.record.created,
        }
        annotations = self.record.annotations()
        if annotations:
            document["annotations"] = annotations
        document["owner"] = ""
        return document

    def start(self) -> None:
        """Lets init go on to execve; FailedPrecondition unless the container is created."""
        fifo_fd, pidfd = self.open_fifo()
        try:
            poll = select.poll()
            poll.register(fifo_fd, select.POLLIN)
            poll.register(pidfd, select.POLLIN)
            with trace.span("exec.fifo"):
                poll.poll()
            self.finish_start(fifo_fd)
        finally:
            os.close(pidfd)
            os.close(fifo_fd)

    def _require_created(self) -> None:
        status = self.status()
        if status == "stopped":
            raise FailedPrecondition("cannot start a container that has stopped")
        if status != "created":
            raise FailedPrecondition("cannot start an already running container")

    def open_fifo(self) -> tuple[int, int]:
        """The first half of `start`: (exec.fifo, pidfd of init), both the caller's. One can be read once init has gone on
        or has ended; then it is `finish_start`'s turn."""
        self._require_created()
        # Init goes on with the FIFO's opening: it may have run and be gone, reaped by its parent, before the next call.
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError as error:
            raise FailedPrecondition("cannot start a container that has stopped") from error
        try:
            # Not blocking: init may be dead, and then no writer ever comes.
            return os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), pidfd
        except OSError:
            os.close(pidfd)
            raise

    def finish_start(self, fifo_fd: int) -> None:
        """The second half, with the FIFO that `open_fifo` gave (borrowed)."""
        if not os.read(fifo_fd, 16):
            if self.is_alive():
                raise FailedPrecondition("cannot start an already running container")
            raise FailedPrecondition("cannot start a container that has stopped")
        os.unlink(self.fifo)
        poststart = self.hooks("poststart")
        if poststart:
            try:
                hooks.run_all(poststart, self.hook_state("running", self.pid))
            except InitError as error:
                os.kill(self.pid, 9)
                raise Unknown(str(error)) from error

    def hooks(self, kind: str) -> list[dict[str, Any]]:
        """The hooks of one kind that the state keeps (poststart, poststop)."""
        return runc_config.hooks_of(self.record.config, kind)

    def kill(self, signal: int, all: bool = False) -> None:
        """Signals init, or everything in the container; FailedPrecondition when it isn't running."""
        status = self.status()
        if all:
            if status == "stopped" and not self.cgroups.exists():
                return
            self._signal_all(signal)
            return
        if status == "stopped":
            raise FailedPrecondition("container not running")
        try:
            os.kill(self.pid, signal)
        except ProcessLookupError:
            raise FailedPrecondition("os: process already finished") from None
        except OSError as e:
            raise Unknown(f"unable to signal init: {os.strerror(e.errno or 0).lower()}") from e
        if status == "paused" and signal == 9:
            self.cgroups.thaw()  # a frozen process dies only once it may run
        if not self.kills_by_init(signal):
            self._signal_all(9)

    def kills_by_init(self, signal: int) -> bool:
        """Whether a signal goes to init alone: SIGKILL without a pid namespace must find everybody."""
        return signal != 9 or self._has_own("NEWPID")

    def _has_own(self, kind: str) -> bool:
        return any(item.get("type") == kind for item in self.record.config.get("namespaces") or [])

    def _signal_all(self, signal: int) -> None:
        if signal == 9:
            self.cgroups.kill()
            return
        for pid in self.cgroups.pids():
            try:
                os.kill(pid, signal)
            except ProcessLookupError:
                continue

    def pause(self) -> None:
        """Freezes it; FailedPrecondition unless running or created."""
        if self.status() not in ("running", "created"):
            raise FailedPrecondition(f"container not running: {self.status()}")
        self.cgroups.freeze()

    def resume(self) -> None:
        """Thaws it; FailedPrecondition unless paused."""
        if self.status() != "paused":
            raise FailedPrecondition("container not paused")
        self.cgroups.thaw()

    def update(self, resources: dict[str, Any], schemata: dict[str, str] | None = None) -> None:
        """Writes new limits, and l3CacheSchema and memBwSchema where `schemata` has them; keeps them in the state."""
        if self.status() == "stopped":
            raise FailedPrecondition("container not running")
        if schemata:
            self._update_intel_rdt(schemata)
        self.cgroups.set(runc_config.complete(self.record.config, resources), update=True)
        runc_config.store_resources(self.record.config, resources)
        state.store(self.directory, self.record)

    def _update_intel_rdt(self, schemata: dict[str, str]) -> None:
        from pycontainerd.runtime.libcontainer.intelrdt import to_runc

        group = self.intel_rdt_group()
        if group is None:
            raise FailedPrecondition("updating a non-existent Intel RDT configuration is not supported")
        group.raw.update(schemata)
        group.set()  # the kernel takes a line whole or not at all
        self.record.config["intel_rdt"] = to_runc(group.raw)

    def new_intel_rdt_group(self, raw: dict[str, Any]) -> Group:
        """The group that create will make or use, with what has to be kept in the state before."""
        from pycontainerd.runtime.libcontainer import intelrdt

        group = intelrdt.Group(raw, self.id, intelrdt.find_root())
        group.intend()
        return group

    def intel_rdt_group(self) -> Group | None:
        """The resctrl group that the state names; None without one."""
        stored = self.record.config.get("intel_rdt")
        if stored is None or not self.record.intel_rdt_path:
            return None
        from pycontainerd.runtime.libcontainer import intelrdt

        return intelrdt.Group(
            intelrdt.from_runc(stored),
            self.id,
            intelrdt.find_root(),
            self.record.intel_rdt_path,
            self.record.intel_rdt_made,
        )

    def _remove_intel_rdt_group(self) -> None:
        group = self.intel_rdt_group()
        if group is None:
            return
        try:
            group.remove()
        except OSError as error:
            raise Unknown(
                f"unable to remove container's IntelRDT group: {go_error(error.errno or 0)}"
            ) from error

    def processes(self) -> list[int]:
        """Host pids of everything in it."""
        return self.cgroups.pids()

    def stats(self) -> dict[str, Any]:
        """The `data` of runc's stats event."""
        found = self.cgroups.stats()
        group = self.intel_rdt_group()
        if group is not None:
            found["intel_rdt"] = group.stats()
        return found

    def exec(self, options: ExecOptions) -> int:
        """Starts one more process in it; its pid."""
        from pycontainerd.runtime.libcontainer.exec import execute

        return execute(self, options)

    def delete(self, force: bool = False) -> None:
        """Removes it; a container that isn't stopped only with force (SIGKILL first)."""
        status = self.status()
        if status != "stopped":
            if not force and status != "created":
                raise FailedPrecondition(f"cannot delete container {self.id} that is not stopped: {status}\n")
            self._kill_and_wait(status)
        self.destroy()

    def delete_at_once(self) -> bool:
        """Removes a container that has ended; False where that could take time (hooks, processes that still die)."""
        if (
            not self.pid
            or not self._has_own("NEWPID")
            or self.hooks("poststop")
            or runc_config.unit_of(self.record.config) is not None  # systemd answers in its own time
            or self.status() != "stopped"
        ):
            return False
        try:
            self.cgroups.destroy(timeout_s=0)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
        self._remove_intel_rdt_group()
        state.remove(self.root, self.id)
        return True

    def _kill_and_wait(self, status: str) -> None:
        pidfd = os.pidfd_open(self.pid)
        try:
            self.kill(9)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(int(KILL_WAIT_S * 1000))
        except FailedPrecondition:
            pass  # it ended by itself
        finally:
            os.close(pidfd)
        deadline = time.monotonic() + 1
        while self.is_alive():
            if time.monotonic() > deadline:
                raise Unknown(f"container init still running ({status})")
            time.sleep(0.005)

    def destroy(self) -> None:
        """Removes what a stopped container left: processes, cgroups, files; then poststop hooks."""
        if not self.shares_cgroups:
            with trace.span("cgroup.destroy"):
                # A pid namespace dies with its init; without one, or after a create that died, somebody may be left.
                if not (self._has_own("NEWPID") and self.pid) and self.cgroups.pids():
                    self.cgroups.kill()
                self.cgroups.destroy()
        self._remove_intel_rdt_group()
        state.remove(self.root, self.id)
        document = self.hook_state("stopped", 0)
        for at, hook in enumerate(self.hooks("poststop")):
            try:
                hooks.prepare(at, hook, document)()
            except InitError as error:
                os.write(2, f"error running poststop hook: {error}\n".encode())

    def abandon(self) -> None:
        """What create undoes after an error; its own error is the one that matters."""
        try:
            self.destroy()
        except (OSError, ContainerdError) as error:
            os.write(2, f"unable to remove container {self.id}: {error}\n".encode())
