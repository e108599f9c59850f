"""A task, spoken to through its shim.

Implements core.tasks.Task over one ttrpc connection, in the task API version the shim asked for; runtime_v1/task.py
overrides what is different in the API before it.

Spec: containerd.task.v2.Task and v3.Task (the same messages under two names)
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pycontainerd.daemon.core.tasks import Exit, ProcessState, Streams
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.lib import identifiers, trace
from pycontainerd.lib.api.full import task_v2, task_v3, types, wkt
from pycontainerd.lib.errdefs import ContainerdError, NotFound, Unknown
from pycontainerd.lib.ttrpc.client import Closed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pycontainerd.daemon.core.tasks import CreateOptions
    from pycontainerd.daemon.plugins.runtime_v2.bundle import Bundle
    from pycontainerd.daemon.plugins.runtime_v2.runtime import Command
    from pycontainerd.daemon.plugins.runtime_v2.shim_log import ShimLog
    from pycontainerd.lib.ttrpc.aio import Client


class Shim:
    """One connected task. `deleted` is set when the task was deleted in the ordinary way."""

    def __init__(self, bundle: Bundle, command: Command, client: Client, version: int, log: ShimLog) -> None:
        self.bundle = bundle
        self.command = command
        self.client = client
        self.deleted = False
        self._log = log
        self._api: Any = task_v3 if version >= 3 else task_v2  # the messages of _service
        self._service = f"containerd.task.v{3 if version >= 3 else 2}.Task"
        self._metadata = {"containerd-namespace-ttrpc": bundle.namespace}
        self._pid = 0  # of init, once it has been created here

    @property
    def id(self) -> str:
        return self.bundle.id

    @property
    def namespace(self) -> str:
        return self.bundle.namespace

    async def create(self, options: CreateOptions) -> int:
        """Creates the container; the pid of its init."""
        response = await self._call("Create", self._create_request(options), self._api.CreateTaskResponse)
        self._pid = int(response.pid)
        return self._pid

    def _create_request(self, options: CreateOptions) -> Any:
        return self._api.CreateTaskRequest(
            id=self.id,
            bundle=self.bundle.path,
            rootfs=[
                types.Mount(type=m.type, source=m.source, target=m.target, options=list(m.options))
                for m in options.rootfs
            ],
            stdin=options.streams.stdin,
            stdout=options.streams.stdout,
            stderr=options.streams.stderr,
            terminal=options.streams.terminal,
            checkpoint=options.checkpoint,
            options=any_of(options.options),
        )

    def _process(self, exec_id: str) -> dict[str, str]:
        """The fields that name an exec, with "" the task's init."""
        return {"id": self.id, "exec_id": exec_id}

    def adopt(self, state: ProcessState) -> None:
        """Goes on with a task that an earlier daemon created."""

    async def pid(self) -> int:
        return self._pid or int((await self.connect()).task_pid)

    async def connect(self, timeout_s: float = 0) -> Any:
        """The shim's own pid and its task's."""
        request = self._api.ConnectRequest(id=self.id)
        return await self._call("Connect", request, self._api.ConnectResponse, timeout_s)

    async def state(self, exec_id: str = "", timeout_s: float = 0) -> ProcessState:
        request = self._api.StateRequest(**self._process(exec_id))
        try:
            response = await self._call("State", request, self._api.StateResponse, timeout_s)
        except Unknown as e:
            if isinstance(e.__cause__, Closed):
                raise NotFound("not found") from e
            raise
        return ProcessState(
            id=exec_id or self.id,
            pid=response.pid,
            status=response.status,
            streams=Streams(response.stdin, response.stdout, response.stderr, response.terminal),
            exit_status=response.exit_status,
            exited_nanos=_nanos(response.exited_at) if response.HasField("exited_at") else None,
        )

    async def start(self, exec_id: str = "") -> int:
        request = self._api.StartRequest(**self._process(exec_id))
        return int((await self._call("Start", request, self._api.StartResponse)).pid)

    async def kill(self, signal: int, exec_id: str = "", *, all: bool = False) -> None:
        request = self._api.KillRequest(**self._process(exec_id), signal=signal, all=all)
        await self._call("Kill", request, wkt.Empty)

    async def wait(self, exec_id: str = "") -> Exit:
        request = self._api.WaitRequest(**self._process(exec_id))
        response = await self._call("Wait", request, self._api.WaitResponse)
        return Exit(0, response.exit_status, _nanos(response.exited_at))

    async def exec(self, exec_id: str, spec: TypedValue, streams: Streams) -> None:
        try:
            identifiers.require_valid(exec_id)
        except ContainerdError as e:
            raise type(e)(f"invalid exec id {exec_id}: {e}") from e
        request = self._api.ExecProcessRequest(
            **self._process(exec_id),
            terminal=streams.terminal,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            spec=any_of(spec),
        )
        await self._call("Exec", request, wkt.Empty)

    async def delete_process(self, exec_id: str) -> Exit:
        """Deletes an exec; with "" the task's init."""
        request = self._api.DeleteRequest(id=self.id, exec_id=exec_id)
        return exit_of(await self._call("Delete", request, self._api.DeleteResponse))

    async def pids(self) -> Sequence[tuple[int, TypedValue | None]]:
        response = await self._call("Pids", self._api.PidsRequest(id=self.id), self._api.PidsResponse)
        return [(p.pid, typed_of(p, "info")) for p in response.processes]

    async def pause(self) -> None:
        await self._call("Pause", self._api.PauseRequest(id=self.id), wkt.Empty)

    async def resume(self) -> None:
        await self._call("Resume", self._api.ResumeRequest(id=self.id), wkt.Empty)

    async def resize_pty(self, width: int, height: int, exec_id: str = "") -> None:
        request = self._api.ResizePtyRequest(**self._process(exec_id), width=width, height=height)
        await self._call("ResizePty", request, wkt.Empty)

    async def close_stdin(self, exec_id: str = "") -> None:
        request = self._api.CloseIORequest(**self._process(exec_id), stdin=True)
        await self._call("CloseIO", request, wkt.Empty)

    async def checkpoint(self, path: str, options: TypedValue | None) -> None:
        request = self._api.CheckpointTaskRequest(id=self.id, path=path, options=any_of(options))
        await self._call("Checkpoint", request, wkt.Empty)

    async def update(self, resources: TypedValue | None, annotations: Mapping[str, str]) -> None:
        request = self._api.UpdateTaskRequest(
            id=self.id, resources=any_of(resources), annotations=dict(annotations)
        )
        await self._call("Update", request, wkt.Empty)

    async def stats(self) -> TypedValue | None:
        response = await self._call("Stats", self._api.StatsRequest(id=self.id), self._api.StatsResponse)
        return typed_of(response, "stats")

    async def shutdown(self, timeout_s: float) -> None:
        """Asks the shim to leave; it stays while it has other containers. One that is gone already is fine."""
        try:
            await self._call("Shutdown", self._api.ShutdownRequest(id=self.id), wkt.Empty, timeout_s)
        except Unknown as e:
            if not isinstance(e.__cause__, Closed):
                raise

    def close(self) -> None:
        """Ends the connection and the log copy; the shim lives on."""
        self.client.close()
        self._log.close()

    async def _call(self, method: str, request: Any, response: Any, timeout_s: float = 0) -> Any:
        with _shim_errors(), trace.span(f"shim.{method}", id=self.id):
            payload = await self.client.call(
                self._service, method, request.SerializeToString(), self._metadata, timeout_s
            )
        return response.FromString(payload)


@contextmanager
def _shim_errors() -> Iterator[None]:
    """A shim's error in the words a client of containerd gets: its text ends with its class."""
    try:
        yield
    except Closed as e:
        raise Unknown("ttrpc: closed: unknown") from e
    except ContainerdError as e:
        text = str(e)
        if text == e.reason or text.endswith(f": {e.reason}"):
            raise
        raise type(e)(f"{text}: {e.reason}", hint=e.hint) from e


def any_of(value: TypedValue | None) -> wkt.Any | None:
    """The message of a value."""
    return None if value is None else wkt.Any(type_url=value.type_url, value=value.value)


def typed_of(message: Any, field: str) -> TypedValue | None:
    """The value of a message's field, None where it isn't set."""
    if not message.HasField(field):
        return None
    value = getattr(message, field)
    return TypedValue(value.type_url, value.value)


def exit_of(response: Any) -> Exit:
    """What a shim answers to a deletion."""
    return Exit(response.pid, response.exit_status, _nanos(response.exited_at))


def _nanos(message: Any) -> int:
    return int(message.seconds) * 1_000_000_000 + int(message.nanos)
