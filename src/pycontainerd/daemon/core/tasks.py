"""Tasks: what runs for a container record, seen through its shim.

Spec: containerd tasks/v1, runtime v2 task API
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.snapshots import Mount
    from pycontainerd.daemon.core.typed import TypedValue


class Status(IntEnum):
    """Spec: containerd.v1.types.Status"""

    UNKNOWN = 0
    CREATED = 1
    RUNNING = 2
    STOPPED = 3
    PAUSED = 4
    PAUSING = 5


@dataclass(frozen=True, slots=True)
class Streams:
    """Where a process's stdio goes: FIFO paths or containerd's stdio URIs, "" for none."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A process as its shim sees it. `exited_nanos` since 1970; 0 means it has not."""

    id: str
    pid: int
    status: int
    streams: Streams
    exit_status: int = 0
    exited_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    pid: int
    status: int
    exited_nanos: int


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """All a task needs. `options` belong to the shim; `runtime` is a name or an absolute path."""

    spec: bytes
    runtime: str
    options: TypedValue | None = None
    rootfs: Sequence[Mount] = ()
    streams: Streams = Streams()
    checkpoint: str = ""
    sandbox: str = ""  # whose shim serves the task; "" for a shim of its own


class Task(Protocol):
    """A container's task; `exec_id` "" means its init process. Async; raises errdefs."""

    id: str
    namespace: str

    async def pid(self) -> int: ...

    async def state(self, exec_id: str = "", timeout_s: float = 0) -> ProcessState:
        """DeadlineExceeded when the shim does not answer in time; 0 waits for ever."""
        ...

    async def start(self, exec_id: str = "") -> int:
        """The pid of what runs now."""
        ...

    async def kill(self, signal: int, exec_id: str = "", *, all: bool = False) -> None: ...

    async def wait(self, exec_id: str = "") -> Exit: ...

    async def exec(self, exec_id: str, spec: TypedValue, streams: Streams) -> None: ...

    async def delete_process(self, exec_id: str) -> Exit: ...

    async def pids(self) -> Sequence[tuple[int, TypedValue | None]]: ...

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def resize_pty(self, width: int, height: int, exec_id: str = "") -> None: ...

    async def close_stdin(self, exec_id: str = "") -> None: ...

    async def checkpoint(self, path: str, options: TypedValue | None) -> None: ...

    async def update(self, resources: TypedValue | None, annotations: Mapping[str, str]) -> None: ...

    async def stats(self) -> TypedValue | None: ...


class TaskManager(Protocol):
    """All tasks. Async; raises errdefs."""

    async def create(self, scope: Scope, id: str, options: CreateOptions) -> Task: ...

    def get(self, namespace: str, id: str) -> Task:
        """NotFound."""
        ...

    def list(self, namespace: str) -> Sequence[Task]:
        """Of one namespace, or of all for ""."""
        ...

    async def delete(self, scope: Scope, id: str) -> Exit:
        """Deletes a stopped task and lets its shim go."""
        ...
