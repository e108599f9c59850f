"""Streams between a client and a job of the daemon: Any messages in both directions, found by name.

A client opens a stream over the streaming service and names it in another request; the job that request starts takes it
from here. The job runs in a thread and never waits for the event loop, which waits for threads when the daemon stops.

Spec: containerd core/streaming
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from pycontainerd.lib.errdefs import AlreadyExists, Canceled, NotFound

if TYPE_CHECKING:
    from pycontainerd.daemon.core.typed import TypedValue

_MAX_WAITING: Final = 64  # messages that came and that the job has not taken yet


class Stream:
    """One stream. The job's side is for threads, the server's for the event loop it was made on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._inbox: deque[TypedValue] = deque()
        self._ended = False  # the client sends no more
        self._gone = False  # the client left
        self._outbox: asyncio.Queue[TypedValue | None] = asyncio.Queue()
        self._taken = asyncio.Event()

    def receive(self) -> TypedValue | None:
        """The job waits for the next message; None when the client has sent all, Canceled when it left."""
        with self._changed:
            self._changed.wait_for(lambda: self._inbox or self._ended or self._gone)
            if self._inbox:
                message = self._inbox.popleft()
            elif self._gone:
                raise Canceled("the client closed the stream")
            else:
                return None
        self._call(self._taken.set)
        return message

    def send(self, message: TypedValue) -> None:
        """The job sends a message; Canceled when the client left. Never waits: what may be sent says the protocol above."""
        if self._gone:
            raise Canceled("the client closed the stream")
        self._call(self._outbox.put_nowait, message)

    def close(self) -> None:
        """The job needs the stream no more; the client sees its end after what was sent."""
        self._call(self._outbox.put_nowait, None)

    async def feed(self, message: TypedValue) -> None:
        """The server brings a message; waits while the job is slow."""
        while len(self._inbox) >= _MAX_WAITING and not self._gone:
            self._taken.clear()
            await self._taken.wait()
        with self._changed:
            self._inbox.append(message)
            self._changed.notify_all()

    def feed_end(self) -> None:
        """The client sends no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def outgoing(self) -> TypedValue | None:
        """The server takes what the job sent; None after its `close`."""
        return await self._outbox.get()

    def abandon(self) -> None:
        """The client is gone: the job's calls fail."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _call(self, function: object, *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)  # type: ignore[arg-type]


class StreamManager:
    """The open streams of all namespaces; used on the event loop only."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], Stream] = {}

    def register(self, namespace: str, name: str) -> Stream:
        """A new stream; AlreadyExists for a name in use."""
        if (namespace, name) in self._streams:
            raise AlreadyExists(f"stream {name}: already exists")
        stream = self._streams[namespace, name] = Stream()
        return stream

    def get(self, namespace: str, name: str) -> Stream:
        """NotFound."""
        stream = self._streams.get((namespace, name))
        if stream is None:
            raise NotFound(f"stream {name}: not found")
        return stream

    def forget(self, namespace: str, name: str) -> None:
        """A stream has ended."""
        self._streams.pop((namespace, name), None)
