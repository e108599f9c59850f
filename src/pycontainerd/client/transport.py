"""The two ways to a containerd: ttrpc to our own daemon, gRPC to anybody's; payloads are bytes here.

`lib.ttrpc.client.Client` is one Transport as it is; `client.grpc.GrpcClient` is the other.

Runs in: CLIs and dockerd's worker threads; one Transport per thread (`connect` again for another one)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from pycontainerd.lib.errdefs import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

TTRPC: Final = "ttrpc"
GRPC: Final = "grpc"


class Pending(Protocol):
    """A call under way. `done` turns true in `pump()`; then `result()` returns the answer or raises its error."""

    done: bool

    def result(self) -> bytes:
        """The answer of a call that is done."""
        ...


class Stream(Protocol):
    """A streaming call."""

    def send(self, payload: bytes) -> None:
        """Sends one message, waiting while the peer is slow."""
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


def connect(address: str, timeout_s: float = 10) -> tuple[str, Transport]:
    """(TTRPC or GRPC, transport): ttrpc where the daemon serves everything there, gRPC elsewhere.

    Unavailable, with ctr's text, when nobody answers.
    """
    path = socket_path(address)
    ours = _connect_ttrpc(f"{path}.ttrpc", timeout_s)
    if ours is not None:
        return TTRPC, ours
    from pycontainerd.client.grpc import GrpcClient

    _probe(path, timeout_s)
    return GRPC, GrpcClient(path)


def connect_as(kind: str, address: str, timeout_s: float = 10) -> Transport:
    """A further connection of a kind that is known already."""
    path = socket_path(address)
    if kind == TTRPC:
        from pycontainerd.lib.ttrpc.client import Client as TtrpcClient

        return TtrpcClient.connect(f"{path}.ttrpc", timeout_s)
    from pycontainerd.client.grpc import GrpcClient

    return GrpcClient(path)


def is_answering(address: str) -> bool:
    """Whether somebody accepts connections on the address."""
    try:
        _probe(socket_path(address), 1)
    except Unavailable:
        return False
    return True


def socket_path(address: str) -> str:
    """The path of `unix:///path` or of a plain path; InvalidArgument for another scheme."""
    path = address.removeprefix("unix://")
    if "://" in path or not path:
        raise InvalidArgument(f"address {address!r} is not a unix socket")
    return path


def _connect_ttrpc(path: str, timeout_s: float) -> Transport | None:
    """A connection to our daemon; None when nobody answers, or when a stock containerd (events only) does."""
    import os

    from pycontainerd.lib.errdefs import ContainerdError

    if not os.path.exists(path):
        return None
    from pycontainerd.lib.ttrpc.client import Client as TtrpcClient

    try:
        client = TtrpcClient.connect(path, timeout_s)
    except ContainerdError:
        return None
    try:
        client.call("containerd.services.version.v1.Version", "Version", timeout_s=timeout_s)
    except ContainerdError:
        client.close()
        return None
    return client


def _probe(path: str, timeout_s: float) -> None:
    import _socket

    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        probe.settimeout(timeout_s)
        probe.connect(path)
    except OSError as error:
        raise dial_error(path, error) from error
    finally:
        probe.close()


def dial_error(path: str, error: OSError) -> Unavailable:
    """ctr's words for a daemon that doesn't answer; the hint says what is really the matter."""
    return Unavailable(
        f'failed to dial "{path}": context deadline exceeded: connection error: desc = "transport: '
        f'error while dialing: dial unix://{path}: timeout"',
        hint=f"no daemon answers on {path} ({error.strerror or error}); start one, or name another with --address",
        errno=error.errno or 0,
    )
