"""`ctr shim`: straight to a container's shim by ttrpc; works without a daemon."""

from __future__ import annotations

from pycontainerd.ctr import display
from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import BOOL, STRING, STRINGS, Flag
from pycontainerd.lib.errdefs import InvalidArgument, NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.codec import Message
    from pycontainerd.lib.ttrpc.client import Client as ShimClient

FLAGS = (
    Flag("id", STRING, "container id"),
    Flag("shim-address", STRING, "socket of the shim, instead of the one that goes with the id"),
)


def _addresses(call: Call, container_id: str) -> list[str]:
    from pycontainerd.ctr import shim_socket

    if call.group_flags.text("shim-address"):
        return [call.group_flags.text("shim-address").removeprefix("unix://")]
    return shim_socket.candidates(call.root_flags.text("address"), call.namespace, container_id)


def _connected(call: Call) -> ShimClient:
    """A connection to the container's shim, the caller's to close."""
    import os

    from pycontainerd.lib.ttrpc.client import Client

    container_id = call.group_flags.text("id")
    if not container_id:
        raise InvalidArgument("container id must be specified")
    for path in _addresses(call, container_id):
        if os.path.exists(path):
            return Client.connect(path)
    raise NotFound(
        f"fail to connect to container {container_id}'s shim",
        hint="is the id right, and --namespace and --address the ones it was started with?",
    )


def _call(call: Call, method: str, request: Message) -> Any:
    from pycontainerd.lib.api.light import task_v2

    with _connected(call) as client:
        payload = client.call(
            task_v2.TASK.name,
            method,
            request.SerializeToString(),
            {"containerd-namespace-ttrpc": call.namespace},
        )
    return task_v2.TASK.method(method).response.FromString(payload)


def _exec(call: Call) -> int:
    from pycontainerd.ctr import shim_exec

    if not call.group_flags.text("id"):
        raise InvalidArgument("container id must be specified")
    if not call.argument(0):
        raise InvalidArgument("exec id must be provided")
    with _connected(call) as client:
        return shim_exec.run(call, client, call.group_flags.text("id"))


def _state(call: Call) -> int:
    from pycontainerd.ctr.metrics_view import as_json
    from pycontainerd.lib.api.light import task_v2

    reply = _call(call, "State", task_v2.StateRequest(id=call.group_flags.text("id")))
    document = as_json(reply)
    exited = reply.exited_at
    document["exited_at"] = (
        display.rfc3339(exited.seconds, exited.nanos)
        if reply.HasField("exited_at")
        else "0001-01-01T00:00:00Z"
    )
    exec_id = document.pop("exec_id", None)
    if exec_id:
        document["exec_id"] = exec_id
    display.write_json(document)
    return 0


def _delete(call: Call) -> int:
    from pycontainerd.lib.api.light import task_v2

    reply = _call(call, "Delete", task_v2.DeleteRequest(id=call.group_flags.text("id")))
    display.write(f"container deleted and returned exit status {reply.exit_status}\n")
    return 0


def _start(call: Call) -> int:
    from pycontainerd.lib.api.light import task_v2

    _call(call, "Start", task_v2.StartRequest(id=call.group_flags.text("id")))
    return 0


COMMANDS = (
    Command("delete", "delete the stopped task", _delete),
    Command(
        "exec",
        "run a further process in the container",
        _exec,
        arguments="[flags] EXEC-ID COMMAND [ARG...]",
        flags=(
            Flag("stdin", STRING, "FIFO that its input comes from"),
            Flag("stdout", STRING, "FIFO that its output goes to"),
            Flag("stderr", STRING, "FIFO that its errors go to"),
            Flag("tty, t", BOOL, "give it a terminal"),
            Flag("attach, a", BOOL, "copy its stdio until it has ended, and end with its status"),
            Flag("env, e", STRINGS, "environment variable (NAME=value)"),
            Flag("cwd", STRING, "working directory"),
            Flag("spec", STRING, "file of the whole process, as JSON of the runtime-spec"),
        ),
        anywhere=False,
    ),
    Command("start", "start the created task", _start),
    Command("state", "print the state of the task", _state),
)
