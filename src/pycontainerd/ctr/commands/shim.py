"""`ctr shim`: straight to a container's shim by ttrpc; works without a daemon."""

from __future__ import annotations

from pycontainerd.ctr import display, shim_socket
from pycontainerd.ctr.command import Command, only_subcommands
from pycontainerd.ctr.commands.pprof import profiles
from pycontainerd.ctr.flags import BOOL, INT, STRING, STRINGS, Flag
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
    if call.group_flags.text("shim-address"):
        return [call.group_flags.text("shim-address").removeprefix("unix://")]
    return shim_socket.candidates(call.root_flags.text("address"), call.namespace, container_id)


def _connected(call: Call) -> ShimClient:
    """A connection to the container's shim, the caller's to close."""
    import os

    from pycontainerd.lib.ttrpc.client import Client

    container_id = call.group_flags.text("id")
    if not container_id and not call.group_flags.text("shim-address"):
        raise InvalidArgument(
            "container id must be specified", hint="shim --id ID ..., or shim --shim-address SOCKET ..."
        )
    for path in _addresses(call, container_id):
        if os.path.exists(path):
            return Client.connect(path)
    raise NotFound(
        f"fail to connect to container {container_id}'s shim",
        hint="is the id right, and --namespace and --address the ones it was started with?",
    )


def _call(call: Call, method: str, request: Message, version: int = 2) -> Any:
    """A call of the task API; its messages are the same in both versions."""
    from pycontainerd.lib.api.light import task_v2, task_v3

    service = task_v2.TASK if version == 2 else task_v3.TASK
    with _connected(call) as client:
        payload = client.call(
            service.name,
            method,
            request.SerializeToString(),
            {"containerd-namespace-ttrpc": call.namespace},
        )
    return service.method(method).response.FromString(payload)


def _version(call: Call) -> int:
    version = call.flags.number("api-version")
    if version not in {2, 3}:
        raise InvalidArgument("api-version must be 2 or 3")
    return version


def _shutdown(call: Call) -> int:
    """A shim that has containers stays."""
    from pycontainerd.lib.api.light import task_v2

    version = _version(call)
    request = task_v2.ShutdownRequest(id=call.group_flags.text("id"))
    _call(call, "Shutdown", request, version)
    return 0


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

    version = _version(call)
    task_id = call.flags.text("task-id") or call.group_flags.text("id")
    reply = _call(call, "State", task_v2.StateRequest(id=task_id), version)
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


_API_VERSION = Flag(
    "api-version",
    INT,
    "task API to speak, 2 or 3; every shim speaks 2, those of containerd 2 both",
    default=2,
)
COMMANDS = (
    Command(
        "delete",
        "delete the stopped task",
        _delete,
        description="ctr shim --id web delete",
    ),
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
        description="ctr shim --id web exec -a sh1 /bin/sh -c 'echo hi'",
    ),
    Command(
        "start",
        "start the created task",
        _start,
        description="of a task that was created by somebody else and not started",
    ),
    Command(
        "state",
        "print the state of the task",
        _state,
        arguments="[flags]",
        flags=(
            Flag("task-id, t", STRING, "task to look at, where the shim has several; --id by default"),
            _API_VERSION,
        ),
        description="as JSON: ctr shim --id web state",
    ),
    Command(
        "shutdown",
        "have the shim end, if it has no container left",
        _shutdown,
        arguments="[flags]",
        flags=(_API_VERSION,),
    ),
    Command(
        "pprof",
        "what the shim's debug socket tells",
        only_subcommands,
        subcommands=profiles(shim_socket.of_profiles),
    ),
)
