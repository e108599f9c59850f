"""gRPC to a containerd that isn't ours: grpclib in a background thread, behind the same surface as the ttrpc client.

grpclib and asyncio cost 50 ms to import, so nothing imports this module before it is known to be needed.

Runs in: CLIs; the thread belongs to the GrpcClient and ends with `close()`
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.metadata import decode_grpc_message
from grpclib.stream import recv_message

from pycontainerd.lib import errdefs, trace

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

_NO_METADATA: Final[dict[str, str]] = {}
_MAX_QUEUE: Final = 64  # messages of a stream that nobody has taken yet


class _BytesCodec(CodecBase):
    """Payloads are encoded by lib.api before they come here."""

    @property
    def __content_subtype__(self) -> str:
        return "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return data


class GrpcPending:
    """A unary call under way in the thread."""

    __slots__ = ("_future", "done")

    def __init__(self, future: Any) -> None:
        self._future = future
        self.done = False

    def refresh(self) -> bool:
        """Sets `done` once the thread has the answer."""
        self.done = self._future.done()
        return self.done

    def result(self) -> bytes:
        """The answer of a call that is done; raises its error."""
        return bytes(self._future.result())


class GrpcStream:
    """One streaming call: a task in the thread moves messages through two bounded queues."""

    def __init__(
        self, client: GrpcClient, name: str, cardinality: Cardinality, metadata: dict[str, str]
    ) -> None:
        self._client = client
        self._inbox: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_MAX_QUEUE)
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue(4)
        self._task = client.submit(self._run(name, cardinality, metadata))
        self._finished = False

    async def _run(self, name: str, cardinality: Cardinality, metadata: dict[str, str]) -> None:
        settled = False
        try:
            async with self._client.channel.request(
                name, cardinality, bytes, bytes, metadata=metadata
            ) as stream:
                await stream.send_request()
                sender = asyncio.ensure_future(self._send_all(stream))
                try:
                    while (message := await stream.recv_message()) is not None:
                        await self._inbox.put(message)
                except StreamTerminatedError as error:
                    await self._settle_reset(stream, error)
                    settled = True
                finally:
                    sender.cancel()
            if not settled:
                await self._inbox.put(None)
        except (GRPCError, ProtocolError, StreamTerminatedError, OSError) as error:
            if not settled:
                await self._inbox.put(translate(error))

    async def _settle_reset(self, stream: Any, error: StreamTerminatedError) -> None:
        """Go's server resets a stream that it ended before we did, right after its answer: the answer counts.

        grpclib takes the reset for a failure; what came before it is still in its buffer and trailers.
        """
        inner = stream._stream  # noqa: SLF001 - grpclib shows it nowhere else
        headers = dict(inner.trailers or inner.headers or ())
        if "grpc-status" not in headers:
            await self._inbox.put(translate(error))
            return
        while (message := await recv_message(inner, _BytesCodec(), bytes)) is not None:
            await self._inbox.put(message)
        status = int(headers["grpc-status"])
        text = decode_grpc_message(headers.get("grpc-message", ""))
        await self._inbox.put(errdefs.from_status(status, text) if status else None)

    async def _send_all(self, stream: Any) -> None:
        while True:
            message = await self._outbox.get()
            if message is None:
                await stream.end()
                return
            await stream.send_message(message)

    def send(self, payload: bytes) -> None:
        """Queues one message; waits while the peer is slow."""
        self._client.submit(self._outbox.put(payload)).result()

    def close_send(self) -> None:
        """Says that no more messages follow."""
        self._client.submit(self._outbox.put(None)).result()

    def receive(self, timeout_s: float = 0) -> bytes | None:
        """The next message, None at the end; raises the call's error."""
        if self._finished:
            return None
        future = self._client.submit(self._inbox.get())
        try:
            message = future.result(timeout_s or None)
        except TimeoutError as error:
            future.cancel()
            raise errdefs.DeadlineExceeded from error
        if isinstance(message, BaseException):
            self._finished = True
            raise message
        self._finished = message is None
        return None if message is None else bytes(message)

    def close(self) -> None:
        """Cancels the call."""
        self._finished = True
        self._task.cancel()


