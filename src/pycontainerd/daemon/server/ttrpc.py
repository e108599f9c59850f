"""ttrpc on a unix socket: the same routes, for shims' events and for our own clients.

Spec: ttrpc PROTOCOL.md; metadata keys containerd-namespace-ttrpc and containerd-lease
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.server.errors import to_status
from pycontainerd.lib.errdefs import ContainerdError
from pycontainerd.lib.ttrpc import aio

if TYPE_CHECKING:
    import socket

    from pycontainerd.daemon.server.dispatch import Dispatcher, Route
    from pycontainerd.lib.log import Logger


class TtrpcServer:
    """Serves a dispatcher's routes on listening unix sockets."""

    def __init__(self, dispatcher: Dispatcher, log: Logger) -> None:
        self._dispatcher = dispatcher
        self._log = log
        self._server = aio.Server(on_error=self._report)
        for route in dispatcher.routes():
            self._register(route)

    async def listen(self, listener: socket.socket) -> None:
        """Serves on a bound unix socket, which the server owns from now on."""
        await self._server.listen(listener)

    async def close(self) -> None:
        """Stops listening, ends every call and waits for the handlers."""
        await self._server.close()

    def _register(self, route: Route) -> None:
        method = route.method
        if method.client_streaming or method.server_streaming:
            self._server.register_stream(
                route.service_name,
                method.name,
                lambda call, stream: self._stream(route, call, stream),
                client_streaming=method.client_streaming,
                server_streaming=method.server_streaming,
            )
        elif route.answers_at_once:
            self._server.register_quick(
                route.service_name, method.name, lambda call, payload: self._quick(route, call, payload)
            )
        else:
            self._server.register(
                route.service_name, method.name, lambda call, payload: self._unary(route, call, payload)
            )

    def _quick(self, route: Route, call: aio.Call, payload: bytes) -> bytes:
        self._log.debug("ttrpc call", method=route.path)
        return self._dispatcher.quick("ttrpc", route, call.metadata, payload)

    async def _unary(self, route: Route, call: aio.Call, payload: bytes) -> bytes:
        self._log.debug("ttrpc call", method=route.path)
        return await self._dispatcher.unary("ttrpc", route, call.metadata, payload)

    async def _stream(self, route: Route, call: aio.Call, stream: aio.ServerStream) -> None:
        self._log.debug("ttrpc call", method=route.path)
        await self._dispatcher.stream(route, call.metadata, aiter(stream), stream.send)

    def _report(self, call: aio.Call, error: BaseException) -> None:
        if not isinstance(error, ContainerdError):
            to_status(error, f"/{call.service}/{call.method}", self._log)
