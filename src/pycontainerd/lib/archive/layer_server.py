"""Forks a worker for each layer, from a process that is as confined as they are, has all they need loaded, and sees no layer.

    daemon                                        this process                  worker, a child of the daemon
      PLAIN or ZSTD + [channel]           ->      clone3(CLONE_PARENT)    -->   closes all but 0-2 and its channel
      channel:    <- {"pid"}                      from both: either may be killed before it has said so
      channel:    {"arguments", "environment"} + [blob, target, lower directories...]       ->
      channel:    <- the answer of worker.answer, or the end

An interpreter's start costs 25 ms of processor, a fork two. It leaves when the daemon does, and when nothing was asked
for a while; workers outlive it. Nobody but root's full rights may trace it, so no worker can reach another's layer through it.

Runs in: pycontainerd-layer serve, but for `work`
"""

from __future__ import annotations

import _socket
import gc
import os
import select

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.archive import apply, stream, worker  # noqa: F401 - apply is for the workers
from pycontainerd.lib.linux import process, title
from pycontainerd.lib.linux.fd import close_all_but, fds_of, rights
from pycontainerd.lib.oci import document

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, Final

NAME: Final = "pycontainerd-layer"
CONTROL_FD: Final = 3
MAX_FDS: Final = 253  # SCM_MAX_FD of linux/net/scm.h: what one message takes
MAX_MESSAGE: Final = 128 << 10
PLAIN: Final = b"-"  # what a request says: layers of any kind
ZSTD: Final = b"z"  # or such that need the code for zstd
LINGER_S: Final = 2


def serve() -> int:
    """Answers requests on CONTROL_FD until its other end is closed, or nobody has asked for LINGER_S."""
    close_all_but((0, 1, 2, CONTROL_FD))
    control = _socket.socket(fileno=CONTROL_FD)
    worker.confine()
    stream.preload()
    gc.collect()
    gc.freeze()  # what is loaded stays shared: the collector never touches it, in no worker
    poller = select.poll()
    poller.register(CONTROL_FD, select.POLLIN)
    while poller.poll(LINGER_S * 1000):
        data, ancillary, _, _ = control.recvmsg(1, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        if not data:
            break
        if data == ZSTD:
            stream.preload(zstd=True)
        for fd in fds_of(ancillary):
            channel = _socket.socket(fileno=fd)
            _fork(channel)
            channel.close()
    return 0


def _fork(channel: _socket.socket) -> None:
    try:
        pid = process.clone3(lambda: _become_worker(channel), parent=True)
    except OSError:
        pid = (
            0  # refused by the kernel, or by the filter of whom this is run by: the daemon makes one by exec
        )
    _say(channel, {"pid": pid})


def _say(channel: _socket.socket, fields: dict[str, Any]) -> None:
    try:
        channel.sendmsg([document.dumps(fields).encode()], (), _socket.MSG_NOSIGNAL)
    except OSError:
        return  # nobody listens any more


def _become_worker(channel: _socket.socket) -> None:
    """In the child: one job, then its end."""
    close_all_but((0, 1, 2, channel.fileno()))
    process.reset_signals()
    gc.enable()
    _say(channel, {"pid": os.getpid()})
    data, ancillary, _, _ = channel.recvmsg(
        MAX_MESSAGE, _socket.CMSG_SPACE(4 * MAX_FDS), _socket.MSG_CMSG_CLOEXEC
    )
    if data:
        _say(channel, _work(document.loads(data), fds_of(ancillary)))
    os._exit(0)


def _work(job: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    blob_fd, *others = fds
    os.dup2(blob_fd, 0)
    os.close(blob_fd)
    args = [*job["arguments"], *worker.descriptors(others)]
    title.show_as(NAME, [NAME, *args])
    os.environ.update(job["environment"])
    trace.after_fork()
    trace.start(os.environ)
    try:
        return worker.answer(args)
    except Exception as error:  # noqa: BLE001 - the top of a process: what can be told is told, then it ends
        text = f"the layer worker failed: {type(error).__name__}: {error}"
        return {"error": {"code": errdefs.Unknown.code, "message": text, "errno": 0}}


def ask(control: _socket.socket, kind: bytes, channel: _socket.socket) -> None:
    """The daemon's side: asks for a worker at this end of a channel, which stays the caller's. OSError."""
    control.sendmsg([kind], rights([channel.fileno()]), _socket.MSG_NOSIGNAL)


def give(channel: _socket.socket, arguments: list[str], environment: dict[str, str], fds: list[int]) -> None:
    """The daemon's side: hands a worker its job, with blob, target and lower directories (all borrowed). OSError."""
    packet = document.dumps({"arguments": arguments, "environment": environment}).encode()
    channel.sendmsg([packet], rights(fds), _socket.MSG_NOSIGNAL)


def hear(channel: _socket.socket) -> dict[str, Any]:
    """The daemon's side: what a worker says next; empty when it has ended."""
    try:
        data = channel.recv(MAX_MESSAGE)
    except ConnectionResetError:
        data = b""
    return document.loads(data) if data else {}