class GrpcClient:
    """One channel to a unix socket and the thread that serves it. Safe to use from several threads."""

    def __init__(self, path: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._pending: list[GrpcPending] = []
        self._thread = threading.Thread(target=self._serve, name="grpc", daemon=True)
        self._thread.start()
        self.channel = asyncio.run_coroutine_threadsafe(self._open(path), self._loop).result()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self, path: str) -> Channel:
        return Channel(path=path, codec=_BytesCodec())

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine in the thread; a concurrent future comes back."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def fileno(self) -> int:
        """An eventfd, readable when a started call is answered."""
        return self._wake_fd

    @property
    def wants_write(self) -> bool:
        """Never: the thread does the writing."""
        return False

    def pump(self) -> None:
        """Settles the calls that are answered."""
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return
        self._pending = [pending for pending in self._pending if not pending.refresh()]

    def wait(self, deadline: float | None) -> None:
        """Waits for an answer once and pumps; DeadlineExceeded at `deadline` (monotonic seconds)."""
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        left_ms = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000 + 0.999))
        if not poller.poll(left_ms) and deadline is not None:
            raise errdefs.DeadlineExceeded
        self.pump()

    def call(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = _NO_METADATA,
        timeout_s: float = 0,
    ) -> bytes:
        """One call, waited for. Raises the server's error, DeadlineExceeded or Unavailable."""
        result = self.submit(self._unary(service, method, payload, _with_trace(metadata), timeout_s)).result()
        return bytes(result)

    def start(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = _NO_METADATA,
        timeout_s: float = 0,
    ) -> GrpcPending:
        """Sends a call and gives its handle without waiting."""
        future = self.submit(self._unary(service, method, payload, _with_trace(metadata), timeout_s))
        pending = GrpcPending(future)
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
    ) -> GrpcStream:
        """Opens a streaming call."""
        del timeout_s  # streams of containerd have no deadline of their own
        kinds = {
            (False, True): Cardinality.UNARY_STREAM,
            (True, False): Cardinality.STREAM_UNARY,
            (True, True): Cardinality.STREAM_STREAM,
        }
        stream = GrpcStream(
            self, f"/{service}/{method}", kinds[client_streaming, server_streaming], _with_trace(metadata)
        )
        if not client_streaming:
            stream.send(payload)
            stream.close_send()
        return stream

    def close(self) -> None:
        """Closes the channel and ends the thread."""
        if not self._thread.is_alive():
            return
        self.submit(self._shut()).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        os.close(self._wake_fd)

    async def _shut(self) -> None:
        self.channel.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _wake(self) -> None:
        try:
            os.eventfd_write(self._wake_fd, 1)
        except OSError:
            return  # closed meanwhile: nobody waits any more

    async def _unary(
        self, service: str, method: str, payload: bytes, metadata: dict[str, str], timeout_s: float
    ) -> bytes:
        try:
            async with self.channel.request(
                f"/{service}/{method}",
                Cardinality.UNARY_UNARY,
                bytes,
                bytes,
                timeout=timeout_s or None,
                metadata=metadata,
            ) as stream:
                await stream.send_message(payload, end=True)
                reply: bytes | None = await stream.recv_message()
                await stream.recv_trailing_metadata()
        except (GRPCError, ProtocolError, StreamTerminatedError, OSError) as error:
            raise translate(error) from error
        if reply is None:
            raise errdefs.Internal(f"{service}.{method} answered without a message")
        return reply


def translate(error: BaseException) -> errdefs.ContainerdError:
    """grpclib's errors in our vocabulary."""
    if isinstance(error, GRPCError):
        return errdefs.from_status(error.status.value, error.message or "")
    if isinstance(error, TimeoutError):
        return errdefs.DeadlineExceeded()
    return errdefs.Unavailable(f"connection to the daemon lost: {error}")


def _with_trace(metadata: Mapping[str, str]) -> dict[str, str]:
    return {**metadata, **trace.metadata()}
