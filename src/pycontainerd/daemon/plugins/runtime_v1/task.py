"""A task of runtime v1, spoken to through its shim.

What the later shims do themselves is the daemon's here: to tell clients of everything but exits, to count what a
container uses, to watch for the kernel killing in it for memory, and to end the shim.

Spec: containerd.runtime.linux.shim.v1.Shim, containerd 1.6 runtime/v1/linux
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.plugins.runtime_v2.shim import Shim, any_of, exit_of, typed_of
from pycontainerd.daemon.plugins.runtime_v2.shim_log import ShimLog
from pycontainerd.lib import cgroup_folders, cgroup_metrics
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.full import events, shim_v1, wkt
from pycontainerd.lib.cgroups.oom import OomWatch
from pycontainerd.lib.errdefs import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pycontainerd.daemon.core.tasks import CreateOptions, Exit, ProcessState
    from pycontainerd.daemon.plugins.runtime_v1.command import LinuxBundle, LinuxCommand
    from pycontainerd.daemon.plugins.runtime_v2.exits import ExitReports
    from pycontainerd.lib.ttrpc.aio import Client

    Publish = Callable[[str, str, TypedValue], None]

_SERVICE: Final = "containerd.runtime.linux.shim.v1.Shim"
_EXIT_PATIENCE_S: Final = 3.0
_EXIT_STEP_S: Final = 0.01
_CREATE_OPTIONS: Final = "containerd.linux.runc.CreateOptions"


class LinuxShim(Shim):
    """Implements core.tasks.Task."""

    def __init__(
        self, command: LinuxCommand, client: Client, publish: Publish, exits: ExitReports, log_fd: int
    ) -> None:
        bundle: LinuxBundle = command.bundle
        super().__init__(bundle, command, client, 1, ShimLog(bundle.log_paths[0], log_fd))
        self._api, self._service = shim_v1, _SERVICE
        self._runtime = command.runtime
        self._tell = publish
        self._exits = exits
        self._errors = ShimLog(bundle.log_paths[1], log_fd)
        self._oom: OomWatch | None = None
        self._oom_poll: select.epoll | None = None

    def _process(self, exec_id: str) -> dict[str, str]:
        return {"id": exec_id or self.id}

    async def create(self, options: CreateOptions) -> int:
        given = options.options
        request = self._create_request(replace(options, options=None))
        request.runtime = self._runtime
        if given is not None and given.type_url.endswith(_CREATE_OPTIONS):
            request.options.CopyFrom(any_of(given))
        self._pid = int((await self._call("Create", request, shim_v1.CreateTaskResponse)).pid)
        self._watch_memory()
        created = events.TaskCreate(
            container_id=self.id,
            bundle=self.bundle.path,
            rootfs=list(request.rootfs),
            io=events.TaskIO(
                stdin=request.stdin, stdout=request.stdout, stderr=request.stderr, terminal=request.terminal
            ),
            checkpoint=request.checkpoint,
            pid=self._pid,
        )
        self._publish("/tasks/create", created)
        return self._pid

    def adopt(self, state: ProcessState) -> None:
        self._pid = state.pid
        self._watch_memory()

    async def pid(self) -> int:
        if not self._pid:
            self._pid = (await self.state()).pid
        return self._pid

    async def start(self, exec_id: str = "") -> int:
        pid = await super().start(exec_id)
        if exec_id:
            started = events.TaskExecStarted(container_id=self.id, exec_id=exec_id, pid=pid)
            self._publish("/tasks/exec-started", started)
        else:
            self._publish("/tasks/start", events.TaskStart(container_id=self.id, pid=pid))
        return pid

    async def delete_process(self, exec_id: str) -> Exit:
        if exec_id:
            request = shim_v1.DeleteProcessRequest(id=exec_id)
            return exit_of(await self._call("DeleteProcess", request, shim_v1.DeleteResponse))
        answer = await self._call("Delete", wkt.Empty(), shim_v1.DeleteResponse)
        self._stop_watching()
        end = exit_of(answer)
        await self._exit_is_told(end)
        deleted = events.TaskDelete(
            container_id=self.id, pid=answer.pid, exit_status=answer.exit_status, exited_at=answer.exited_at
        )
        self._publish("/tasks/delete", deleted)
        return end

    async def _exit_is_told(self, end: Exit) -> None:
        """Lets the shim finish telling of the exit, by a program for each, before it is killed; else tells it here."""
        if end.exited_nanos <= 0:
            return  # deleted before it was started
        deadline = asyncio.get_running_loop().time() + _EXIT_PATIENCE_S
        while not self._exits.was_reported(self.namespace, self.id):
            if asyncio.get_running_loop().time() > deadline:
                self._exits.report_exit(self.namespace, self.id, end)
                return
            await asyncio.sleep(_EXIT_STEP_S)

    async def pids(self) -> Sequence[tuple[int, TypedValue | None]]:
        answer = await self._call("ListPids", shim_v1.ListPidsRequest(id=self.id), shim_v1.ListPidsResponse)
        return [(p.pid, typed_of(p, "info")) for p in answer.processes]

    async def pause(self) -> None:
        await self._call("Pause", wkt.Empty(), wkt.Empty)
        self._publish("/tasks/paused", events.TaskPaused(container_id=self.id))

    async def resume(self) -> None:
        await self._call("Resume", wkt.Empty(), wkt.Empty)
        self._publish("/tasks/resumed", events.TaskResumed(container_id=self.id))

    async def checkpoint(self, path: str, options: TypedValue | None) -> None:
        request = shim_v1.CheckpointTaskRequest(path=path, options=any_of(options))
        await self._call("Checkpoint", request, wkt.Empty)

    async def update(self, resources: TypedValue | None, annotations: Mapping[str, str]) -> None:
        # Annotations are newer than this service, which has no field for them.
        await self._call("Update", shim_v1.UpdateTaskRequest(resources=any_of(resources)), wkt.Empty)

    async def stats(self) -> TypedValue | None:
        try:
            folders = cgroup_folders.locate(await self.pid())
        except OSError as e:
            raise NotFound("cgroup does not exist: not found") from e
        metrics = anys.pack(cgroup_metrics.collect(folders))
        return TypedValue(metrics.type_url, metrics.value)

    async def shim_pid(self, timeout_s: float) -> int:
        """The shim's own."""
        return int((await self._call("ShimInfo", wkt.Empty(), shim_v1.ShimInfoResponse, timeout_s)).shim_pid)

    async def shutdown(self, timeout_s: float) -> None:
        """SIGKILL, as containerd does it: the service has no method for it."""
        pid = await self.shim_pid(timeout_s)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.client.closed.wait()
        self._remove_socket()

    def close(self) -> None:
        self._stop_watching()
        self._errors.close()
        super().close()

    def _watch_memory(self) -> None:
        """Tells clients when the kernel kills in the container; not being able to is no reason to refuse it."""
        try:
            self._oom = OomWatch(cgroup_folders.locate(self._pid))
        except (OSError, KeyError):
            return
        # The event loop asks for POLLIN only, which a version 2 file always has: in between is who asks for the right one.
        self._oom_poll = select.epoll()
        self._oom_poll.register(self._oom.fileno(), self._oom.events)
        asyncio.get_running_loop().add_reader(self._oom_poll.fileno(), self._on_memory)

    def _on_memory(self) -> None:
        if self._oom is not None and self._oom.count():
            self._publish("/tasks/oom", events.TaskOOM(container_id=self.id))
        elif self._oom is not None and not self._oom.is_there():
            self._stop_watching()

    def _stop_watching(self) -> None:
        watch, poll = self._oom, self._oom_poll
        self._oom = self._oom_poll = None
        if watch is not None and poll is not None:
            asyncio.get_running_loop().remove_reader(poll.fileno())
            poll.close()
            watch.close()

    def _publish(self, topic: str, message: Any) -> None:
        value = TypedValue(anys.full_name(message), message.SerializeToString())
        self._tell(self.namespace, topic, value)

    def _remove_socket(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.bundle.read("address").removeprefix("unix://"))
