"""A connection to a containerd in one namespace: requests and answers are messages of lib.api.light.

Runs in: CLIs and dockerd's worker threads; not for use by two threads (`another()` gives the next one its own)
"""

from __future__ import annotations

from pycontainerd.client import transport as transports
from pycontainerd.lib import trace
from pycontainerd.lib.api import codec
from pycontainerd.lib.errdefs import Canceled, ContainerdError, DeadlineExceeded

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainerd.client.port import Pending, Stream, Transport
    from pycontainerd.lib.api.codec import Message, Method, Service


def as_go_says(error: ContainerdError) -> ContainerdError:
    """The error as containerd's own client words it: what the server said, and the name of its class once."""
    message, reason = str(error), error.reason
    if type(error) in {Canceled, DeadlineExceeded} or message == reason or message.endswith(f": {reason}"):
        return error
    error.args = (f"{message}: {reason}" if message else reason,)
    return error


class Reply:
    """A call under way; `done` turns true in `Client.pump()`."""

    __slots__ = ("_method", "_pending")

    def __init__(self, method: Method, pending: Pending) -> None:
        self._method = method
        self._pending = pending

    @property
    def done(self) -> bool:
        """Whether `result` would return at once."""
        return self._pending.done

    def result(self) -> Any:
        """The answer; raises the server's error."""
        try:
            payload = self._pending.result()
        except ContainerdError as error:
            raise as_go_says(error) from error.__cause__
        return self._method.response.FromString(payload)


class _Later:
    """A call whose answer is waited for when the client is left; its error is raised then, unless it is allowed."""

    __slots__ = ("allowed", "reply")

    def __init__(self, reply: Reply, allowed: tuple[type[ContainerdError], ...]) -> None:
        self.reply = reply
        self.allowed = allowed


class MessageStream:
    """A streaming call of messages; a context manager that gives the call up when left."""

    __slots__ = ("_method", "_stream")

    def __init__(self, method: Method, stream: Stream) -> None:
        self._method = method
        self._stream = stream

    def __enter__(self) -> MessageStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the call up."""
        self._stream.close()

    def __iter__(self) -> MessageStream:
        return self

    def __next__(self) -> Any:
        message = self.receive()
        if message is None:
            raise StopIteration
        return message

    def send(self, message: Message) -> None:
        """Sends one message."""
        self._stream.send(message.SerializeToString())

    def send_with(self, message: Message, name: str, data: bytes | memoryview) -> None:
        """Sends one message whose last field is `data`, which isn't copied here; it may be written to again after that."""
        self._stream.send(codec.before_field(message, name, len(data)), data)

    def close_send(self) -> None:
        """Says that no more messages follow."""
        self._stream.close_send()

    def receive(self) -> Any:
        """The next message, None at the end; raises the server's error."""
        try:
            payload = self._stream.receive()
        except ContainerdError as error:
            raise as_go_says(error) from error.__cause__
        return None if payload is None else self._method.response.FromString(payload)


class Client:
    """One namespace on one connection. Owns the connection; a context manager."""

    __slots__ = ("_dial", "_later", "_timeout_s", "_transport", "address", "kind", "lease", "namespace")

    def __init__(
        self,
        address: str,
        namespace: str = "default",
        *,
        connect_timeout_s: float = 10,
        timeout_s: float = 0,
        kind: str = "",
        dial: Callable[[], Transport] | None = None,
    ) -> None:
        """Connects; Unavailable when nobody answers. `timeout_s` 0 lets calls take as long as they need.

        `dial` makes the connection where it isn't one to the socket `address`: to a daemon in this process.
        """
        self.address = address
        self.namespace = namespace
        self.lease = ""
        self._later: list[_Later] = []
        self._timeout_s = timeout_s
        self._dial = dial
        with trace.span("connect", address=address):
            if dial is not None:
                self.kind, self._transport = transports.DIRECT, dial()
            elif kind:
                self.kind = kind
                self._transport = transports.connect_as(kind, address, connect_timeout_s)
            else:
                self.kind, self._transport = transports.connect(address, connect_timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        # Also after an error: a connection that closes cancels what the daemon has under way for it.
        try:
            self._settle(quietly=error is not None)
        finally:
            self.close()

    def _settle(self, *, quietly: bool) -> None:
        """Waits for the calls made later; `quietly` where another error is on its way, which is the one that matters."""
        failure: ContainerdError | None = None
        for later in self._later:
            try:
                self.wait(later.reply)
            except later.allowed:
                continue
            except ContainerdError as error:
                failure = failure or error
        if failure is not None and not quietly:
            raise failure

    def another(self) -> Client:
        """A client of its own connection, same namespace and lease: for another thread."""
        other = Client(
            self.address, self.namespace, timeout_s=self._timeout_s, kind=self.kind, dial=self._dial
        )
        other.lease = self.lease
        return other

    def is_ours(self) -> bool:
        """Whether the daemon is pycontainerd (it serves everything over ttrpc; others serve events only)."""
        return self.kind != transports.GRPC

    def call(self, service: Service, method: str, request: Message, *, timeout_s: float = 0) -> Any:
        """One call, waited for; raises the server's error as the errdefs class of its code."""
        found = service.method(method)
        with trace.span("rpc", service=service.name, method=method):
            # The daemon's steps stand below this one, beside the wait for them.
            metadata = {**self._metadata(), **trace.metadata()}
            with trace.span(trace.WAIT):
                try:
                    payload = self._transport.call(
                        service.name,
                        method,
                        request.SerializeToString(),
                        metadata,
                        timeout_s or self._timeout_s,
                    )
                except ContainerdError as error:
                    raise as_go_says(error) from error.__cause__
                return found.response.FromString(payload)

    def start(self, service: Service, method: str, request: Message) -> Reply:
        """One call, not waited for: poll `fileno()`, then `pump()`."""
        pending = self._transport.start(service.name, method, request.SerializeToString(), self._metadata())
        return Reply(service.method(method), pending)

    def call_later(
        self, service: Service, method: str, request: Message, allowed: tuple[type[ContainerdError], ...] = ()
    ) -> None:
        """One call that nothing depends on: it is waited for when the client's `with` block ends.

        Its error is raised then, unless it is one of `allowed` or the block ends with another one.
        """
        self._later.append(_Later(self.start(service, method, request), allowed))

    def stream(self, service: Service, method: str, request: Message | None = None) -> MessageStream:
        """A streaming call; `request` is the only one where the client doesn't stream."""
        found = service.method(method)
        stream = self._transport.stream(
            service.name,
            method,
            b"" if request is None else request.SerializeToString(),
            self._metadata(),
            client_streaming=found.client_streaming,
            server_streaming=found.server_streaming,
        )
        return MessageStream(found, stream)

    def fileno(self) -> int:
        """For poll loops."""
        return self._transport.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether to poll for writing too."""
        return self._transport.wants_write

    def pump(self) -> None:
        """Settles started calls that are answered."""
        self._transport.pump()

    def wait(self, reply: Reply) -> Any:
        """Waits for a started call."""
        import select

        with trace.span(trace.WAIT):
            while not reply.done:
                poller = select.poll()
                poller.register(self.fileno(), select.POLLIN | (select.POLLOUT if self.wants_write else 0))
                poller.poll()
                self.pump()
            return reply.result()

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def _metadata(self) -> dict[str, str]:
        # Both spellings, as containerd's client sends them; a stock daemon reads the gRPC one, ours either.
        metadata = {"containerd-namespace": self.namespace, "containerd-namespace-ttrpc": self.namespace}
        if self.lease:
            metadata["containerd-lease"] = self.lease
        return metadata
