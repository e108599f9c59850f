"""Tasks: containers that run, and the processes in them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core import filters
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.core.tasks import CreateOptions, ProcessState, Status, Streams, Task, TaskManager
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import runc_v1, task_types, tasks_v1, types, wkt
from pycontainerd.lib.errdefs import (
    ContainerdError,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.containers import Container, ContainerStore

_CHECKPOINT_OPTIONS: Final = "containerd.runc.v1.CheckpointOptions"


class TasksService:
    """containerd.services.tasks.v1.Tasks."""

    def __init__(
        self,
        containers: ContainerStore,
        tasks: TaskManager,
        pools: Pools,
        log_error: Callable[..., None],
        *,
        state_timeout_s: float = 2,
    ) -> None:
        self._containers = containers
        self._tasks = tasks
        self._pools = pools
        self._log_error = log_error
        self._state_timeout_s = state_timeout_s

    async def create(self, call: Call, request: tasks_v1.CreateTaskRequest) -> tasks_v1.CreateTaskResponse:
        container = self._container(call, request.container_id)
        if request.HasField("checkpoint"):
            raise Unimplemented(
                "restoring from a checkpoint image is not built: not implemented",
                hint="restore from a folder with the image path of the task's options",
            )
        assert container.spec is not None
        options = wire.typed(request, "options") or container.runtime_options
        create = CreateOptions(
            spec=container.spec.value,
            runtime=request.runtime_path or container.runtime_name,
            options=options,
            rootfs=wire.core_mounts(request.rootfs),
            streams=Streams(request.stdin, request.stdout, request.stderr, request.terminal),
            sandbox=container.sandbox,
        )
        task = await self._tasks.create(call.scope, request.container_id, create)
        return tasks_v1.CreateTaskResponse(container_id=request.container_id, pid=await task.pid())

    async def start(self, call: Call, request: tasks_v1.StartRequest) -> tasks_v1.StartResponse:
        # The shim itself says whether it knows the exec, here and where else it is asked for one right away.
        task = await self._task(call, request.container_id)
        return tasks_v1.StartResponse(pid=await task.start(request.exec_id))

    async def delete(self, call: Call, request: tasks_v1.DeleteTaskRequest) -> tasks_v1.DeleteResponse:
        await self._task(call, request.container_id)
        end = await self._tasks.delete(call.scope, request.container_id)
        return tasks_v1.DeleteResponse(
            pid=end.pid, exit_status=end.status, exited_at=wire.timestamp(end.exited_nanos)
        )

    async def delete_process(
        self, call: Call, request: tasks_v1.DeleteProcessRequest
    ) -> tasks_v1.DeleteResponse:
        task = await self._task(call, request.container_id)
        end = await task.delete_process(request.exec_id)
        return tasks_v1.DeleteResponse(
            id=request.exec_id,
            pid=end.pid,
            exit_status=end.status,
            exited_at=wire.timestamp(end.exited_nanos),
        )

    async def get(self, call: Call, request: tasks_v1.GetRequest) -> tasks_v1.GetResponse:
        task = await self._task(call, request.container_id)
        return tasks_v1.GetResponse(process=await self._process(task, request.exec_id))

    async def list(self, call: Call, request: tasks_v1.ListTasksRequest) -> tasks_v1.ListTasksResponse:
        del request
        tasks = self._tasks.list(call.scope.namespace)
        found = await asyncio.gather(*(self._listed(task) for task in tasks))
        return tasks_v1.ListTasksResponse(tasks=[process for process in found if process is not None])

    async def kill(self, call: Call, request: tasks_v1.KillRequest) -> wkt.Empty:
        task = await self._task(call, request.container_id, request.exec_id)
        # `all` is the task's: an exec is one process.
        await task.kill(request.signal, request.exec_id, all=request.all and not request.exec_id)
        return wire.EMPTY

    async def exec(self, call: Call, request: tasks_v1.ExecProcessRequest) -> wkt.Empty:
        if not request.exec_id:
            raise InvalidArgument("exec id cannot be empty")
        task = await self._task(call, request.container_id)
        spec = wire.typed(request, "spec") or TypedValue()
        streams = Streams(request.stdin, request.stdout, request.stderr, request.terminal)
        await task.exec(request.exec_id, spec, streams)
        return wire.EMPTY

    async def resize_pty(self, call: Call, request: tasks_v1.ResizePtyRequest) -> wkt.Empty:
        task = await self._task(call, request.container_id, request.exec_id)
        await task.resize_pty(request.width, request.height, request.exec_id)
        return wire.EMPTY

    async def close_io(self, call: Call, request: tasks_v1.CloseIORequest) -> wkt.Empty:
        task = await self._task(call, request.container_id, request.exec_id)
        if request.stdin:
            await task.close_stdin(request.exec_id)
        return wire.EMPTY

    async def pause(self, call: Call, request: tasks_v1.PauseTaskRequest) -> wkt.Empty:
        await (await self._task(call, request.container_id)).pause()
        return wire.EMPTY

    async def resume(self, call: Call, request: tasks_v1.ResumeTaskRequest) -> wkt.Empty:
        await (await self._task(call, request.container_id)).resume()
        return wire.EMPTY

    async def list_pids(self, call: Call, request: tasks_v1.ListPidsRequest) -> tasks_v1.ListPidsResponse:
        task = await self._task(call, request.container_id)
        processes = [
            task_types.ProcessInfo(pid=pid, info=wire.any_of(info)) for pid, info in await task.pids()
        ]
        return tasks_v1.ListPidsResponse(processes=processes)

    async def checkpoint(
        self, call: Call, request: tasks_v1.CheckpointTaskRequest
    ) -> tasks_v1.CheckpointTaskResponse:
        task = await self._task(call, request.container_id)
        options = wire.typed(request, "options")
        path = ""
        if options is not None:
            if not options.type_url.endswith(_CHECKPOINT_OPTIONS):
                raise Unknown(f"type with url {options.type_url}: not found")
            path = runc_v1.CheckpointOptions.FromString(options.value).image_path
        if not path:
            raise Unimplemented(
                "checkpointing into the content store is not built: not implemented",
                hint="give the folder to write to: ctr tasks checkpoint --image-path",
            )
        await task.checkpoint(path, options)
        return tasks_v1.CheckpointTaskResponse()

    async def update(self, call: Call, request: tasks_v1.UpdateTaskRequest) -> wkt.Empty:
        task = await self._task(call, request.container_id)
        await task.update(wire.typed(request, "resources"), dict(request.annotations))
        return wire.EMPTY

    async def metrics(self, call: Call, request: tasks_v1.MetricsRequest) -> tasks_v1.MetricsResponse:
        try:
            matches = filters.parse_all(request.filters)
        except InvalidArgument as e:
            raise Unknown(str(e)) from e  # containerd gives it no code
        tasks = [t for t in self._tasks.list(call.scope.namespace) if matches(_adaptor(t))]
        metrics = await asyncio.gather(*(self._metric(task) for task in tasks))
        return tasks_v1.MetricsResponse(metrics=[metric for metric in metrics if metric is not None])

    async def wait(self, call: Call, request: tasks_v1.WaitRequest) -> tasks_v1.WaitResponse:
        task = await self._task(call, request.container_id)
        end = await task.wait(request.exec_id)
        return tasks_v1.WaitResponse(exit_status=end.status, exited_at=wire.timestamp(end.exited_nanos))

    def _container(self, call: Call, id: str) -> Container:
        return self._pools.quick(self._containers.get, call.scope, id)

    async def _task(self, call: Call, id: str, exec_id: str = "") -> Task:
        """A container's task; with `exec_id` it must have that process too."""
        self._container(call, id)
        task = self._tasks.get(call.scope.namespace, id)
        if exec_id:
            await task.state(exec_id)
        return task

    async def _listed(self, task: Task) -> task_types.Process | None:
        """None for a task that was deleted while we listed."""
        try:
            return await self._process(task, "")
        except NotFound:
            return None

    async def _process(self, task: Task, exec_id: str) -> task_types.Process:
        try:
            state = await task.state(exec_id, self._state_timeout_s)
        except (Unknown, DeadlineExceeded) as e:
            self._log_error(f"get state for {exec_id or task.id}", error=str(e))
            state = ProcessState(exec_id or task.id, 0, Status.UNKNOWN, Streams())
        return _process_to_wire(state)

    async def _metric(self, task: Task) -> types.Metric | None:
        collected = now_nanos()
        try:
            stats = await task.stats()
        except NotFound:
            return None
        except ContainerdError as e:
            self._log_error(f"collecting metrics for {task.id}", error=str(e))
            return None
        return types.Metric(timestamp=wire.timestamp(collected), id=task.id, data=wire.any_of(stats))


def _process_to_wire(state: ProcessState) -> task_types.Process:
    return task_types.Process(
        id=state.id,
        pid=state.pid,
        status=state.status,
        stdin=state.streams.stdin,
        stdout=state.streams.stdout,
        stderr=state.streams.stderr,
        terminal=state.streams.terminal,
        exit_status=state.exit_status,
        exited_at=None if state.exited_nanos is None else wire.timestamp(state.exited_nanos),
    )


def _adaptor(task: Task) -> filters.Adaptor:
    def field_value(path: Sequence[str]) -> str | None:
        match tuple(path):
            case ("id",):
                return task.id
            case ("namespace",):
                return task.namespace
            case _:
                return None

    return field_value
