"""Calls of a client to a daemon on an event loop of the same process: a method's route and its bytes, without a socket.

Messages still cross as bytes: client and daemon have each their own back end of lib.api, and neither sees the other's objects.
Errors go through the same two tables as on a socket, so that they come out as the same classes with the same text.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pycontainerd.client.loop_transport import LoopTransport
from pycontainerd.daemon.server.errors import to_status
from pycontainerd.lib import errdefs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from pycontainerd.client.loop_transport import LoopStream
    from pycontainerd.daemon.server.dispatch import Dispatcher
    from pycontainerd.lib.log import Logger


class DirectTransport(LoopTransport):
    """Implements client.port.Transport. Closing it cancels the calls under way, as a connection that goes away does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher, log: Logger) -> None:
        super().__init__(loop)
        self._dispatcher = dispatcher
        self._log = log
        self._handlers: set[asyncio.Task[Any]] = set()

    async def drained(self) -> None:
        """In the loop: ends every call and waits until the services have let go of it."""
        self.cut()
        await asyncio.sleep(0)  # what was cut just now is cancelled by the next turn of the loop
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _unary(
        self, service: str, method: str, payload: bytes, metadata: dict[str, str], timeout_s: float
    ) -> bytes:
        path = f"/{service}/{method}"
        return bytes(await self._handled(path, self._call(path, metadata, payload), timeout_s))

    async def _exchange(
        self, stream: LoopStream, service: str, method: str, metadata: dict[str, str], kind: tuple[bool, bool]
    ) -> None:
        del kind  # the route knows
        path = f"/{service}/{method}"
        await self._handled(path, self._stream(path, metadata, stream), 0)

    async def _call(self, path: str, metadata: dict[str, str], payload: bytes) -> bytes:
        return await self._dispatcher.unary("direct", self._dispatcher.lookup(path), metadata, payload)

    async def _stream(self, path: str, metadata: dict[str, str], stream: LoopStream) -> None:
        await self._dispatcher.stream(
            self._dispatcher.lookup(path), metadata, _payloads(stream), stream.deliver
        )

    async def _handled(self, path: str, call: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        """What a call comes to, counted while it runs; every error becomes its status and is made anew of that."""
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            async with asyncio.timeout(timeout_s or None):
                return await call
        except TimeoutError as error:
            raise errdefs.DeadlineExceeded from error
        except Exception as error:
            raise errdefs.from_status(*to_status(error, path, self._log)) from error
        finally:
            self._handlers.discard(task)


async def _payloads(stream: LoopStream) -> AsyncIterator[bytes]:
    while (payload := await stream.outgoing()) is not None:
        yield payload
