"""NOTIFY_SOCKET: the socket by which a container tells the service manager of the host that it is ready.

    service manager                    pyrunc                              container
      $NOTIFY_SOCKET <-- READY=1  -- ROOT/ID/notify/notify.sock <-- /run/notify/notify.sock = its NOTIFY_SOCKET
                     <-- MAINPID=
                     <-- BARRIER=1 (with a pipe's end, where pyrunc leaves then)

`create` makes the folder and the mount, `start` the socket; `run` does both. Only that it is ready is passed on, never
what else the container says: a MAINPID of its own is a number in another pid namespace.

Man: sd_notify(3), sd_notify_barrier(3)
"""

from __future__ import annotations

import os
import select

from pycontainerd.lib.errdefs import InvalidArgument, Unknown
from pycontainerd.lib.linux.fd import rights
from pycontainerd.lib.linux.libc import go_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from pycontainerd.runtime.libcontainer.container import Container
    from pycontainerd.runtime.libcontainer.options import CreateOptions

FOLDER, NAME = "notify", "notify.sock"
INSIDE = "/run/notify"
BARRIER_S = 30
_MAX_MESSAGE = 4096


def add_to(options: CreateOptions, spec: dict[str, Any]) -> None:
    """Gives the container the folder of the socket, read-only, and the variable; `spec` is changed and used."""
    spec.setdefault("mounts", []).append(
        {
            "destination": INSIDE,
            "source": f"{options.root}/{options.id}/{FOLDER}",
            "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
        }
    )
    if "process" in spec:
        spec["process"].setdefault("env", []).append(f"NOTIFY_SOCKET={INSIDE}/{NAME}")
    options.spec = spec
    options.folder = FOLDER


class Proxy:
    """The container's socket, and the way on to the host's. A context: left, it listens no more."""

    __slots__ = ("_container", "_host", "_path", "_socket")

    def __init__(self, container: Container, path: str) -> None:
        self._container = container
        self._path = path
        self._host: socket | None = None
        self._socket = _listen(f"{container.directory}/{FOLDER}")

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Listens no more."""
        self._socket.close()
        if self._host is not None:
            self._host.close()

    def connect(self) -> None:
        """Reaches the host's socket; InvalidArgument when nobody listens there."""
        from _socket import socket

        self._host = socket(1, 2 | 0o2000000, 0)  # AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            self._host.connect(address)
        except OSError as error:
            # Python's own error for a path that is too long has no errno.
            raise InvalidArgument(
                f"dial unixgram {self._path}: connect: {go_error(error.errno or 22)}"
            ) from error

    def fileno(self) -> int:
        """What becomes readable when the container has said something."""
        return self._socket.fileno()

    def ready(self) -> bool:
        """Reads one message: whether it says that the container is ready."""
        # Unlike runc, which wants it at the message's beginning: sd_notify(3) gives the lines no order.
        return any(line.startswith(b"READY=") for line in self._socket.recv(_MAX_MESSAGE).split(b"\n"))

    def tell(self, pid: int) -> bool:
        """Tells the host that the service is ready and which process it is; False when it listens no more."""
        assert self._host is not None
        try:
            self._host.send(b"READY=1\n")
            self._host.send(f"MAINPID={pid}\n".encode())
        except (ConnectionRefusedError, ConnectionResetError):
            return False
        return True

    def wait(self) -> bool:
        """Until the container is ready, and passes it on; False when the container ended before.

        Returns when the host has read it all: a service manager would else ask who the sender was when that has left.
        """
        pid = self._container.pid
        pidfd = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.register(self._socket.fileno(), select.POLLIN)
            while True:
                found = [fd for fd, _events in poll.poll()]
                if self._socket.fileno() not in found:
                    return False
                if self.ready():
                    if self.tell(pid):
                        self._await_barrier()
                    return True
        finally:
            os.close(pidfd)

    def _await_barrier(self) -> None:
        assert self._host is not None
        read_fd, write_fd = os.pipe()
        try:
            try:
                self._host.sendmsg([b"BARRIER=1"], rights([write_fd]))
            finally:
                os.close(write_fd)
            poll = select.poll()
            poll.register(read_fd, select.POLLIN)
            # Nobody closes it in time: a host that doesn't know the barrier. It has our messages all the same.
            if poll.poll(BARRIER_S * 1000) and os.read(read_fd, 1):
                raise Unknown("unexpected read from synchronization pipe")
        finally:
            os.close(read_fd)


def _listen(folder: str) -> socket:
    from _socket import socket

    path = f"{folder}/{NAME}"
    listener = socket(1, 2 | 0o2000000, 0)  # AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC
    try:
        folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # By the folder's descriptor: an address has room for 108 bytes, a state root may need more.
            listener.bind(f"/proc/self/fd/{folder_fd}/{NAME}")
            os.chmod(path, 0o777)  # whoever the container's processes run as
        finally:
            os.close(folder_fd)
    except OSError as error:
        listener.close()
        raise InvalidArgument(f"listen unixgram {path}: bind: {go_error(error.errno or 0)}") from error
    return listener
