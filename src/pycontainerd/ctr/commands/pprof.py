"""`ctr pprof`: what a daemon's debug socket tells: stacks, and of Go daemons profiles."""

from __future__ import annotations

from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import DURATION, STRING, UINT, Flag
from pycontainerd.lib.errdefs import Unavailable

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from pycontainerd.ctr.command import Call

DEFAULT_SOCKET: Final = "/run/pycontainerd/debug.sock"
FLAGS = (Flag("debug-socket, d", STRING, "the daemon's debug socket", default=DEFAULT_SOCKET),)
_CHUNK: Final = 256 << 10
_NANOS: Final = 1_000_000_000


def _copy(socket_path: str, path: str) -> int:
    """Writes the answer to stdout, as it comes."""
    from pycontainerd.client import cio

    url = f"http://./debug/pprof/{path}"
    try:
        connection = _connect(socket_path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unavailable(
            f'Get "{url}": dial unix {socket_path}: connect: {reason}',
            hint="a daemon has one by [debug] address, named with --debug-socket; Go shims have one by -debug",
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


def _debug_socket(call: Call) -> str:
    return call.group_flags.text("debug-socket")


def profiles(socket_of: Callable[[Call], str]) -> tuple[Command, ...]:
    """The commands for one kind of debug socket; `socket_of` finds its path."""

    def of(path: str, query: Callable[[Call], str]) -> Callable[[Call], int]:
        return lambda call: _copy(socket_of(call), f"{path}{query(call)}")

    level = Flag("debug", UINT, "how much text; 0 for Go's own format")
    stacks = Flag("debug", UINT, "how much text; 0 for Go's own format", default=2)

    def seconds(default: int) -> Flag:
        return Flag("seconds, s", DURATION, "how long to look", default=default * _NANOS)

    return (
        Command("block", "where goroutines block", of("block", _level), flags=(level,)),
        Command("goroutines", "the stacks of everything that runs", of("goroutine", _level), flags=(stacks,)),
        Command("heap", "what memory is used for", of("heap", _level), flags=(level,)),
        Command("profile", "where the time goes", of("profile", _seconds), flags=(seconds(30), level)),
        Command("threadcreate", "what made threads", of("threadcreate", _level), flags=(level,)),
        Command("trace", "an execution trace", of("trace", _seconds), flags=(seconds(5), level)),
    )


COMMANDS = profiles(_debug_socket)
