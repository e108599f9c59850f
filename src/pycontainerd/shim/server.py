"""The ttrpc server on the shim's loop: connections, the same-user check, and the table of methods.

Task v2 and v3 have the same messages, so one table answers for both.

Spec: ttrpc PROTOCOL.md
Man:  unix(7) SO_PEERCRED
"""

from __future__ import annotations

import _socket
import os
import struct

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.api.light import task_v2, task_v3
from pycontainerd.lib.ttrpc.connection import RequestEvent, ServerConnection
from pycontainerd.lib.ttrpc.listener import listen as listen_privately
from pycontainerd.lib.ttrpc.wire import Request
from pycontainerd.shim.future import spawn
from pycontainerd.shim.loop import ERROR, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    from pycontainerd.lib.api.codec import Service
    from pycontainerd.lib.log import Logger
    from pycontainerd.shim.attendant import Pack, Unpack
    from pycontainerd.shim.future import Future
    from pycontainerd.shim.loop import Loop

_READ_SIZE: Final = 64 << 10
_WAITS: Final = frozenset({"Wait", "WaitSandbox"})  # which can be asked again
_MAX_OUTPUT: Final = 16 << 20  # bytes a client may leave unread before it is hung up on


class Server:
    """Accepts on a listener it owns."""

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        listener: _socket.socket,
        service: object,
        methods: dict[str, dict[str, Any]] | None = None,
        more: Callable[[str], tuple[object, dict[str, Any]] | None] | None = None,
    ) -> None:
        """methods: service name -> method name -> request class; each is a method of `service`. The task API by default.

        more: asked for a service that isn't among them: the object and its methods, or None.
        """
        self._more = more
        self._methods = METHODS if methods is None else methods
        self._loop = loop
        self._log = log
        self._listener = listener
        self._service = service
        self._connections: set[_Connection] = set()
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, self._accept)

    def is_quiet(self) -> bool:
        """Whether nobody waits for anything but the end of a process."""
        return all(connection.is_quiet() for connection in self._connections)

    def pack(self, pack: Pack) -> dict[str, Any]:
        """For `unpack`; only when it is quiet."""
        return {
            "listener": pack.add(self._listener.fileno(), waited_for=True),
            "connections": [connection.pack(pack) for connection in self._connections],
        }

    def unpack(self, connections: Sequence[dict[str, Any]], found: Unpack) -> None:
        """Goes on with the connections of the server before."""
        for state in connections:
            peer = _socket.socket(fileno=found.take(state["peer"]))
            waits = {int(stream_id): _packed_request(*words) for stream_id, *words in state["waits"]}
            connection = _Connection(
                self, self._loop, peer, ServerConnection.resumed(state["last_stream_id"], waits)
            )
            self._connections.add(connection)
            for stream_id, request in waits.items():
                connection.begin(stream_id, request)

    def close(self) -> None:
        """Stops accepting and hangs up on everybody."""
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()
        for connection in tuple(self._connections):
            connection.close()

    def answer(self, request: Request) -> Future[bytes]:
        """Runs a method."""
        return spawn(self._call(request))

    def forget(self, connection: _Connection) -> None:
        """It has gone."""
        self._connections.discard(connection)

    async def _call(self, request: Request) -> bytes:
        trace.adopt_metadata(request.metadata)
        service, methods = self._service, self._methods.get(request.service)
        if methods is None and self._more is not None and (found := self._more(request.service)):
            service, methods = found
        if methods is None:
            raise errdefs.Unimplemented(f"service {request.service}")
        request_class = methods.get(request.method)
        if request_class is None:
            raise errdefs.Unimplemented(f"method {request.method}")
        message = request_class.FromString(request.payload)
        try:
            with trace.span("task." + request.method):
                answer = await getattr(service, request.method)(message)
        except errdefs.ContainerdError:
            raise
        except Exception as e:
            self._log.error("bug in task service", method=request.method, error=repr(e), trace=_where(e))
            raise
        return answer.SerializeToString()  # type: ignore[no-any-return]

    def _accept(self, events: int) -> None:
        peer = accept(self._listener, self._log)
        if peer is not None:
            self._connections.add(_Connection(self, self._loop, peer, ServerConnection()))


