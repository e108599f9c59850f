"""Bytes over a stream of messages, with a window: who reads says how much may be on its way.

    reader                     writer
      WindowUpdate(64 KiB) ──▶
           ◀── Data(32 KiB)
           ◀── Data(32 KiB)
      WindowUpdate(32 KiB) ──▶        …            the end of the stream is the end of the bytes

Spec: containerd core/transfer/streaming
Runs in: a transfer's thread
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.full import transfer_types
from pycontainerd.lib.errdefs import Canceled, InvalidArgument

if TYPE_CHECKING:
    from pycontainerd.daemon.core.streams import Stream

MAX_DATA_BYTES: Final = 32 << 10
WINDOW_BYTES: Final = 2 * MAX_DATA_BYTES


class ByteReader:
    """The client's bytes as a file: `read(n)` gives n bytes, fewer only at the end."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._at_end = False
        self._window = 0

    def read(self, size: int) -> bytes:
        """Waits until there are `size` bytes. Canceled when the client leaves, InvalidArgument for other messages."""
        while len(self._buffer) < size and not self._at_end:
            self._open_window()
            message = self._stream.receive()
            if message is None:
                self._at_end = True
                break
            data = _unpack(message, transfer_types.Data).data
            if len(data) > self._window:
                raise InvalidArgument("the client sent more than it was asked for")
            self._window -= len(data)
            self._buffer += data
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def close(self) -> None:
        """Lets the stream go."""
        self._stream.close()

    def _open_window(self) -> None:
        if self._window < WINDOW_BYTES // 2:
            self._stream.send(_pack(transfer_types.WindowUpdate(update=WINDOW_BYTES - self._window)))
            self._window = WINDOW_BYTES


class ByteWriter:
    """Bytes to the client, as far as its window allows."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._window = 0

    def write(self, data: bytes) -> None:
        """Waits for the client. Canceled when it leaves."""
        rest = memoryview(data)
        while rest:
            while self._window <= 0:
                message = self._stream.receive()
                if message is None:
                    raise Canceled("the client stopped reading")
                self._window += _unpack(message, transfer_types.WindowUpdate).update
            size = min(len(rest), self._window, MAX_DATA_BYTES)
            self._stream.send(_pack(transfer_types.Data(data=bytes(rest[:size]))))
            self._window -= size
            rest = rest[size:]

    def close(self) -> None:
        """The end of the bytes."""
        self._stream.close()


def _pack(message: Any) -> TypedValue:
    return TypedValue(anys.full_name(message), message.SerializeToString())


def _unpack(value: TypedValue, message: Any) -> Any:
    if not anys.is_type(value, message):  # type: ignore[arg-type]  # it looks at type_url alone
        raise InvalidArgument(f"expected {anys.full_name(message)} on the stream, got {value.type_url}")
    return message.FromString(value.value)
