"""The service of runtime v1's shim, on the task service: one container, whose execs are named where it is.

    containerd.runtime.linux.shim.v1.Shim     containerd.task.v2.Task
    Start(id) State Kill Wait …               the same with id of the container, exec_id of the process
    Delete()                                  Delete of init          DeleteProcess(id)   Delete of an exec

The daemon tells clients of everything but exits itself, counts what a container uses, and ends the shim by SIGKILL.

Spec: containerd.runtime.linux.shim.v1.Shim
"""

from __future__ import annotations

import os

from pycontainerd.lib import errdefs
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import runctypes, shim_v1, task_types, task_v2, wkt
from pycontainerd.shim.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.shim.container import Container
    from pycontainerd.shim.flags import Flags
    from pycontainerd.shim.service import Service

_CREATE_OPTIONS = runctypes.CreateOptions.FULL_NAME
_OF_CREATE = ("no_pivot_root", "no_new_keyring", "io_uid", "io_gid")


class LinuxService:
    """The methods are named as on the wire."""

    def __init__(self, tasks: Service, flags: Flags) -> None:
        self._tasks = tasks
        self._flags = flags
        self._id = ""

    async def Create(self, request: shim_v1.CreateTaskRequest) -> shim_v1.CreateTaskResponse:  # noqa: N802 - wire name
        created = await self._tasks.create(
            task_v2.CreateTaskRequest(
                id=request.id,
                bundle=request.bundle,
                rootfs=request.rootfs,
                terminal=request.terminal,
                stdin=request.stdin,
                stdout=request.stdout,
                stderr=request.stderr,
                checkpoint=request.checkpoint,
                parent_checkpoint=request.parent_checkpoint,
            ),
            self._options(request),
            stored=False,
        )
        self._id = request.id
        return shim_v1.CreateTaskResponse(pid=created.pid)

    async def Start(self, request: shim_v1.StartRequest) -> shim_v1.StartResponse:  # noqa: N802
        exec_id = self._exec_id(request.id)
        started = await self._tasks.Start(task_v2.StartRequest(id=self._id, exec_id=exec_id))
        return shim_v1.StartResponse(id=request.id, pid=started.pid)

    async def Delete(self, request: wkt.Empty) -> shim_v1.DeleteResponse:  # noqa: N802
        self._container()
        return await self._delete("")

    async def DeleteProcess(self, request: shim_v1.DeleteProcessRequest) -> shim_v1.DeleteResponse:  # noqa: N802
        exec_id = self._exec_id(request.id)
        if not exec_id:
            raise errdefs.InvalidArgument("cannot delete init process with DeleteProcess")
        return await self._delete(exec_id)

    async def Exec(self, request: shim_v1.ExecProcessRequest) -> wkt.Empty:  # noqa: N802
        if request.id == self._container().id:
            raise errdefs.AlreadyExists(f"id {request.id}: already exists")
        return await self._tasks.Exec(
            task_v2.ExecProcessRequest(
                id=self._id,
                exec_id=request.id,
                terminal=request.terminal,
                stdin=request.stdin,
                stdout=request.stdout,
                stderr=request.stderr,
                spec=request.spec,
            )
        )

    # -- what is going on ---------------------------------------------------------------------------------------------

    async def State(self, request: shim_v1.StateRequest) -> shim_v1.StateResponse:  # noqa: N802
        state = await self._tasks.State(task_v2.StateRequest(id=self._id, exec_id=self._exec_id(request.id)))
        return shim_v1.StateResponse(
            id=state.id,
            bundle=state.bundle,
            pid=state.pid,
            status=state.status,
            stdin=state.stdin,
            stdout=state.stdout,
            stderr=state.stderr,
            terminal=state.terminal,
            exit_status=state.exit_status,
            exited_at=state.exited_at,
        )

    async def ListPids(self, request: shim_v1.ListPidsRequest) -> shim_v1.ListPidsResponse:  # noqa: N802
        container = self._container()
        names = {each.pid: each.id for each in (*container.execs.values(), container.init)}
        pids = await container.init.runtime.processes(container.id)
        return shim_v1.ListPidsResponse(processes=[_process_info(pid, names.get(pid, "")) for pid in pids])

    async def Wait(self, request: shim_v1.WaitRequest) -> shim_v1.WaitResponse:  # noqa: N802
        end = await self._tasks.Wait(task_v2.WaitRequest(id=self._id, exec_id=self._exec_id(request.id)))
        return shim_v1.WaitResponse(exit_status=end.exit_status, exited_at=end.exited_at)

    async def ShimInfo(self, request: wkt.Empty) -> shim_v1.ShimInfoResponse:  # noqa: N802
        return shim_v1.ShimInfoResponse(shim_pid=os.getpid())

    # -- what is done to it -------------------------------------------------------------------------------------------

    async def Kill(self, request: shim_v1.KillRequest) -> wkt.Empty:  # noqa: N802
        exec_id = self._exec_id(request.id or self._container().id)
        return await self._tasks.Kill(
            task_v2.KillRequest(id=self._id, exec_id=exec_id, signal=request.signal, all=request.all)
        )

    async def Pause(self, request: wkt.Empty) -> wkt.Empty:  # noqa: N802
        return await self._tasks.Pause(task_v2.PauseRequest(id=self._container().id))

    async def Resume(self, request: wkt.Empty) -> wkt.Empty:  # noqa: N802
        return await self._tasks.Resume(task_v2.ResumeRequest(id=self._container().id))

    async def Update(self, request: shim_v1.UpdateTaskRequest) -> wkt.Empty:  # noqa: N802
        container = self._container()
        return await self._tasks.Update(
            task_v2.UpdateTaskRequest(id=container.id, resources=request.resources)
        )

    async def ResizePty(self, request: shim_v1.ResizePtyRequest) -> wkt.Empty:  # noqa: N802
        try:
            exec_id = self._exec_id(request.id)
        except errdefs.NotFound as e:
            raise errdefs.Unknown(f"process does not exist {request.id}") from e
        return await self._tasks.ResizePty(
            task_v2.ResizePtyRequest(id=self._id, exec_id=exec_id, width=request.width, height=request.height)
        )

    async def CloseIO(self, request: shim_v1.CloseIORequest) -> wkt.Empty:  # noqa: N802
        exec_id = self._exec_id(request.id)
        return await self._tasks.CloseIO(
            task_v2.CloseIORequest(id=self._id, exec_id=exec_id, stdin=request.stdin)
        )

    async def Checkpoint(self, request: shim_v1.CheckpointTaskRequest) -> wkt.Empty:  # noqa: N802
        return await self._tasks.Checkpoint(task_v2.CheckpointTaskRequest(id=self._container().id))

    # -- helpers ------------------------------------------------------------------------------------------------------

    async def _delete(self, exec_id: str) -> shim_v1.DeleteResponse:
        end = await self._tasks.Delete(task_v2.DeleteRequest(id=self._id, exec_id=exec_id))
        return shim_v1.DeleteResponse(pid=end.pid, exit_status=end.exit_status, exited_at=end.exited_at)

    def _container(self) -> Container:
        container = self._tasks.find(self._id)
        if container is None:
            raise errdefs.FailedPrecondition("container must be created: failed precondition")
        return container

    def _exec_id(self, id: str) -> str:
        """What the task service calls a process: "" for init."""
        container = self._tasks.find(self._id)
        if container is None or (id != container.id and id not in container.execs):
            raise errdefs.NotFound(f"process {id} does not exist: not found")
        return "" if id == container.id else id

    def _options(self, request: shim_v1.CreateTaskRequest) -> Options:
        """The task API's options, from the command line and the request's own."""
        values: dict[str, str | int | bool] = {
            "binary_name": request.runtime,
            "systemd_cgroup": self._flags.systemd_cgroup,
            "criu_path": self._flags.criu,
        }
        given = request.options
        if given is not None and given.value:
            if not anys.is_type(given, runctypes.CreateOptions):
                raise errdefs.InvalidArgument(
                    f"unsupported option type {given.type_url!r}, want {_CREATE_OPTIONS}"
                )
            message = runctypes.CreateOptions.FromString(given.value)
            values |= {name: getattr(message, name) for name in _OF_CREATE}
        return Options(values)


def _process_info(pid: int, name: str) -> task_types.ProcessInfo:
    if not name:
        return task_types.ProcessInfo(pid=pid)
    return task_types.ProcessInfo(pid=pid, info=anys.pack(runctypes.ProcessDetails(exec_id=name)))
