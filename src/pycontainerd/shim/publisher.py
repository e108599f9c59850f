"""Events to the daemon: by ttrpc, in order, again when it was away; or by its publish command.

    queue -> Events.Forward on TTRPC_ADDRESS, one at a time
          -> `PUBLISH-BINARY --address A publish --topic T --namespace N` with the Any on stdin, when there is no address

An event is tried six times, one second later each time, and then dropped with a line in the log; at most 2048 wait.

Spec: containerd docs/runtime-v2.md#events
"""

from __future__ import annotations

import _socket
import os
from _collections import deque
from time import time_ns

from pycontainerd.lib import errdefs
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import events_ttrpc_v1, types, wkt
from pycontainerd.lib.linux import posix_spawn
from pycontainerd.lib.ttrpc.address import socket_path
from pycontainerd.lib.ttrpc.client import Client
from pycontainerd.shim.future import Future
from pycontainerd.shim.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.lib.ttrpc.client import Pending
    from pycontainerd.shim.world import World

QUEUE_SIZE: Final = 2048
MAX_RETRIES: Final = 5
TIMEOUT_S: Final = 5
SERVICE: Final = events_ttrpc_v1.EVENTS.name


class _Item:
    __slots__ = ("event", "request", "topic", "tries")

    def __init__(self, topic: str, namespace: str, event: wkt.Any) -> None:
        seconds, nanos = divmod(time_ns(), 1_000_000_000)
        self.topic = topic
        self.event = event.SerializeToString()
        self.tries = 0
        self.request = events_ttrpc_v1.ForwardRequest(
            envelope=types.Envelope(
                timestamp=wkt.Timestamp(seconds=seconds, nanos=nanos),
                namespace=namespace,
                topic=topic,
                event=event,
            )
        ).SerializeToString()


class Publisher:
    """Sends events one after another; `publish` never waits."""

    def __init__(self, world: World, ttrpc_address: str, publish_binary: str) -> None:
        self._world = world
        self._address = ttrpc_address
        self._binary = publish_binary
        self._queue: deque[_Item] = deque()
        self._client: Client | None = None
        self._watched_fd = -1
        self._busy = False
        self._pending: Pending | None = None
        self._answer: Future[None] | None = None
        self._idle: list[Future[None]] = []

    @property
    def is_idle(self) -> bool:
        """Whether everything has been sent."""
        return not self._busy

    def publish(self, topic: str, event: object) -> None:
        """Queues an event message."""
        if len(self._queue) >= QUEUE_SIZE:
            self._world.log.error("event queue is full, dropping event", topic=topic)
            return
        self._queue.append(_Item(topic, self._world.namespace, anys.pack(event)))  # type: ignore[arg-type]
        if not self._busy:
            self._busy = True
            self._next()

    async def drained(self, timeout_s: float) -> None:
        """Waits until everything has been sent, at most that long."""
        if not self._busy:
            return
        idle: Future[None] = Future()
        self._idle.append(idle)
        await self._world.loop.within(idle, timeout_s)

    def close(self) -> None:
        """Hangs up; what is queued is lost."""
        self._queue.clear()
        self._hang_up()

    def _next(self) -> None:
        from pycontainerd.shim.future import spawn as run

        if not self._queue:
            self._busy = False
            idle, self._idle = self._idle, []
            for future in idle:
                future.set(None)
            return
        run(self._send(self._queue[0])).when_done(self._sent)

    def _sent(self, outcome: Future[None]) -> None:
        item = self._queue[0] if self._queue else None
        if item is None:
            self._next()
            return
        try:
            outcome.result()
        except (errdefs.ContainerdError, OSError) as e:
            item.tries += 1
            self._world.log.error("forward event", error=e, topic=item.topic)
            if item.tries <= MAX_RETRIES:
                self._world.loop.later(item.tries, self._next)
                return
            self._world.log.error(f"evicting {item.topic} from queue because of retry count")
        self._queue.popleft()
        self._next()

    async def _send(self, item: _Item) -> None:
        if self._address:
            await self._forward(item)
        elif self._binary:
            await self._run_binary(item)
        else:
            raise errdefs.FailedPrecondition("no ttrpc address and no publish binary to send events to")

    async def _forward(self, item: _Item) -> None:
        client = self._connected()
        self._answer = Future()
        self._pending = client.start(SERVICE, "Forward", item.request, timeout_s=TIMEOUT_S)
        self._settle()
        if not await self._world.loop.within(self._answer, TIMEOUT_S):
            self._hang_up()
            raise errdefs.DeadlineExceeded
        self._pending.result()

    async def _run_binary(self, item: _Item) -> None:
        argv = [self._binary, "--address", self._world.address, "publish"]
        argv += ["--topic", item.topic, "--namespace", self._world.namespace]
        stdin_fd = os.memfd_create("event", os.MFD_CLOEXEC)
        try:
            os.write(stdin_fd, item.event)
            os.lseek(stdin_fd, 0, os.SEEK_SET)
            pid = posix_spawn.start(argv, posix_spawn.environment(), {0: stdin_fd})
        finally:
            os.close(stdin_fd)
        status = (await self._world.reaper.wait(pid)).status
        if status:
            raise errdefs.Unknown(f"failed to publish event: exit status {status}")

    def _connected(self) -> Client:
        if self._client is None or self._client.closed:
            self._hang_up()
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            # Unix sockets connect at once or not at all, so this doesn't wait: a full backlog is EAGAIN.
            sock.setblocking(False)
            try:
                sock.connect(socket_path(self._address))
            except OSError as e:
                sock.close()
                raise errdefs.Unavailable(f"failed to dial {self._address!r}: {e.strerror}") from e
            self._client = Client(sock)
            self._watched_fd = sock.fileno()
            self._world.loop.watch(self._watched_fd, READ, self._on_ready)
        return self._client

    def _on_ready(self, events: int) -> None:
        if self._client is not None:
            self._client.pump()
        self._settle()

    def _settle(self) -> None:
        """Wakes the sender when its answer is there; watches for writing while bytes are left over."""
        if self._client is not None:
            if self._client.closed:
                self._unwatch()
            else:
                self._world.loop.rewatch(self._watched_fd, READ | (WRITE if self._client.wants_write else 0))
        if self._pending is not None and self._pending.done and self._answer is not None:
            self._answer.set(None)

    def _hang_up(self) -> None:
        self._unwatch()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _unwatch(self) -> None:
        if self._watched_fd >= 0:
            self._world.loop.unwatch(self._watched_fd)
            self._watched_fd = -1
