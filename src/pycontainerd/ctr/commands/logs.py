"""`pyctr logs`: what a task has written, where it went to a file (--log-uri file://PATH)."""

from __future__ import annotations

import os

from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import BOOL, INT, Flag
from pycontainerd.lib import errdefs
from pycontainerd.lib.errdefs import FailedPrecondition, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call

_CHUNK: Final = 64 << 10
_LOOK_AGAIN_S: Final = 0.2


def _logs(call: Call) -> int:
    from pycontainerd.client import containers
    from pycontainerd.ctr import session

    container_id = call.argument(0)
    if not container_id:
        raise InvalidArgument("container id must be provided")
    with session.connect(call) as client:
        info = containers.task_of(client, container_id).info()
        path = _path(container_id, info.stdout)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if call.flags.is_set("tail"):
                os.lseek(fd, _start_of_last(fd, call.flags.number("tail")), os.SEEK_SET)
            _copy(fd)
            if call.flags.on("follow"):
                _follow(client, container_id, fd)
        finally:
            os.close(fd)
    return 0


def _path(container_id: str, stdout: str) -> str:
    """The file behind a log URI. FailedPrecondition when the output goes elsewhere."""
    if not stdout.startswith("file://"):
        where = "nowhere" if not stdout else stdout.partition("?")[0]
        raise FailedPrecondition(
            f"the output of {container_id} goes to {where}, not to a file",
            hint="start it with --log-uri file:///some/path, or attach to it with `task attach`",
        )
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(stdout).path)


def _start_of_last(fd: int, count: int) -> int:
    """The offset of the last `count` lines; a line that isn't ended yet is one."""
    position = os.fstat(fd).st_size
    if count <= 0:
        return position
    found = 0
    end = position
    while position > 0:
        size = min(_CHUNK, position)
        position -= size
        data = os.pread(fd, size, position)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            # The newline that ends the file begins no line.
            found += position + at + 1 < end
            if found == count:
                return position + at + 1
    return 0


def _copy(fd: int) -> None:
    from pycontainerd.client import cio

    while data := os.read(fd, _CHUNK):
        cio.write_all(1, data)


def _follow(client: Client, container_id: str, fd: int) -> None:
    """Until the task has ended and everything it wrote is shown."""

    from pycontainerd.client import tasks

    try:
        exited = tasks.load(client, container_id).start_wait()
    except errdefs.NotFound:
        return  # it was removed meanwhile
    while not exited.done:
        _copy(fd)
        _pump(client, _LOOK_AGAIN_S)
        if os.fstat(fd).st_size < os.lseek(fd, 0, os.SEEK_CUR):
            os.lseek(fd, 0, os.SEEK_SET)  # somebody emptied the file: what comes is new
    _copy(fd)


def _pump(client: Client, timeout_s: float) -> None:
    import select

    poller = select.poll()
    poller.register(client.fileno(), select.POLLIN | (select.POLLOUT if client.wants_write else 0))
    if poller.poll(timeout_s * 1000):
        client.pump()


COMMAND = Command(
    "logs",
    "print what a task wrote to its log file",
    _logs,
    arguments="[flags] CONTAINER",
    flags=(
        Flag("follow, f", BOOL, "go on until the task has ended"),
        Flag("tail", INT, "begin with this many lines from the end"),
    ),
    description="for tasks that were started with --log-uri file:///some/path",
    takes_container=True,
)
