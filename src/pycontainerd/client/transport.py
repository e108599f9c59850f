"""The ways to a containerd: ttrpc to our own daemon, gRPC to anybody's; payloads are bytes here.

`lib.ttrpc.client.Client` is one Transport as it is; `client.grpc.GrpcClient` is the other. A third one, to a daemon in
this process, is `embedded`'s: it is handed to the client.

Runs in: CLIs and dockerd's worker threads; one Transport per thread (`connect` again for another one)
"""

from __future__ import annotations

from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import InvalidArgument, Unavailable

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.client.port import Transport

TTRPC: Final = "ttrpc"
GRPC: Final = "grpc"
DIRECT: Final = "direct"


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
    """A connection to our daemon; None when nobody is there, or when a stock containerd (events only) is.

    Unavailable for one that is there and doesn't answer in time: by gRPC it would be as slow.
    """
    import os

    from pycontainerd.lib.errdefs import ContainerdError, DeadlineExceeded

    if not os.path.exists(path):
        return None
    with trace.span("load code", module="lib.ttrpc.client"):
        from pycontainerd.lib.ttrpc.client import Client as TtrpcClient

    try:
        client = TtrpcClient.connect(path, timeout_s)
    except ContainerdError:
        return None
    try:
        metadata = trace.metadata()
        with trace.span(trace.WAIT):
            client.call(
                "containerd.services.version.v1.Version", "Version", metadata=metadata, timeout_s=timeout_s
            )
    except DeadlineExceeded as error:
        client.close()
        raise dial_error(path.removesuffix(".ttrpc"), TimeoutError(110, "Connection timed out")) from error
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
