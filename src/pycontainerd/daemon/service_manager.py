"""A service manager around the daemon: the sockets that it has opened for us, and what it is told.

    LISTEN_FDS, LISTEN_PID      descriptors 3, 4, ... are listening sockets, if LISTEN_PID is this process
    NOTIFY_SOCKET               takes READY=1 and STOPPING=1

A socket is known by the address it is bound to, not by its name (LISTEN_FDNAMES): what the daemon listens on is in its
configuration, and each of them can be one that was opened before.

Man: sd_listen_fds(3), sd_notify(3), systemd.socket(5)
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.ttrpc.address import socket_path

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIRST_FD: Final = 3
_VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Inherited:
    """Listening sockets that a service manager has made and passed on. Owns them until they are popped."""

    def __init__(self, listeners: Iterable[socket.socket] = ()) -> None:
        self._listeners = {_name(listener): listener for listener in listeners}

    @classmethod
    def take(cls) -> Inherited:
        """All that were passed to this process, which alone is told of them: what it starts is not.

        InvalidArgument for what is no listening stream socket.
        """
        told = {name: os.environ.pop(name, "") for name in _VARIABLES}
        count = told["LISTEN_FDS"]
        if told["LISTEN_PID"] != str(os.getpid()) or not count.isdecimal():
            return cls()
        return cls([_listener(fd) for fd in range(_FIRST_FD, _FIRST_FD + int(count))])

    def pop(self, address: str) -> socket.socket | None:
        """The socket of a unix address; its file is the service manager's to remove."""
        return self._listeners.pop(os.path.realpath(socket_path(address)), None)

    def pop_tcp(self, address: str) -> list[socket.socket]:
        """The sockets of a `host:port`: of one of the host's addresses, or of all where it says none."""
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not self._listeners or not port.isdecimal() or int(port) > 65535:
            return []
        try:
            found = socket.getaddrinfo(
                host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError:
            return []  # whoever listens by itself says why that can't be
        names = {_tcp_name(*name[:2]) for *_, name in found}
        return [self._listeners.pop(name) for name in sorted(names & self._listeners.keys())]

    def close_rest(self) -> list[str]:
        """Closes what nobody asked for; their names."""
        names = sorted(self._listeners)
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        return names


def notify(message: str) -> str:
    """Tells the service manager, where there is one; why it could not be told, which is no reason to stop."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return ""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect("\0" + path[1:] if path.startswith("@") else path)
            sender.send(message.encode())
    except OSError as e:
        return f"cannot tell {path} {message}: {e.strerror or e}"
    return ""


def _listener(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        listener = socket.socket(fileno=fd)
    except OSError as e:
        raise InvalidArgument(
            f"LISTEN_FDS: descriptor {fd} is no socket: {e.strerror or e}",
            hint="who starts the daemon passes listening sockets from descriptor 3 on",
        ) from e
    kinds = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
    is_stream = listener.family in kinds and listener.type == socket.SOCK_STREAM
    if not is_stream or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        name = _name(listener)
        listener.close()
        raise InvalidArgument(
            f"LISTEN_FDS: descriptor {fd} ({name}) is no listening stream socket",
            hint="a socket unit names the daemon's addresses with ListenStream=, and has Accept=no",
        )
    listener.setblocking(False)
    return listener


def _name(listener: socket.socket) -> str:
    """What a socket is bound to: the path without links in it, or address and port."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX and isinstance(name, str):
        return os.path.realpath(name) if name else "without a name"
    return _tcp_name(*name[:2]) if isinstance(name, tuple) else repr(name)


def _tcp_name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
