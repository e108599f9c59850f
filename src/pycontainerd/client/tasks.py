"""Tasks and processes: create, start, wait, signal, exec, delete.

Spec: containerd tasks service
"""

from __future__ import annotations

from pycontainerd.lib import errdefs
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import tasks_v1, types, wkt

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    from pycontainerd.client.cio import Streams
    from pycontainerd.client.client import Client, Reply
    from pycontainerd.lib.api.codec import Message
    from pycontainerd.lib.api.light import task_types
    from pycontainerd.lib.oci.image import Descriptor

UNKNOWN_EXIT_STATUS: Final = 255
STOP_SIGNAL_LABEL: Final = "io.containerd.image.config.stop-signal"


class ExitStatus:
    """How a process ended: `code` is 128+signal for a killed one; `at` when."""

    __slots__ = ("at", "code")

    def __init__(self, code: int, at: wkt.Timestamp) -> None:
        self.code = code
        self.at = at


class Process:
    """The init process of a task, or one exec in it (`exec_id`)."""

    __slots__ = ("client", "container_id", "exec_id", "pid")

    def __init__(self, client: Client, container_id: str, exec_id: str = "", pid: int = 0) -> None:
        self.client = client
        self.container_id = container_id
        self.exec_id = exec_id
        self.pid = pid

    def start(self) -> int:
        """Runs it; the pid."""
        reply: tasks_v1.StartResponse = self.client.call(
            tasks_v1.TASKS,
            "Start",
            tasks_v1.StartRequest(container_id=self.container_id, exec_id=self.exec_id),
        )
        self.pid = reply.pid or self.pid
        return self.pid

    def start_wait(self) -> Reply:
        """Asks for the exit without waiting; give the reply to `exit_status` once it is done."""
        return self.client.start(
            tasks_v1.TASKS,
            "Wait",
            tasks_v1.WaitRequest(container_id=self.container_id, exec_id=self.exec_id),
        )

    def kill(self, signal: int, *, everything: bool = False) -> None:
        """Sends a signal; NotFound when it is gone."""
        self.client.call(
            tasks_v1.TASKS,
            "Kill",
            tasks_v1.KillRequest(
                container_id=self.container_id, exec_id=self.exec_id, signal=signal, all=everything
            ),
        )

    def resize(self, width: int, height: int) -> None:
        """Tells the terminal its size in cells."""
        self.client.call(
            tasks_v1.TASKS,
            "ResizePty",
            tasks_v1.ResizePtyRequest(
                container_id=self.container_id, exec_id=self.exec_id, width=width, height=height
            ),
        )

    def close_stdin(self) -> None:
        """Lets the process see the end of its input, without waiting for the answer: it may have ended meanwhile."""
        self.client.call_later(
            tasks_v1.TASKS,
            "CloseIO",
            tasks_v1.CloseIORequest(container_id=self.container_id, exec_id=self.exec_id, stdin=True),
            allowed=(errdefs.NotFound, errdefs.FailedPrecondition),
        )

    def info(self) -> task_types.Process:
        """State, pid and stdio; NotFound when it is gone."""
        reply: tasks_v1.GetResponse = self.client.call(
            tasks_v1.TASKS,
            "Get",
            tasks_v1.GetRequest(container_id=self.container_id, exec_id=self.exec_id),
        )
        return reply.process

    def delete(self) -> ExitStatus:
        """Removes a stopped process; FailedPrecondition while it runs."""
        if self.exec_id:
            request: Message = tasks_v1.DeleteProcessRequest(
                container_id=self.container_id, exec_id=self.exec_id
            )
            reply: Any = self.client.call(tasks_v1.TASKS, "DeleteProcess", request)
        else:
            request = tasks_v1.DeleteTaskRequest(container_id=self.container_id)
            reply = self.client.call(tasks_v1.TASKS, "Delete", request)
        return ExitStatus(reply.exit_status, reply.exited_at)


def exit_status(reply: Reply) -> ExitStatus:
    """The outcome of `start_wait`."""
    result: tasks_v1.WaitResponse = reply.result()
    return ExitStatus(result.exit_status, result.exited_at)


def create(
    client: Client,
    container_id: str,
    rootfs: Sequence[types.Mount],
    streams: Streams,
    options: Message | None = None,
    *,
    checkpoint: Descriptor | None = None,
) -> Process:
    """A created task, its process not yet running; AlreadyExists when the container has one.

    With a checkpoint the process goes on from what was dumped.
    """
    wire = (
        None
        if checkpoint is None
        else types.Descriptor(
            media_type=checkpoint.media_type, digest=checkpoint.digest, size=checkpoint.size
        )
    )
    reply: tasks_v1.CreateTaskResponse = client.call(
        tasks_v1.TASKS,
        "Create",
        tasks_v1.CreateTaskRequest(
            container_id=container_id,
            rootfs=list(rootfs),
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            terminal=streams.terminal,
            checkpoint=wire,
            options=None if options is None else anys.pack(options),
        ),
    )
    return Process(client, container_id, pid=reply.pid)


def load(client: Client, container_id: str) -> Process:
    """The task of a container; NotFound, with ctr's text, when there is none."""
    return begin_load(client, container_id)()


def begin_load(client: Client, container_id: str) -> Callable[[], Process]:
    """Asks for the task of a container; what is returned waits for the answer and is `load`'s."""
    reply = client.start(tasks_v1.TASKS, "Get", tasks_v1.GetRequest(container_id=container_id))

    def load_() -> Process:
        try:
            answer: tasks_v1.GetResponse = client.wait(reply)
        except errdefs.NotFound as error:
            raise errdefs.NotFound(f"no running task found: {error}") from error
        return Process(client, container_id, pid=answer.process.pid)

    return load_


def exec_process(client: Client, container_id: str, exec_id: str, spec: bytes, streams: Streams) -> Process:
    """A further process, not yet running; `spec` is a runtime-spec process document."""
    client.call(
        tasks_v1.TASKS,
        "Exec",
        tasks_v1.ExecProcessRequest(
            container_id=container_id,
            exec_id=exec_id,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            terminal=streams.terminal,
            spec=wkt.Any(type_url=anys.PROCESS_URL, value=spec),
        ),
    )
    return Process(client, container_id, exec_id)


def walk(client: Client) -> list[task_types.Process]:
    """The tasks of the namespace."""
    reply: tasks_v1.ListTasksResponse = client.call(tasks_v1.TASKS, "List", tasks_v1.ListTasksRequest())
    return list(reply.tasks)


def pids(client: Client, container_id: str) -> list[task_types.ProcessInfo]:
    """The processes in a task's cgroup."""
    reply: tasks_v1.ListPidsResponse = client.call(
        tasks_v1.TASKS, "ListPids", tasks_v1.ListPidsRequest(container_id=container_id)
    )
    return list(reply.processes)


def pause(client: Client, container_id: str) -> None:
    """Freezes a task."""
    client.call(tasks_v1.TASKS, "Pause", tasks_v1.PauseTaskRequest(container_id=container_id))


def resume(client: Client, container_id: str) -> None:
    """Thaws a task."""
    client.call(tasks_v1.TASKS, "Resume", tasks_v1.ResumeTaskRequest(container_id=container_id))


def metrics(client: Client, container_id: str) -> types.Metric:
    """One sample of a task's cgroup; NotFound when there is none."""
    reply: tasks_v1.MetricsResponse = client.call(
        tasks_v1.TASKS, "Metrics", tasks_v1.MetricsRequest(filters=[f"id=={container_id}"])
    )
    if not reply.metrics:
        raise errdefs.NotFound(f"no metrics received for container {container_id}")
    return reply.metrics[0]
