"""HTTP/1.1 for looking inside the daemon: GET, HEAD and few PUTs, one request per connection, paths from a table.

Spec: RFC 9112
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from pycontainerd.daemon.server.errors import to_status
from pycontainerd.lib import debug_http
from pycontainerd.lib.debug_http import TEXT, Answer

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

    from pycontainerd.lib.log import Logger

if TYPE_CHECKING:
    Handler = Callable[[Mapping[str, str]], Awaitable[Answer]]


class HttpServer:
    """Serves a table of path -> handler on listening sockets; a handler gets the query's last values."""

    def __init__(
        self, routes: Mapping[str, Handler], log: Logger, changes: Mapping[str, Handler] | None = None
    ) -> None:
        """`changes` are what PUT calls: the query says what to change, a body isn't read."""
        self._routes = routes
        self._changes = changes or {}
        self._log = log
        self._servers: list[asyncio.AbstractServer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, listener: socket.socket) -> None:
        """Serves on a bound socket, unix or TCP, which the server owns from now on."""
        # Not start_unix_server: from Python 3.13 on that removes a socket's file, which may be the service manager's.
        self._servers.append(
            await asyncio.start_server(self._connected, sock=listener, limit=debug_http.HEAD_LIMIT)
        )

    async def close(self) -> None:
        """Stops listening and ends what is being answered."""
        for server in self._servers:
            server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(
                OSError, TimeoutError, asyncio.IncompleteReadError
            ):  # the peer went away or is too slow
                async with asyncio.timeout(debug_http.REQUEST_TIMEOUT_S):
                    method, target = await _read_head(reader)
                answer = await self._answer(method, target)
                writer.write(debug_http.format_answer(answer, with_body=method != "HEAD"))
                await writer.drain()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, method: str, target: str) -> Answer:
        if not target:
            return debug_http.BAD_REQUEST
        parts = urlsplit(target)
        handler = self._routes.get(parts.path)
        if handler is None:
            return debug_http.NOT_FOUND
        if method == "PUT" and parts.path in self._changes:
            handler = self._changes[parts.path]
        elif method not in ("GET", "HEAD"):
            return debug_http.WRONG_METHOD
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        try:
            return await handler(query)
        except Exception as e:  # noqa: BLE001 -- this is where every error becomes a status
            _, message = to_status(e, parts.path, self._log)
            return Answer(f"{message}\n".encode(), TEXT, 500)


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Method and target; empty ones for what is no HTTP request or has too large a head."""
    try:
        return debug_http.parse_head(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.LimitOverrunError:
        return "", ""
