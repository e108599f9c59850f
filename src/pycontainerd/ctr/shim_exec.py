"""`ctr shim exec`: a further process in a container, by its shim alone; works without a daemon."""

from __future__ import annotations

import os

from pycontainerd.client import cio
from pycontainerd.client.client import Reply
from pycontainerd.ctr import attachment, display
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import task_v2, wkt
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci import document as documents

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.codec import Message
    from pycontainerd.lib.ttrpc.client import Client


class _Process:
    """One exec of a shim, with what following it in the foreground needs."""

    def __init__(self, shim: Client, namespace: str, container_id: str, exec_id: str) -> None:
        self._shim = shim
        self._metadata = {"containerd-namespace-ttrpc": namespace}
        self._id, self._exec_id = container_id, exec_id
        self.pid = 0

    def call(self, method: str, request: Message) -> Any:
        """One call of the task service."""
        payload = self._shim.call(task_v2.TASK.name, method, request.SerializeToString(), self._metadata)
        return task_v2.TASK.method(method).response.FromString(payload)

    def start(self) -> int:
        """Runs it; the pid."""
        self.pid = int(self.call("Start", task_v2.StartRequest(id=self._id, exec_id=self._exec_id)).pid)
        return self.pid

    def start_wait(self) -> Reply:
        """Asks for the exit without waiting."""
        request = task_v2.WaitRequest(id=self._id, exec_id=self._exec_id).SerializeToString()
        pending = self._shim.start(task_v2.TASK.name, "Wait", request, self._metadata)
        return Reply(task_v2.TASK.method("Wait"), pending)

    def kill(self, signal: int) -> None:
        """Sends a signal."""
        self.call("Kill", task_v2.KillRequest(id=self._id, exec_id=self._exec_id, signal=signal))

    def resize(self, width: int, height: int) -> None:
        """Tells the terminal its size in cells."""
        self.call(
            "ResizePty",
            task_v2.ResizePtyRequest(id=self._id, exec_id=self._exec_id, width=width, height=height),
        )

    def close_stdin(self) -> None:
        """Lets the process see the end of its input; not waited for, as it may have ended meanwhile."""
        request = task_v2.CloseIORequest(id=self._id, exec_id=self._exec_id, stdin=True).SerializeToString()
        self._shim.start(task_v2.TASK.name, "CloseIO", request, self._metadata)


def run(call: Call, shim: Client, container_id: str) -> int:
    """The command on a connected shim: starts the process, and with --attach follows it and ends with its status."""
    exec_id, args = call.argument(0), call.arguments[1:]
    flags = call.flags
    spec = _spec(call, args)
    attach = flags.on("attach")
    stdio = _stdio(call, exec_id) if attach else attachment.Stdio(_streams(call))
    process = _Process(shim, call.namespace, container_id, exec_id)
    try:
        request = task_v2.ExecProcessRequest(
            id=container_id,
            exec_id=exec_id,
            terminal=flags.on("tty"),
            stdin=stdio.streams.stdin,
            stdout=stdio.streams.stdout,
            stderr=stdio.streams.stderr,
            spec=wkt.Any(type_url=anys.PROCESS_URL, value=spec),
        )
        process.call("Exec", request)
        if not attach:
            display.write(f"exec running with pid {process.start()}\n")
            return 0
        try:
            return attachment.follow(shim, process, stdio).code
        finally:
            process.call("Delete", task_v2.DeleteRequest(id=container_id, exec_id=exec_id))
    finally:
        stdio.close()


def _spec(call: Call, args: list[str]) -> bytes:
    """The process document: --spec's, or one of the flags."""
    path = call.flags.text("spec")
    if path:
        with open(path, "rb") as file:
            data = file.read(documents.MAX_BYTES)
        try:
            documents.loads(data)
        except documents.DocumentError as error:
            raise InvalidArgument(f"{path}: {error}") from error
        return data
    if not args:
        raise InvalidArgument("a command must be provided", hint="shim --id ID exec EXEC-ID COMMAND [ARG...]")
    process = {
        "terminal": call.flags.on("tty"),
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": list(call.flags.texts("env"))
        or ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "cwd": call.flags.text("cwd") or "/",
    }
    return documents.dumps(process).encode()


def _streams(call: Call) -> cio.Streams:
    flags = call.flags
    return cio.Streams(
        flags.text("stdin"), flags.text("stdout"), flags.text("stderr"), terminal=flags.on("tty")
    )


def _stdio(call: Call, exec_id: str) -> attachment.Stdio:
    """FIFOs that we hold the other end of: the ones that are named, made where they aren't there, or some of our own."""
    terminal = call.flags.on("tty")
    console_fd = attachment.terminal_fd() if terminal else -1
    streams = _streams(call)
    named = [path for path in (streams.stdin, streams.stdout, streams.stderr) if path]
    if not named:
        fifos = cio.make_fifos(cio.STOCK_FOLDER, exec_id, terminal=terminal)
        return attachment.Stdio(fifos.streams, fifos, console_fd)
    for path in named:
        if not os.path.exists(path):
            os.mkfifo(path, 0o700)
    return attachment.Stdio(streams, cio.attach_fifos(streams), console_fd)
