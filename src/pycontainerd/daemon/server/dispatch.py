"""From a method's name to the service that answers it: one table for gRPC and for ttrpc.

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
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontainerd.lib.api.codec import Method, Service

_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Route:
    """A method and what answers it."""

    __slots__ = ("answers_at_once", "handler", "method", "service_name")

    def __init__(self, service_name: str, method: Method, handler: Any) -> None:
        self.service_name = service_name
        self.method = method
        self.handler = handler
        self.answers_at_once = not (
            inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)
        )


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
                    self._routes[f"/{service.name}/{method.name}"] = route

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
        return route.method.request.FromString(payload)
    except DecodeError as e:
        raise InvalidArgument(f"failed to unmarshal the received message: {e}") from e
