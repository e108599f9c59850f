"""The task service: each method of containerd.task.v2 and v3 once, on this shim's containers.

    request bytes -> message -> method below -> message -> bytes        (server.py does the two ends)
    method -> process/ -> runtime (libcontainer.py or runc.py)
    method -> events: create, start, exec-added, exec-started, exit (init's last), delete

Spec: containerd docs/runtime-v2.md, containerd.task.v2.Task
"""

from __future__ import annotations

import os

from pycontainerd.lib import cgroup_folders, errdefs, trace
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import events, runc_v1, task_types, task_v2, wkt
from pycontainerd.shim import options as runtime_options
from pycontainerd.shim import rootfs
from pycontainerd.shim.container import Container
from pycontainerd.shim.future import spawn
from pycontainerd.shim.io import Stdio
from pycontainerd.shim.io_open import Owner
from pycontainerd.shim.process import state
from pycontainerd.shim.process.init import Init, require_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from pycontainerd.shim.attendant import Pack, Unpack
    from pycontainerd.shim.oom import OomWatcher
    from pycontainerd.shim.options import Options
    from pycontainerd.shim.process.base import Process
    from pycontainerd.shim.process.init import Runtime
    from pycontainerd.shim.publisher import Publisher
    from pycontainerd.shim.reaper import Exit
    from pycontainerd.shim.world import World

    class MakeRuntime(Protocol):
        """serve.make_runtime."""

        def __call__(
            self, world: World, bundle: str, options: Options, *, is_first: bool = ...
        ) -> Runtime: ...


