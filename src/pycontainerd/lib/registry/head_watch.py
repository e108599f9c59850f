"""What is said to registries, as lines of text: heads and connections, never a credential."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pycontainerd.lib.registry import http
from pycontainerd.lib.registry.hosts import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from urllib3 import BaseHTTPResponse


class HeadWatch(Watch):
    """Tells heads (dump) and connections (trace). Lines of one head stay together, whichever threads talk."""

    def __init__(self, *, dump: bool, trace: bool) -> None:
        self._dump = dump
        self._trace = trace
        self._lock = threading.Lock()
        self._peers: set[tuple[object, ...]] = set()

    def tell(self, lines: Sequence[str]) -> None:
        """Lines of one head. One call at a time."""
        raise NotImplementedError

    def tell_connection(self, remote: str, *, reused: bool) -> None:
        """Where an answer came from. One call at a time."""
        raise NotImplementedError

    def sending(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        """The request line and its headers, in the order of their names."""
        if not self._dump:
            return
        _, _, rest = url.partition("://")
        address, _, path = rest.partition("/")
        with self._lock:
            self.tell(
                [f"{method} /{_without_secrets(path)} HTTP/1.1", f"Host: {address}", *_header_lines(headers)]
            )

    def received(self, response: BaseHTTPResponse) -> None:
        """The status line and the headers."""
        with self._lock:
            if self._trace:
                self._connection(response)
            if self._dump:
                self.tell([f"HTTP/1.1 {http.status_words(response)}", *_header_lines(response.headers)])

    def _connection(self, response: BaseHTTPResponse) -> None:
        sock = getattr(response.connection, "sock", None)
        if sock is None:
            return  # the answer had no body: its connection is back in the pool
        here, there = sock.getsockname(), sock.getpeername()
        reused = (here, there) in self._peers
        self._peers.add((here, there))
        self.tell_connection(f"{there[0]}:{there[1]}", reused=reused)


def _header_lines(headers: Mapping[str, str]) -> list[str]:
    return [
        f"{name.title()}: {'(hidden)' if http.is_secret(name) else _without_secrets(value)}"
        for name, value in sorted(headers.items(), key=lambda item: item[0].title())
    ]


def _without_secrets(value: str) -> str:
    """A URL's signed parameters are credentials too: of what upload and blob servers ask for only the names are shown."""
    before, mark, query = value.partition("?")
    if not mark:
        return value
    shown = [
        one
        if one.partition("=")[0] in {"digest", "mount", "from", "ns", "scope", "service"}
        else f"{one.partition('=')[0]}=(hidden)"
        for one in query.split("&")
    ]
    return f"{before}?{'&'.join(shown)}"
