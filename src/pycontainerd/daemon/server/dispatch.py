"""From a method's name to the service that answers it: one table for gRPC, ttrpc and callers in this process.

A service is an object with one method per rpc, named in snake case:
    unary              async def get(call, request) -> response
    server streaming   def list(call, request) -> async iterator of responses
    both streaming     def write(call, requests) -> async iterator of responses
What has nothing to wait for is a plain function, and is called without a task of its own:
    unary              def get(call, request) -> response
    server streaming   def read(call, request) -> list of responses, or an async iterator if it has to wait after all
"""

from __future__ import annotations

import inspect
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core.call import Call, decoder_of
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping

    from pycontainerd.lib.api.codec import Method, Service

_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Route:
    """A method and what answers it."""

    __slots__ = ("answers_at_once", "decode", "handler", "method", "service_name")

    def __init__(self, service_name: str, method: Method, handler: Any) -> None:
        self.service_name = service_name
        self.method = method
        self.handler = handler
        self.decode: Callable[[bytes], Any] = decoder_of(handler) or method.request.FromString
        self.answers_at_once = not (
            inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)
        )

    @property
    def path(self) -> str:
        """The gRPC path."""
        return f"/{self.service_name}/{self.method.name}"


class Dispatcher:
    """All routes, and how busy they are."""

    def __init__(self, services: Iterable[tuple[Service, object]]) -> None:
        self._routes: dict[str, Route] = {}
        self._services: set[str] = set()
        self.in_flight = 0
        self.last_activity = time.monotonic()
        for service, implementation in services:
            self._services.add(service.name)
            for method in service.methods:
                handler = getattr(implementation, _WORD_START.sub("_", method.name).lower(), None)
                if handler is not None:
                    route = Route(service.name, method, handler)
                    self._routes[route.path] = route

    def routes(self) -> Iterable[Route]:
        """Every route once."""
        return self._routes.values()

    def lookup(self, path: str) -> Route:
        """The route of a gRPC path; Unimplemented in grpc-go's words."""
        route = self._routes.get(path)
        if route is not None:
            return route
        service, slash, method = path.removeprefix("/").rpartition("/")
        if not path.startswith("/") or not slash:
            raise Unimplemented(f"malformed method name: {quoted(path)}")
        if service not in self._services:
            raise Unimplemented(f"unknown service {service}")
        raise Unimplemented(f"unknown method {method} for service {service}")

    async def unary(self, edge: str, route: Route, metadata: Mapping[str, str], payload: bytes) -> bytes:
        """One call, in a span of the edge it came by, under the caller's trace; raises what the service raised."""
        if route.answers_at_once:
            return self.quick(edge, route, metadata, payload)
        with self._request(metadata), trace.span(edge, method=route.path):
            response = await route.handler(_call(metadata), decode(route, payload))
            answer: bytes = response.SerializeToString()
            return answer

    def quick(self, edge: str, route: Route, metadata: Mapping[str, str], payload: bytes) -> bytes:
        """The same for a route that answers at once, in a context of its own."""
        with self._request(metadata), trace.span(edge, method=route.path):
            answer: bytes = route.handler(_call(metadata), decode(route, payload)).SerializeToString()
            return answer

    async def stream(
        self,
        route: Route,
        metadata: Mapping[str, str],
        payloads: AsyncIterator[bytes],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """One streaming call: `payloads` are what the client sends, once where it doesn't stream."""
        with self._request(metadata):
            requests = (decode(route, payload) async for payload in payloads)
            if route.method.client_streaming:
                responses = route.handler(_call(metadata), requests)
            else:
                first = await anext(requests, None)
                responses = route.handler(_call(metadata), decode(route, b"") if first is None else first)
            if isinstance(responses, list):
                for response in responses:
                    await send(response.SerializeToString())
                return
            async for response in responses:
                await send(response.SerializeToString())

    @contextmanager
    def _request(self, metadata: Mapping[str, str]) -> Iterator[None]:
        """For as long as a request is worked on."""
        self.enter()
        trace.adopt_metadata(metadata)  # this task's context only
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        """A call begins."""
        self.in_flight += 1

    def leave(self) -> None:
        """A call has ended."""
        self.in_flight -= 1
        self.last_activity = time.monotonic()


def decode(route: Route, payload: bytes) -> Any:
    """The request message; InvalidArgument for bytes that are none."""
    from google.protobuf.message import DecodeError

    try:
        return route.decode(payload)
    except DecodeError as e:
        raise InvalidArgument(f"failed to unmarshal the received message: {e}") from e


def _call(metadata: Mapping[str, str]) -> Call:
    """The namespace under either of its spellings: ttrpc's own is the one that counts."""
    namespace = metadata.get("containerd-namespace-ttrpc") or metadata.get("containerd-namespace", "")
    return Call(metadata, namespace, metadata.get("containerd-lease", ""))