class Service:
    """The methods are named as on the wire; `METHODS` of server.py finds them by that name."""

    def __init__(
        self,
        world: World,
        publisher: Publisher,
        make_runtime: MakeRuntime,
        oom: OomWatcher,
        shutdown: Callable[[], None],
    ) -> None:
        self._world = world
        self._publisher = publisher
        self._make_runtime = make_runtime
        self._oom = oom
        self._shutdown = shutdown
        self._containers: dict[str, Container] = {}
        self.was_used = False  # a Create has come in
        # Pids that are starting right now are unknown or not yet announced: exits wait here until they are.
        self._starting = 0
        self._early_exits: dict[int, Exit] = {}
        self._unannounced: set[int] = set()

    # -- rest ---------------------------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Whether nothing is under way, and nobody's end has been seen that was not told."""
        return not self._starting and all(each.is_quiet() for each in self._containers.values())

    def logger_pids(self) -> set[int]:
        """Of logger programs, which end with their containers."""
        return {pid for each in self._containers.values() for pid in each.logger_pids()}

    def pack(self, pack: Pack) -> dict[str, Any]:
        """For `unpack`; only when it is quiet."""
        return {
            "containers": [each.pack(pack) for each in self._containers.values()],
            "oom": self._oom.pack(pack),
        }

    def unpack(self, packed: dict[str, Any], found: Unpack) -> None:
        """Takes over the containers of the service before."""
        self.was_used = True
        for each in packed["containers"]:
            container = Container.unpack(self._world, each, found, self._make_runtime)
            self._containers[container.id] = container
        self._oom.unpack(packed["oom"], found)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def Create(self, request: task_v2.CreateTaskRequest) -> task_v2.CreateTaskResponse:  # noqa: N802 - wire name
        return await self.create(request, runtime_options.from_any(request.options), stored=True)

    async def create(
        self, request: task_v2.CreateTaskRequest, options: Options, *, stored: bool
    ) -> task_v2.CreateTaskResponse:
        """Makes the container; stored: whether the bundle keeps the options, for the delete action."""
        log = self._world.log
        self.was_used = True
        log.debug("Create")
        log.debug("CreateTaskRequest", **_fields(request))
        if request.checkpoint:
            raise errdefs.Unimplemented("restoring from a checkpoint is not supported by this shim")
        if request.id in self._containers:
            raise errdefs.AlreadyExists(f"container {request.id}: already exists")
        if stored:
            with trace.span("store options"):
                runtime_options.store(request.bundle, options)
        log.debug("rootfs", mounts=len(request.rootfs))
        root = self._mount_rootfs(request)
        stdio = Stdio(request.stdin, request.stdout, request.stderr, request.terminal)
        owner = Owner(request.id, self._world.namespace, options)
        is_first = not self._containers and not self._starting
        runtime = self._make_runtime(self._world, request.bundle, options, is_first=is_first)
        init = Init(self._world, request.id, stdio, owner, runtime)
        container = Container(self._world, request.id, request.bundle, options, init, root)
        log.debug("calling p.create")
        self._begin_start()
        try:
            await init.create()
        except BaseException:
            self._unmount(root)
            self._end_start(None, 0)
            raise
        self._containers[request.id] = container
        # Once the answer is out: init waits for `start`, so that nothing can be missed.
        self._world.loop.later(0, lambda: self._watch(container))
        self._publish("/tasks/create", _created(request, init.pid))
        self._end_start(container, init.pid)
        return task_v2.CreateTaskResponse(pid=init.pid)

    async def Start(self, request: task_v2.StartRequest) -> task_v2.StartResponse:  # noqa: N802
        self._world.log.debug("Start", id=request.id, exec_id=request.exec_id)
        container = self._container(request.id)
        process = container.process(request.exec_id)
        if request.exec_id and container.init_exit is not None:
            raise errdefs.FailedPrecondition(
                f"container {container.id} init process is not running: failed precondition"
            )
        is_exec = process is not container.init
        container.running_execs += is_exec
        self._begin_start(process.pid)
        try:
            with trace.span("task start", id=request.id, exec_id=request.exec_id):
                await process.start()
        except BaseException:
            container.running_execs -= is_exec
            self._end_start(container, process.pid)
            self._publish_init_exit_if_last(container)
            raise
        if is_exec:
            started = events.TaskExecStarted(container_id=container.id, exec_id=process.id, pid=process.pid)
            self._publish("/tasks/exec-started", started)
        else:
            self._publish("/tasks/start", events.TaskStart(container_id=container.id, pid=process.pid))
        self._end_start(container, process.pid)
        return task_v2.StartResponse(pid=process.pid)

    async def Delete(self, request: task_v2.DeleteRequest) -> task_v2.DeleteResponse:  # noqa: N802
        self._world.log.debug("Delete", id=request.id, exec_id=request.exec_id)
        container = self._container(request.id)
        process = container.process(request.exec_id)
        await process.delete()
        exited_at = timestamp(process.exited_at_nanos)
        if process is container.init:
            self._unmount(container.rootfs)
            self._containers.pop(request.id, None)
            deleted = events.TaskDelete(
                container_id=container.id,
                pid=process.pid,
                exit_status=process.exit_status,
                exited_at=exited_at,
            )
            self._publish("/tasks/delete", deleted)
        else:
            container.execs.pop(request.exec_id, None)
        return task_v2.DeleteResponse(pid=process.pid, exit_status=process.exit_status, exited_at=exited_at)

    async def Exec(self, request: task_v2.ExecProcessRequest) -> wkt.Empty:  # noqa: N802
        container = self._container(request.id)
        container.add_exec(request)
        added = events.TaskExecAdded(container_id=container.id, exec_id=request.exec_id)
        self._publish("/tasks/exec-added", added)
        return wkt.Empty()

    # -- what is going on ---------------------------------------------------------------------------------------------

    async def State(self, request: task_v2.StateRequest) -> task_v2.StateResponse:  # noqa: N802
        container = self._container(request.id)
        process = container.process(request.exec_id)
        return task_v2.StateResponse(
            id=process.id,
            bundle=container.bundle,
            pid=process.pid,
            status=state.WIRE_STATUS.get(process.status, 0),
            stdin=process.stdio.stdin,
            stdout=process.stdio.stdout,
            stderr=process.stdio.stderr,
            terminal=process.stdio.terminal,
            exit_status=process.exit_status,
            exited_at=timestamp(process.exited_at_nanos),
        )

    async def Pids(self, request: task_v2.PidsRequest) -> task_v2.PidsResponse:  # noqa: N802
        container = self._container(request.id)
        exec_ids = {each.pid: each.id for each in container.execs.values()}
        pids = await container.init.runtime.processes(container.id)
        return task_v2.PidsResponse(processes=[_process_info(pid, exec_ids.get(pid, "")) for pid in pids])

    async def Wait(self, request: task_v2.WaitRequest) -> task_v2.WaitResponse:  # noqa: N802
        process = self._container(request.id).process(request.exec_id)
        await process.wait()
        return task_v2.WaitResponse(
            exit_status=process.exit_status, exited_at=timestamp(process.exited_at_nanos)
        )

    async def Stats(self, request: task_v2.StatsRequest) -> task_v2.StatsResponse:  # noqa: N802
        from pycontainerd.lib import cgroup_metrics

        container = self._container(request.id)
        return task_v2.StatsResponse(stats=anys.pack(cgroup_metrics.collect(container.cgroups)))

    def _watch(self, container: Container) -> None:
        """Finds the cgroups of a new container, for stats and OOM events."""
        if container.init_exit is not None:
            return  # killed before it could be started
        with trace.span("watch cgroups"):
            container.cgroups = self._locate_cgroups(container.init.pid)
            self._oom.add(container.id, container.cgroups)

    async def Connect(self, request: task_v2.ConnectRequest) -> task_v2.ConnectResponse:  # noqa: N802
        container = self._containers.get(request.id)
        return task_v2.ConnectResponse(
            shim_pid=self._world.shim_pid, task_pid=container.init.pid if container is not None else 0
        )

    # -- what is done to it -------------------------------------------------------------------------------------------

    async def Kill(self, request: task_v2.KillRequest) -> wkt.Empty:  # noqa: N802
        process = self._container(request.id).process(request.exec_id)
        await process.kill(request.signal, request.all)
        return wkt.Empty()

    async def Pause(self, request: task_v2.PauseRequest) -> wkt.Empty:  # noqa: N802
        container = self._container(request.id)
        await container.init.pause()
        self._publish("/tasks/paused", events.TaskPaused(container_id=container.id))
        return wkt.Empty()

    async def Resume(self, request: task_v2.ResumeRequest) -> wkt.Empty:  # noqa: N802
        container = self._container(request.id)
        await container.init.resume()
        self._publish("/tasks/resumed", events.TaskResumed(container_id=container.id))
        return wkt.Empty()

    async def Update(self, request: task_v2.UpdateTaskRequest) -> wkt.Empty:  # noqa: N802
        container = self._container(request.id)
        # As in the stock shim the document counts, not what its type is called.
        require_resources(request.resources.value)
        await container.init.update(request.resources.value)
        return wkt.Empty()

    async def ResizePty(self, request: task_v2.ResizePtyRequest) -> wkt.Empty:  # noqa: N802
        process = self._container(request.id).process(request.exec_id)
        process.resize(request.width, request.height)
        return wkt.Empty()

    async def CloseIO(self, request: task_v2.CloseIORequest) -> wkt.Empty:  # noqa: N802
        process = self._container(request.id).process(request.exec_id)
        if request.stdin:
            process.close_stdin()
        return wkt.Empty()

    async def Checkpoint(self, request: task_v2.CheckpointTaskRequest) -> wkt.Empty:  # noqa: N802
        raise errdefs.Unimplemented("checkpoint is not supported by this shim")

    async def Shutdown(self, request: task_v2.ShutdownRequest) -> wkt.Empty:  # noqa: N802
        if not self._containers:
            self._shutdown()
        return wkt.Empty()

    # -- exits --------------------------------------------------------------------------------------------------------

    def on_exit(self, exited: Exit) -> None:
        """An exit nobody in the shim waited for: a container's process, or a stray child that is nobody's."""
        if exited.pid in self._unannounced:
            self._early_exits[exited.pid] = exited
            return
        for container in self._containers.values():
            process = container.find(exited.pid)
            if process is not None and process.state not in (state.STOPPED, state.DELETED):
                self._handle_exit(container, process, exited)
                return
        if self._starting:
            self._early_exits[exited.pid] = exited

    def _begin_start(self, pid: int = 0) -> None:
        self._starting += 1
        if pid:
            self._unannounced.add(pid)

    def _end_start(self, container: Container | None, pid: int) -> None:
        """The start has been announced, or has failed: an exit that came too early is told now."""
        self._starting -= 1
        self._unannounced.discard(pid)
        early = self._early_exits.pop(pid, None)
        if not self._starting:
            self._early_exits.clear()
        if early is not None and container is not None:
            process = container.find(pid)
            if process is not None:
                self._handle_exit(container, process, early)

    def _handle_exit(self, container: Container, process: Process, exited: Exit) -> None:
        if process is not container.init:
            self._announce_exit(container, process, exited)
            container.running_execs -= 1
            self._publish_init_exit_if_last(container)
            return
        container.init_exit = exited
        if container.shares_pid_namespace():
            spawn(self._kill_all(container))
        self._publish_init_exit_if_last(container)

    async def _kill_all(self, container: Container) -> None:
        try:
            await container.init.runtime.kill(container.id, 9, everyone=True)
        except errdefs.ContainerdError as e:
            self._world.log.error("failed to kill init's children", error=e, id=container.id)

    def _publish_init_exit_if_last(self, container: Container) -> None:
        if container.init_exit is None or container.running_execs:
            return
        if container.init.state in (state.STOPPED, state.DELETED):
            return
        self._oom.remove(container.id)
        self._announce_exit(container, container.init, container.init_exit)

    def _announce_exit(self, container: Container, process: Process, exited: Exit) -> None:
        process.set_exited(exited)
        message = events.TaskExit(
            container_id=container.id,
            id=process.id,
            pid=exited.pid,
            exit_status=exited.status,
            exited_at=timestamp(exited.at_nanos),
        )
        self._publish("/tasks/exit", message)

    # -- helpers ------------------------------------------------------------------------------------------------------

    def on_oom(self, container_id: str) -> None:
        """The kernel killed something of the container for memory."""
        self._publish("/tasks/oom", events.TaskOOM(container_id=container_id))

    def summary(self) -> list[str]:
        """A line for each process of each container, for people."""
        lines = []
        for container in self._containers.values():
            lines.append(f"{container.id} {container.init.status} pid={container.init.pid}")
            lines += [f"  {each.id} {each.status} pid={each.pid}" for each in container.execs.values()]
        return lines

    def find(self, id: str) -> Container | None:
        """A container of this shim."""
        return self._containers.get(id)

    def _container(self, id: str) -> Container:
        container = self._containers.get(id)
        if container is None:
            raise errdefs.NotFound("container not created: not found")
        return container

    def _publish(self, topic: str, message: object) -> None:
        self._publisher.publish(topic, message)

    def _locate_cgroups(self, pid: int) -> dict[str, str]:
        try:
            return cgroup_folders.locate(pid)
        except OSError as e:
            self._world.log.warning("could not find the container's cgroups", error=e)
            return {}

    def _mount_rootfs(self, request: task_v2.CreateTaskRequest) -> str:
        """The mount point, or nothing when the daemon has prepared the rootfs itself."""
        if not request.rootfs:
            return ""
        path = f"{request.bundle}/rootfs"
        try:
            os.mkdir(path, 0o711)
        except FileExistsError:
            pass  # made by the daemon with the bundle
        rootfs.mount_all(request.rootfs, path)
        return path

    def _unmount(self, path: str) -> None:
        if not path:
            return
        try:
            rootfs.unmount_recursive(path)
        except OSError as e:
            self._world.log.warning("failed to cleanup rootfs mount", error=e)


