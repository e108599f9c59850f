"""What a transport is: calls and streams of bytes on one connection. Types only; nothing imports this at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Pending(Protocol):
    """A call under way. `done` turns true in `pump()`; then `result()` returns the answer or raises its error."""

    done: bool

    def result(self) -> bytes:
        """The answer of a call that is done."""
        ...


class Stream(Protocol):
    """A streaming call."""

    def send(self, payload: bytes, more: bytes | memoryview = b"") -> None:
        """Sends one message, in one piece or two, waiting while the peer is slow; `more` may be written to after that."""
        ...

    def close_send(self) -> None:
        """Says that no more messages follow."""
        ...

    def receive(self, timeout_s: float = 0) -> bytes | None:
        """The next message, None at the end; `timeout_s` 0 waits for ever."""
        ...

    def close(self) -> None:
        """Gives the call up."""
        ...


class Transport(Protocol):
    """A connection. `fileno()` is readable (or writable, while `wants_write`) when `pump()` has something to do."""

    def fileno(self) -> int:
        """For poll loops; owned by the transport."""
        ...

    @property
    def wants_write(self) -> bool:
        """Whether to poll for writing too."""
        ...

    def pump(self) -> None:
        """Settles the calls that are answered, without waiting."""
        ...

    def call(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = ...,
        timeout_s: float = 0,
    ) -> bytes:
        """One call, waited for."""
        ...

    def start(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = ...,
        timeout_s: float = 0,
    ) -> Pending:
        """One call, not waited for."""
        ...

    def stream(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        metadata: Mapping[str, str] = ...,
        timeout_s: float = 0,
        *,
        client_streaming: bool = False,
        server_streaming: bool = True,
    ) -> Stream:
        """A streaming call; `payload` is the one request of a call that isn't client streaming."""
        ...

    def close(self) -> None:
        """Closes the connection; calls under way end with Unavailable."""
        ...
