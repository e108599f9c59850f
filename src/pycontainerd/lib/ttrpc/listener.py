"""Listening unix sockets of shims: only their owner may use them, and a dead shim's gives way.

Man: unix(7)
"""

from __future__ import annotations

import _socket
import os

from pycontainerd.lib.errdefs import Unknown
from pycontainerd.lib.ttrpc.address import socket_path

_EADDRINUSE = 98
_PROBE_S = 0.1


def listen(path: str) -> _socket.socket:
    """A listener on a socket file that isn't there yet. OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unless_served(address: str) -> _socket.socket | None:
    """A listener in a folder that is made for it; None when somebody answers there already. Unknown says why not."""
    path = socket_path(address)
    _make_folder(os.path.dirname(path))
    try:
        try:
            return listen(path)
        except OSError as e:
            if e.errno != _EADDRINUSE:
                raise
        if _answers(path):
            return None
        os.unlink(path)  # left behind by a shim that was killed
        return listen(path)
    except OSError as e:
        raise Unknown(f"create new shim socket: listen unix {path}: {e.strerror}") from e


def _make_folder(path: str) -> None:
    os.makedirs(os.path.dirname(path), 0o711, exist_ok=True)
    try:  # noqa: SIM105 - contextlib costs 2 ms
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # shared with every other shim of this machine


def _answers(path: str) -> bool:
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    probe.settimeout(_PROBE_S)
    try:
        probe.connect(path)
    except OSError:
        return False
    finally:
        probe.close()
    return True