def timestamp(at_nanos: int) -> wkt.Timestamp:
    """Go's zero time, year 1, for something that has not happened."""
    if not at_nanos:
        return wkt.Timestamp(seconds=-62135596800)
    seconds, nanos = divmod(at_nanos, 1_000_000_000)
    return wkt.Timestamp(seconds=seconds, nanos=nanos)


def _created(request: task_v2.CreateTaskRequest, pid: int) -> events.TaskCreate:
    return events.TaskCreate(
        container_id=request.id,
        bundle=request.bundle,
        rootfs=list(request.rootfs),
        io=events.TaskIO(
            stdin=request.stdin, stdout=request.stdout, stderr=request.stderr, terminal=request.terminal
        ),
        checkpoint=request.checkpoint,
        pid=pid,
    )


def _process_info(pid: int, exec_id: str) -> task_types.ProcessInfo:
    if not exec_id:
        return task_types.ProcessInfo(pid=pid)
    return task_types.ProcessInfo(pid=pid, info=anys.pack(runc_v1.ProcessDetails(exec_id=exec_id)))


def _fields(request: task_v2.CreateTaskRequest) -> dict[str, object]:
    return {
        "id": request.id,
        "bundle": request.bundle,
        "terminal": request.terminal,
        "stdin": request.stdin,
        "stdout": request.stdout,
        "stderr": request.stderr,
        "checkpoint": request.checkpoint,
        "options": request.options.type_url,
    }
