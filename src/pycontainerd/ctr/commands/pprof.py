"""`ctr pprof`: what a daemon's debug socket tells: stacks, and of Go daemons profiles."""

from __future__ import annotations

from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import DURATION, STRING, UINT, Flag
from pycontainerd.lib.errdefs import Unavailable

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, Final

    from pycontainerd.ctr.command import Call

DEFAULT_SOCKET: Final = "/run/pycontainerd/debug.sock"
FLAGS = (Flag("debug-socket, d", STRING, "the daemon's debug socket", default=DEFAULT_SOCKET),)
_CHUNK: Final = 256 << 10
_NANOS: Final = 1_000_000_000


def _copy(call: Call, path: str) -> int:
    """Writes the answer to stdout, as it comes."""
    from pycontainerd.client import cio

    socket_path = call.group_flags.text("debug-socket")
    url = f"http://./debug/pprof/{path}"
    try:
        connection = _connect(socket_path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unavailable(
            f'Get "{url}": dial unix {socket_path}: connect: {reason}',
            hint="has the daemon a debug socket ([debug] address = ...)? name it with --debug-socket",
        ) from error
    try:
        connection.request("GET", f"/debug/pprof/{path}", headers={"Host": "."})
        response = connection.getresponse()
        if response.status != 200:
            said = response.read(_CHUNK).decode("utf-8", "replace").strip()
            raise Unavailable(f"http get failed with status: {response.status} {response.reason}", hint=said)
        while data := response.read(_CHUNK):
            cio.write_all(1, data)
    finally:
        connection.close()
    return 0


def _connect(path: str) -> Any:
    import http.client
    import socket

    connection = http.client.HTTPConnection(".")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(path)
    except BaseException:
        connection.sock.close()
        raise
    return connection


def _level(call: Call) -> str:
    level = call.flags.number("debug")
    return f"?debug={level}" if level else ""


def _seconds(call: Call) -> str:
    level = call.flags.number("debug")
    more = f"&debug={level}" if level else ""
    return f"?seconds={call.flags.number('seconds') // _NANOS}{more}"


def _block(call: Call) -> int:
    return _copy(call, f"block{_level(call)}")


def _goroutines(call: Call) -> int:
    return _copy(call, f"goroutine{_level(call)}")


def _heap(call: Call) -> int:
    return _copy(call, f"heap{_level(call)}")


def _profile(call: Call) -> int:
    return _copy(call, f"profile{_seconds(call)}")


def _threadcreate(call: Call) -> int:
    return _copy(call, f"threadcreate{_level(call)}")


def _trace(call: Call) -> int:
    return _copy(call, f"trace{_seconds(call)}")


_DEBUG = Flag("debug", UINT, "how much text; 0 for Go's own format")
COMMANDS = (
    Command("block", "where goroutines block", _block, flags=(_DEBUG,)),
    Command(
        "goroutines",
        "the stacks of everything that runs",
        _goroutines,
        flags=(Flag("debug", UINT, "how much text; 0 for Go's own format", default=2),),
    ),
    Command("heap", "what memory is used for", _heap, flags=(_DEBUG,)),
    Command(
        "profile",
        "where the time goes",
        _profile,
        flags=(Flag("seconds, s", DURATION, "how long to look", default=30 * _NANOS), _DEBUG),
    ),
    Command("threadcreate", "what made threads", _threadcreate, flags=(_DEBUG,)),
    Command(
        "trace",
        "an execution trace",
        _trace,
        flags=(Flag("seconds, s", DURATION, "how long to look", default=5 * _NANOS), _DEBUG),
    ),
)
