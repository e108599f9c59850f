"""What a shim answers on -debug-socket: its stack and its containers, its command line, numbers of the interpreter.

Spec: lib.debug_http (paths and answers)
Man:  unix(7) SO_PEERCRED
"""

from __future__ import annotations

import _socket
import os
import sys

from pycontainerd.lib import debug_http
from pycontainerd.lib.debug_http import Answer
from pycontainerd.lib.oci import document
from pycontainerd.shim import server
from pycontainerd.shim.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainerd.lib.log import Logger
    from pycontainerd.shim.attendant import Pack
    from pycontainerd.shim.loop import Loop


class DebugServer:
    """Serves on a socket file of its own, removed by `close`."""

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        listener: _socket.socket,
        argv: list[str],
        look: Callable[[], list[str]],
    ) -> None:
        """look: gives the lines of what goes on. Owns the listener."""
        self._loop = loop
        self._log = log
        self._path = listener.getsockname()
        self._argv = argv
        self._look = look
        self._listener = listener
        listener.setblocking(False)
        self._connections: set[_Connection] = set()
        loop.watch(self._listener.fileno(), READ, self._accept)

    def is_quiet(self) -> bool:
        """Whether nobody is being answered."""
        return not self._connections

    def pack(self, pack: Pack) -> int:
        """The listener's place, for the attendant after this one."""
        return pack.add(self._listener.fileno(), waited_for=True)

    def close(self) -> None:
        """Hangs up on everybody."""
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()
        for connection in tuple(self._connections):
            connection.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass  # somebody was faster

    def answer(self, method: str, target: str) -> Answer:
        """By the paths of Go's handlers."""
        if not target:
            return debug_http.BAD_REQUEST
        path = target.partition("?")[0]
        handler = self._handlers().get(path)
        if handler is None:
            is_profile = path.removeprefix("/debug/pprof/") in debug_http.PROFILES
            return debug_http.NO_PROFILE if is_profile else debug_http.NOT_FOUND
        return handler() if method in ("GET", "HEAD") else debug_http.WRONG_METHOD

    def forget(self, connection: _Connection) -> None:
        """It has gone."""
        self._connections.discard(connection)

    def _handlers(self) -> dict[str, Callable[[], Answer]]:
        return {
            "/debug/pprof/": lambda: Answer(debug_http.INDEX),
            "/debug/pprof/goroutine": lambda: Answer("\n".join([*self._look(), ""]).encode()),
            "/debug/pprof/cmdline": lambda: Answer("\0".join(self._argv).encode()),
            "/debug/vars": lambda: Answer(document.dumps(self._numbers()).encode(), debug_http.JSON),
        }

    def _numbers(self) -> dict[str, Any]:
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cmdline": self._argv,
            "python": sys.version.split()[0],
            "pid": os.getpid(),
            "open_fds": len(os.listdir("/proc/self/fd")),
            "max_rss_bytes": usage.ru_maxrss * 1024,
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 6),
        }

    def _accept(self, events: int) -> None:
        peer = server.accept(self._listener, self._log)
        if peer is not None:
            self._connections.add(_Connection(self, self._loop, peer))


class _Connection:
    """One request: its head, then the answer, then nothing more."""

    def __init__(self, owner: DebugServer, loop: Loop, peer: _socket.socket) -> None:
        self._owner = owner
        self._loop = loop
        self._peer = peer
        self._head = b""
        self._output = b""
        peer.setblocking(False)
        loop.watch(peer.fileno(), READ, self._on_ready)
        self._limit = loop.later(debug_http.REQUEST_TIMEOUT_S, self.close)

    def close(self) -> None:
        """Hangs up; twice is once."""
        if self._peer.fileno() >= 0:
            self._limit.cancel()  # a timer keeps a shim from its rest
            self._loop.unwatch(self._peer.fileno())
            self._peer.close()
            self._owner.forget(self)

    def _on_ready(self, events: int) -> None:
        try:
            if self._output:
                self._output = self._output[self._peer.send(self._output, _socket.MSG_NOSIGNAL) :]
                if not self._output:
                    self.close()
                return
            data = self._peer.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._head += data
        is_whole = 0 <= self._head.find(b"\r\n\r\n") < debug_http.HEAD_LIMIT
        if is_whole or len(self._head) > debug_http.HEAD_LIMIT:
            method, target = debug_http.parse_head(self._head) if is_whole else ("", "")
            answer = self._owner.answer(method, target)
            self._output = debug_http.format_answer(answer, with_body=method != "HEAD")
            self._loop.rewatch(self._peer.fileno(), WRITE)
