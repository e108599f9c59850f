"""ttrpc on a unix socket: the same routes, for shims' events and for our own clients.

Spec: ttrpc PROTOCOL.md; metadata keys containerd-namespace-ttrpc and containerd-lease
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pycontainerd.daemon.core.call import Call
from pycontainerd.daemon.server.dispatch import decode
from pycontainerd.daemon.server.errors import to_status
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import ContainerdError
from pycontainerd.lib.ttrpc import aio

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator

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
        with self._request(call), trace.span("ttrpc", method=f"/{call.service}/{call.method}"):
            answer: bytes = route.handler(_call(call), decode(route, payload)).SerializeToString()
            return answer

    async def _unary(self, route: Route, call: aio.Call, payload: bytes) -> bytes:
        with self._request(call), trace.span("ttrpc", method=f"/{call.service}/{call.method}"):
            response = await route.handler(_call(call), decode(route, payload))
            answer: bytes = response.SerializeToString()
            return answer

    async def _stream(self, route: Route, call: aio.Call, stream: aio.ServerStream) -> None:
        with self._request(call):
            if route.method.client_streaming:
                responses = route.handler(_call(call), self._requests(route, stream))
            else:
                payload = await stream.receive() or b""
                responses = route.handler(_call(call), decode(route, payload))
            if isinstance(responses, list):
                for response in responses:
                    await stream.send(response.SerializeToString())
                return
            async for response in responses:
                await stream.send(response.SerializeToString())

    @contextmanager
    def _request(self, call: aio.Call) -> Iterator[None]:
        """For as long as a request is worked on, in a context of its own."""
        self._log.debug("ttrpc call", method=f"/{call.service}/{call.method}")
        self._dispatcher.enter()
        trace.adopt_metadata(call.metadata)
        try:
            yield
        finally:
            self._dispatcher.leave()

    async def _requests(self, route: Route, stream: aio.ServerStream) -> AsyncIterator[Any]:
        async for payload in stream:
            yield decode(route, payload)

    def _report(self, call: aio.Call, error: BaseException) -> None:
        if not isinstance(error, ContainerdError):
            to_status(error, f"/{call.service}/{call.method}", self._log)


def _call(call: aio.Call) -> Call:
    metadata = call.metadata
    namespace = metadata.get("containerd-namespace-ttrpc") or metadata.get("containerd-namespace", "")
    return Call(metadata, namespace, metadata.get("containerd-lease", ""))