class _Connection:
    def __init__(
        self, server: Server, loop: Loop, peer: _socket.socket, connection: ServerConnection
    ) -> None:
        self._server = server
        self._loop = loop
        self._peer = peer
        self._connection = connection
        self._requests: dict[int, Request] = {}  # of the calls that have not been answered
        self._output = memoryview(b"")
        peer.setblocking(False)
        loop.watch(peer.fileno(), READ, self._on_ready)

    def is_quiet(self) -> bool:
        """Whether nothing is on its way, and every open call is one that waits for an end."""
        return (
            self._connection.is_at_rest
            and not self._output
            and all(request.method in _WAITS for request in self._requests.values())
        )

    def pack(self, pack: Pack) -> dict[str, Any]:
        """For `Server.unpack`."""
        return {
            "peer": pack.add(self._peer.fileno(), waited_for=True),
            "last_stream_id": self._connection.last_stream_id,
            "waits": [
                (stream_id, request.service, request.method, request.payload.hex(), request.metadata)
                for stream_id, request in self._requests.items()
            ],
        }

    def close(self) -> None:
        """Hangs up; twice is once."""
        if self._peer.fileno() >= 0:
            self._loop.unwatch(self._peer.fileno())
            self._peer.close()
            self._server.forget(self)

    def _on_ready(self, events: int) -> None:
        if events & (READ | ERROR):
            try:
                data = self._peer.recv(_READ_SIZE)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                self.close()
                return
            for event in self._connection.receive(data or b""):
                if isinstance(event, RequestEvent):
                    self.begin(event.stream_id, event.request)
        self._flush()

    def begin(self, stream_id: int, request: Request) -> None:
        """Has a call answered."""
        self._requests[stream_id] = request
        answer = self._server.answer(request)
        answer.when_done(lambda done: self._end(stream_id, done))

    def _end(self, stream_id: int, answer: Future[bytes]) -> None:
        del self._requests[stream_id]
        try:
            self._connection.respond(stream_id, answer.result())
        except Exception as e:  # noqa: BLE001 - the one translator of this edge: every error becomes a status
            self._connection.fail(stream_id, e)
        self._flush()

    def _flush(self) -> None:
        while self._peer.fileno() >= 0:
            if not self._output:
                self._output = memoryview(self._connection.take_output())
            if not self._output:
                self._loop.rewatch(self._peer.fileno(), READ)
                return
            try:
                sent = self._peer.send(self._output, _socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.rewatch(self._peer.fileno(), READ | WRITE)
                return
            except OSError:
                self.close()
                return
            self._output = self._output[sent:]


def listen(path: str) -> _socket.socket:
    """A listener on a socket file that only its owner may use, for the loop."""
    sock = listen_privately(path)
    sock.setblocking(False)
    return sock


def accept(listener: _socket.socket, log: Logger) -> _socket.socket | None:
    """The next client, if it is there and the same user."""
    try:
        fd, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - socket.accept without the enum-heavy socket module
    except OSError:
        return None  # the client has given up meanwhile, or fds are short: the loop goes on
    peer = _socket.socket(fileno=fd)
    raw = peer.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, gid = struct.unpack("3i", raw)
    if (uid, gid) != (os.geteuid(), os.getegid()):
        log.error("ttrpc: refusing connection: peer is not the same user", uid=uid, gid=gid)
        peer.close()
        return None
    return peer


def table(*services: Service) -> dict[str, dict[str, Any]]:
    """Which methods of which services are answered, with their requests' classes."""
    return {service.name: {method.name: method.request for method in service.methods} for service in services}


def _packed_request(service: str, method: str, payload: str, metadata: dict[str, str]) -> Request:
    return Request(service, method, bytes.fromhex(payload), 0, metadata)


def _where(error: BaseException) -> str:
    """File and line of each frame, without the traceback module."""
    places: list[str] = []
    frame = error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{frame.tb_lineno} {code.co_name}")
        frame = frame.tb_next
    return " < ".join(reversed(places))


METHODS: Final = table(task_v2.TASK, task_v3.TASK)

if TYPE_CHECKING:
    _Handler = Callable[[Any], Any]
