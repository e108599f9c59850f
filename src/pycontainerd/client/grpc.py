"""gRPC to a containerd that isn't ours: grpclib in a background thread, behind the same surface as the ttrpc client.

grpclib and asyncio cost 50 ms to import, so nothing imports this module before it is known to be needed.

Runs in: CLIs; the thread belongs to the GrpcClient and ends with `close()`
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.metadata import decode_grpc_message
from grpclib.stream import recv_message

from pycontainerd.client.loop_transport import LoopTransport
from pycontainerd.lib import errdefs

if TYPE_CHECKING:
    from pycontainerd.client.loop_transport import LoopStream

_KINDS: Final = {
    (False, True): Cardinality.UNARY_STREAM,
    (True, False): Cardinality.STREAM_UNARY,
    (True, True): Cardinality.STREAM_STREAM,
}


# What grpclib ends a call with. AttributeError: it makes a stream on a connection that was lost a moment ago.
_FAILURES: Final = (GRPCError, ProtocolError, StreamTerminatedError, OSError, AttributeError)


class _BytesCodec(CodecBase):
    """Payloads are encoded by lib.api before they come here."""

    @property
    def __content_subtype__(self) -> str:
        return "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return data


class GrpcClient(LoopTransport):
    """One channel to a unix socket and the thread that serves it. Safe to use from several threads."""

    def __init__(self, path: str) -> None:
        super().__init__(asyncio.new_event_loop())
        self._thread = threading.Thread(target=self._serve, name="grpc", daemon=True)
        self._thread.start()
        self._channel: Channel = self.submit(self._open(path)).result()

    def close(self) -> None:
        """Closes the channel and ends the thread."""
        if not self._thread.is_alive():
            return
        self.cut()
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        super().close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self, path: str) -> Channel:
        return Channel(path=path, codec=_BytesCodec())

    async def _shut(self) -> None:
        self._channel.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _unary(
        self, service: str, method: str, payload: bytes, metadata: dict[str, str], timeout_s: float
    ) -> bytes:
        try:
            async with self._channel.request(
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
        except _FAILURES as error:
            raise translate(error) from error
        if reply is None:
            raise errdefs.Internal(f"{service}.{method} answered without a message")
        return reply

    async def _exchange(
        self, stream: LoopStream, service: str, method: str, metadata: dict[str, str], kind: tuple[bool, bool]
    ) -> None:
        settled, end = False, None
        try:
            async with self._channel.request(
                f"/{service}/{method}", _KINDS[kind], bytes, bytes, metadata=metadata
            ) as grpc:
                await grpc.send_request()
                sender = asyncio.ensure_future(_send_all(stream, grpc))
                try:
                    while (message := await grpc.recv_message()) is not None:
                        await stream.deliver(message)
                except StreamTerminatedError as error:
                    settled, end = True, await _after_reset(stream, grpc, error)
                finally:
                    sender.cancel()
        except _FAILURES as error:
            if not settled:
                raise translate(error) from error
        if end is not None:
            raise end


async def _send_all(stream: LoopStream, grpc: Any) -> None:
    while (message := await stream.outgoing()) is not None:
        await grpc.send_message(message)
    await grpc.end()


async def _after_reset(
    stream: LoopStream, grpc: Any, error: StreamTerminatedError
) -> errdefs.ContainerdError | None:
    """Go's server resets a stream that it ended before we did, right after its answer: the answer counts.

    grpclib takes the reset for a failure; what came before it is still in its buffer and trailers.
    """
    inner = grpc._stream  # noqa: SLF001 - grpclib shows it nowhere else
    headers = dict(inner.trailers or inner.headers or ())
    if "grpc-status" not in headers:
        return translate(error)
    while (message := await recv_message(inner, _BytesCodec(), bytes)) is not None:
        await stream.deliver(message)
    status = int(headers["grpc-status"])
    return (
        errdefs.from_status(status, decode_grpc_message(headers.get("grpc-message", ""))) if status else None
    )


def translate(error: BaseException) -> errdefs.ContainerdError:
    """grpclib's errors in our vocabulary."""
    if isinstance(error, GRPCError):
        return errdefs.from_status(error.status.value, error.message or "")
    if isinstance(error, TimeoutError):
        return errdefs.DeadlineExceeded()
    return errdefs.Unavailable(f"connection to the daemon lost: {error}")
