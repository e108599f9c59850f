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
from pycontainerd.lib.cgroups import manager_from_paths, manager_from_unit
from pycontainerd.lib.errdefs import ContainerdError, FailedPrecondition, NotFound, Unknown
from pycontainerd.lib.linux import process as proc
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.runtime.libcontainer import runc_config, state
from pycontainerd.runtime.libcontainer.init.program import InitError
from pycontainerd.runtime.libcontainer.options import CreateOptions, ExecOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.lib.cgroups import Manager
    from pycontainerd.lib.log import Logger
    from pycontainerd.runtime.libcontainer.intelrdt import Group
    from pycontainerd.runtime.libcontainer.parent import Steps

__all__ = ["Container", "CreateOptions", "ExecOptions", "create", "load"]

# The kernel has taken those limits away.
KERNEL_MEMORY = "Kernel memory settings are ignored and will be removed"
KILL_WAIT_S = 10.0


def create(options: CreateOptions) -> Container:
    """Makes a container whose init waits on exec.fifo; on an error nothing of it is left."""
    from pycontainerd.runtime.libcontainer.create import execute

    return execute(options)


def load(root: str, id: str, log: Logger | None = None) -> Container:
    """A container that exists; NotFound otherwise. `log` is told what goes wrong without being an error."""
    record = state.load(root, id)
    unit = runc_config.unit_of(record.config)
    cgroups: Manager
    if unit is None:
        cgroups = manager_from_paths(record.cgroup_paths, rootless=record.rootless)
    else:
        cgroups = manager_from_unit(record.cgroup_paths, *unit, rootless=record.rootless)
    return Container(root, record, cgroups, log)


def delete_by_force(root: str, id: str, log: Logger | None = None) -> None:
    """Removes a container, killing it, or the folder that a create killed before its first record has left; none is fine."""
    try:
        container = load(root, id, log)
    except NotFound:
        state.remove(root, id)
        return
    container.delete(force=True)


class Container:
    """One container: its record on disk and its cgroups."""

    __slots__ = ("_log", "cgroups", "directory", "record", "root", "shares_cgroups")

    def __init__(self, root: str, record: state.State, cgroups: Manager, log: Logger | None = None) -> None:
        self._log = log
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
        from pycontainerd.runtime.libcontainer import hooks

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
                from pycontainerd.runtime.libcontainer import hooks

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
            raise Unknown(f"unable to signal init: {go_error(e.errno or 0)}") from e
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

    def exec_steps(self, options: ExecOptions) -> Steps[int] | None:
        """The same for a caller that has something else to do (exec.steps); None when the container could keep it waiting."""
        from pycontainerd.runtime.libcontainer import exec as exec_

        return exec_.steps(self, options) if exec_.is_free_of_the_container(self, options) else None

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
        wanted = self.hooks("poststop")
        if not wanted:
            return
        from pycontainerd.runtime.libcontainer import hooks

        document = self.hook_state("stopped", 0)
        for at, hook in enumerate(wanted):
            try:
                hooks.prepare(at, hook, document)()
            except InitError as error:
                self._warn(f"poststop: {error}")  # runtime-spec: and all goes on as if it had succeeded

    def abandon(self) -> None:
        """What create undoes after an error; its own error is the one that matters."""
        try:
            self.destroy()
        except (OSError, ContainerdError) as error:
            self._warn(f"unable to remove container {self.id}: {error}")

    def _warn(self, text: str) -> None:
        if self._log is None:
            from pycontainerd.lib.log import Logger

            self._log = Logger(2)
        self._log.warning(text)
