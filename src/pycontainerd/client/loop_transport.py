"""A transport whose calls are coroutines on the event loop of another thread: what gRPC and a daemon in this process share.

It imports asyncio, so nothing imports this module before it is known to be needed.
"""

from __future__ import annotations

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.lib import errdefs, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

_NO_METADATA: Final[dict[str, str]] = {}
_MAX_INBOX: Final = 64  # messages of a stream that nobody has taken yet
_MAX_OUTBOX: Final = 4


class LoopPending:
    """A unary call under way in the loop."""

    __slots__ = ("_future", "done")

    def __init__(self, future: Any) -> None:
        self._future = future
        self.done = False

    def refresh(self) -> bool:
        """Sets `done` once the loop has the answer."""
        self.done = self._future.done()
        return self.done

    def result(self) -> bytes:
        """The answer of a call that is done; raises its error."""
        return bytes(_outcome(self._future))


class LoopStream:
    """One streaming call: a task in the loop moves messages through two bounded queues."""

    def __init__(
        self, transport: LoopTransport, exchange: Callable[[LoopStream], Coroutine[Any, Any, None]]
    ) -> None:
        """`exchange` is the whole call: it takes what is `outgoing`, delivers what comes, and raises errdefs."""
        self._transport = transport
        self._inbox: asyncio.Queue[bytes | errdefs.ContainerdError | None] = asyncio.Queue(_MAX_INBOX)
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue(_MAX_OUTBOX)
        self._answered = False
        self._finished = False
        self._task = transport.submit(self._run(exchange))

    async def deliver(self, payload: bytes) -> None:
        """In the loop: a message has come. Waits while nobody takes them."""
        await self._inbox.put(payload)

    async def outgoing(self) -> bytes | None:
        """In the loop: the next message to send, None when there are no more."""
        return await self._outbox.get()

    async def _run(self, exchange: Callable[[LoopStream], Coroutine[Any, Any, None]]) -> None:
        end: errdefs.ContainerdError | None = None
        try:
            await exchange(self)
        except errdefs.ContainerdError as error:
            end = error
        self._answered = True
        while not self._outbox.empty():  # whoever waits for room there waits no more
            self._outbox.get_nowait()
        await self._inbox.put(end)

    async def _send(self, payload: bytes | None) -> None:
        if not self._answered:  # else `receive` says how it ended
            await self._outbox.put(payload)

    def send(self, payload: bytes, more: bytes | memoryview = b"") -> None:
        """Queues one message; waits while the peer is slow."""
        _outcome(self._transport.submit(self._send(payload + bytes(more) if more else payload)))

    def close_send(self) -> None:
        """Says that no more messages follow."""
        _outcome(self._transport.submit(self._send(None)))

    def receive(self, timeout_s: float = 0) -> bytes | None:
        """The next message, None at the end; raises the call's error."""
        if self._finished:
            return None
        future = self._transport.submit(self._inbox.get())
        try:
            message = _outcome(future, timeout_s)
        except TimeoutError as error:
            future.cancel()
            raise errdefs.DeadlineExceeded from error
        if isinstance(message, errdefs.ContainerdError):
            self._finished = True
            raise message
        self._finished = message is None
        return None if message is None else bytes(message)

    def close(self) -> None:
        """Cancels the call."""
        self._finished = True
        self._task.cancel()


class LoopTransport(ABC):
    """Implements client.port.Transport. Safe to use from several threads. Owns an eventfd, not the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._pending: list[LoopPending] = []
        self._lock = threading.Lock()
        self._under_way: set[Any] = set()
        self._cut = False

    @abstractmethod
    async def _unary(
        self, service: str, method: str, payload: bytes, metadata: dict[str, str], timeout_s: float
    ) -> bytes:
        """One call in the loop; raises errdefs. `timeout_s` 0 for none."""

    @abstractmethod
    async def _exchange(
        self, stream: LoopStream, service: str, method: str, metadata: dict[str, str], kind: tuple[bool, bool]
    ) -> None:
        """One streaming call in the loop, `kind` (client streaming, server streaming); raises errdefs."""

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine in the loop; a concurrent future comes back. Unavailable once the connection is cut."""
        with self._lock:
            if self._cut:
                coroutine.close()
                raise _lost()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def cut(self) -> None:
        """Ends every call with Unavailable, and every later one. Any thread."""
        with self._lock:
            self._cut = True
        for future in tuple(self._under_way):
            future.cancel()

    def fileno(self) -> int:
        """An eventfd, readable when a started call is answered."""
        return self._wake_fd

    @property
    def wants_write(self) -> bool:
        """Never: the loop does the writing."""
        return False

    def pump(self) -> None:
        """Settles the calls that are answered."""
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return
        self._pending = [pending for pending in self._pending if not pending.refresh()]

    def call(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = _NO_METADATA,
        timeout_s: float = 0,
    ) -> bytes:
        """One call, waited for. Raises the server's error, DeadlineExceeded or Unavailable."""
        call = self._unary(service, method, payload, _with_trace(metadata), timeout_s)
        return bytes(_outcome(self.submit(call)))

    def start(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = _NO_METADATA,
        timeout_s: float = 0,
    ) -> LoopPending:
        """Sends a call and gives its handle without waiting."""
        future = self.submit(self._unary(service, method, payload, _with_trace(metadata), timeout_s))
        pending = LoopPending(future)
        self._pending.append(pending)
        future.add_done_callback(lambda _: self._wake())
        return pending

    def stream(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = _NO_METADATA,
        timeout_s: float = 0,
        *,
        client_streaming: bool = False,
        server_streaming: bool = True,
    ) -> LoopStream:
        """Opens a streaming call."""
        del timeout_s  # streams of containerd have no deadline of their own
        kind, headers = (client_streaming, server_streaming), _with_trace(metadata)
        stream = LoopStream(self, lambda it: self._exchange(it, service, method, headers, kind))
        if not client_streaming:
            stream.send(payload)
            stream.close_send()
        return stream

    def close(self) -> None:
        """Ends every call; twice is once."""
        self.cut()
        with self._lock:
            wake_fd, self._wake_fd = self._wake_fd, -1
        if wake_fd >= 0:
            os.close(wake_fd)

    def _wake(self) -> None:
        with self._lock:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)


def _outcome(future: Any, timeout_s: float = 0) -> Any:
    """What the loop came to; Unavailable where the connection was cut meanwhile, TimeoutError."""
    try:
        return future.result(timeout_s or None)
    except CancelledError:
        raise _lost() from None


def _lost() -> errdefs.Unavailable:
    return errdefs.Unavailable("connection to the daemon lost: closed")


def _with_trace(metadata: Mapping[str, str]) -> dict[str, str]:
    return {**metadata, **trace.metadata()}
