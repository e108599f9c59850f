"""Listening sockets and lock files: who may be the daemon of a folder.

Man: unix(7), flock(2)
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core import files
from pycontainerd.lib.errdefs import AlreadyExists, InvalidArgument
from pycontainerd.lib.ttrpc.address import socket_path

if TYPE_CHECKING:
    from pycontainerd.daemon.config import SocketConfig

_LOCK_NAME: Final = "daemon.lock"


def lock_folder(folder: str, flag: str) -> int:
    """Locks a folder for this process's life; AlreadyExists names the daemon that has it. Returns the fd to keep."""
    path = f"{folder}/{_LOCK_NAME}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise AlreadyExists(
            f"another daemon (pid {owner}) is using {flag} {folder}",
            hint=f"talk to that one, stop it, or give this one another {flag}",
        ) from e
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def listen_unix(address: str, config: SocketConfig) -> socket.socket:
    """A bound, listening unix socket with containerd's mode 0660; a stale socket file of a dead daemon is replaced."""
    path = socket_path(address)
    if not os.path.isabs(path):
        raise InvalidArgument(f"address must be an absolute path: {address!r}")
    files.make_dir(os.path.dirname(path), 0o711)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(listener.fileno(), 0o660)  # bind takes it: world-connectable not for an instant
        listener.bind(path)
        os.chmod(path, 0o660)  # whatever the umask took off
        os.chown(path, config.uid, config.gid)
        listener.listen(4096)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def listen_tcp(address: str) -> list[socket.socket]:
    """Bound, listening sockets for `host:port`; a host of several addresses has one each, an empty one is every address."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidArgument(f"address must be host:port: {address!r}")
    host = host.removeprefix("[").removesuffix("]")
    listeners: list[socket.socket] = []
    try:
        if not host and socket.has_dualstack_ipv6():
            return [socket.create_server(("", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)]
        for family, kind, _, _, name in socket.getaddrinfo(
            host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            if kind == socket.SOCK_STREAM:
                listeners.append(socket.create_server(name[:2], family=family))
    except OSError as e:
        for listener in listeners:
            listener.close()
        raise InvalidArgument(f"cannot listen on {address}: {e.strerror or e}") from e
    return listeners


def remove_unix(address: str) -> None:
    """Unlinks a socket's file, so that nobody connects to a daemon that has left."""
    with suppress(FileNotFoundError):
        os.unlink(socket_path(address))


def _remove_stale(path: str) -> None:
    """Unlinks a socket nobody answers on; AlreadyExists when somebody does, InvalidArgument for another file."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise InvalidArgument(
            f"{path} exists and is not a socket", hint="remove it, or use another --address"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise AlreadyExists(
        f"another daemon is answering on {path}",
        hint="talk to that one, stop it, or give this one another --address",
    )
