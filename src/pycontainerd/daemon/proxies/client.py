"""gRPC to a plugin in another process: blocking calls for the daemon's threads, on an event loop of their own.

Their own loop, because the daemon's waits for its threads when it stops. The connection is made with the first call and
made again when it was lost.

Spec: containerd docs/PLUGINS.md#proxy-plugins
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.metadata import decode_grpc_message

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.ttrpc.address import socket_path

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from pycontainerd.lib.api.codec import Method, Service

_CARDINALITY: Final = {
    (False, False): Cardinality.UNARY_UNARY,
    (False, True): Cardinality.UNARY_STREAM,
    (True, False): Cardinality.STREAM_UNARY,
    (True, True): Cardinality.STREAM_STREAM,
}
_PATIENCE_S: Final = 3.0
_FAILURES: Final = (GRPCError, ProtocolError, StreamTerminatedError, OSError)


class ProxyClient:
    """One plugin's socket. Safe to use from several threads; `close` once."""

    def __init__(self, address: str, service: Service) -> None:
        self._path = socket_path(address)
        self._service = service
        self._methods = {method.name: method for method in service.methods}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._channel: Channel | None = None
        self._closed = False

    def call(self, name: str, request: Any, namespace: str = "") -> Any:
        """One unary call, waited for. Raises the plugin's error, or Unavailable."""
        return self.run(self._unary(name, request, namespace))

    def collect(self, name: str, request: Any, namespace: str = "") -> Sequence[Any]:
        """All messages of a server stream."""
        messages: Sequence[Any] = self.run(self._collect(name, request, namespace))
        return messages

    def open(self, name: str, namespace: str = "") -> ProxyStream:
        """A stream in both directions; the holder closes it."""
        return ProxyStream(self, self.run(self._request(name, namespace)))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """A coroutine on the loop, waited for by this thread; grpclib's errors become errdefs."""
        if self._closed:
            coroutine.close()
            raise errdefs.Unavailable(f"{self._path}: the daemon stops: unavailable")
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except _FAILURES as e:
            raise self.translate(e) from e
        except CancelledError as e:
            raise errdefs.Unavailable(f"{self._path}: the daemon stops: unavailable") from e

    def translate(self, error: BaseException) -> errdefs.ContainerdError:
        """grpclib's errors in our vocabulary."""
        if isinstance(error, GRPCError):
            return errdefs.from_status(error.status.value, error.message or "")
        return errdefs.Unavailable(f"connection error: {self._path}: {error}: unavailable")

    def close(self) -> None:
        """Ends the connection and the thread; a call under way has some seconds to end, and fails then."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _open(self, name: str, namespace: str) -> Any:
        if self._channel is None:
            self._channel = Channel(path=self._path)
        method: Method = self._methods[name]
        metadata = {**trace.metadata(), **({"containerd-namespace": namespace} if namespace else {})}
        return self._channel.request(
            f"/{self._service.name}/{name}",
            _CARDINALITY[method.client_streaming, method.server_streaming],
            method.request,
            method.response,
            metadata=metadata,
        )

    async def _unary(self, name: str, request: Any, namespace: str) -> Any:
        async with self._open(name, namespace) as stream:
            await stream.send_message(request, end=True)
            reply = await stream.recv_message()
            await stream.recv_trailing_metadata()
        if reply is None:
            raise errdefs.Internal(f"{self._service.name}.{name} answered without a message")
        return reply

    async def _collect(self, name: str, request: Any, namespace: str) -> list[Any]:
        async with self._open(name, namespace) as stream:
            await stream.send_message(request, end=True)
            return [message async for message in stream]

    async def _request(self, name: str, namespace: str) -> Any:
        stream = self._open(name, namespace)
        await stream.__aenter__()
        try:
            await stream.send_request()
        except BaseException:
            await stream.cancel()
            raise
        return stream

    async def _shut(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others, timeout=_PATIENCE_S)
        if self._channel is not None:
            self._channel.close()
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class ProxyStream:
    """One bidirectional stream: a message out, a message back."""

    def __init__(self, client: ProxyClient, stream: Any) -> None:
        self._client = client
        self._stream = stream
        self._open = True

    def exchange(self, message: Any) -> Any:
        """Sends one message and waits for its answer; raises the plugin's error, after which the stream is closed."""
        try:
            return self._client.run(self._exchange(message))
        except errdefs.ContainerdError:
            self.close()
            raise

    async def _exchange(self, message: Any) -> Any:
        try:
            await self._stream.send_message(message)
            reply = await self._stream.recv_message()
            if reply is None:
                await self._stream.recv_trailing_metadata()
        except StreamTerminatedError:
            # A server that ends the stream early sends its status and then resets: the status counts.
            self._raise_status()
            raise
        if reply is None:
            raise errdefs.Unavailable("the plugin ended the stream without an answer: unavailable")
        return reply

    def _raise_status(self) -> None:
        inner = self._stream._stream  # noqa: SLF001 -- grpclib shows it nowhere else
        headers = dict(inner.trailers or inner.headers or ())
        status = int(headers.get("grpc-status", "0"))
        if status:
            raise errdefs.from_status(status, decode_grpc_message(headers.get("grpc-message", "")))

    def close(self) -> None:
        """Idempotent; cancels what the plugin is still doing."""
        if not self._open:
            return
        self._open = False
        self._client.run(self._cancel())

    async def _cancel(self) -> None:
        with suppress(*_FAILURES):  # ended already
            await self._stream.cancel()
        with suppress(*_FAILURES):  # releases the stream, and repeats how it ended
            await self._stream.__aexit__(None, None, None)
