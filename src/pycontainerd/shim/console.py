"""Terminals: the socket on which a runtime hands over the pty master, and what is done with it.

Spec: runc docs/terminals.md
Man: unix(7) SCM_RIGHTS, pty(7)
"""

from __future__ import annotations

import _socket
import os

from pycontainerd.lib import errdefs
from pycontainerd.lib.linux.fd import fds_of
from pycontainerd.shim import io_open
from pycontainerd.shim.io import ProcessIO, Stdio, open_fifo_writer, split_uri

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.shim.io_open import Owner
    from pycontainerd.shim.loop import Loop

_TIMEOUT_S: Final = 30
_CLOEXEC: Final = os.O_CLOEXEC


class ConsoleSocket:
    """A listening socket in a folder of its own, /tmp/pty<digits>/pty.sock; both go with `close()`."""

    def __init__(self) -> None:
        runtime_dir = os.environ.get("XDG_RUNTIME_DIR", "")
        parent = runtime_dir or os.environ.get("TMPDIR") or "/tmp"
        self._dir = _make_dir(parent)
        if runtime_dir:
            os.chmod(self._dir, 0o1700)  # sticky: a cleaner of XDG_RUNTIME_DIR leaves it alone
        self.path = f"{self._dir}/pty.sock"
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.bind(self.path)
        self._socket.listen(1)
        self._socket.setblocking(False)

    async def receive(self, loop: Loop) -> int:
        """The pty master a runtime sends, owned by the caller. Raises Unknown when none comes in 30 s."""
        if not await loop.readable(self._socket.fileno(), _TIMEOUT_S):
            raise errdefs.Unknown("failed to retrieve console master: timed out")
        fd, _ = self._socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - socket.accept without the enum-heavy socket module
        peer = _socket.socket(fileno=fd)
        try:
            if not await loop.readable(fd, _TIMEOUT_S):
                raise errdefs.Unknown("failed to retrieve console master: timed out")
            return receive_fd(peer)
        finally:
            peer.close()

    def close(self) -> None:
        """Removes socket and folder; twice is once."""
        if self._socket.fileno() < 0:
            return
        self._socket.close()
        os.unlink(self.path)
        os.rmdir(self._dir)


def _make_dir(parent: str) -> str:
    for _ in range(100):
        path = f"{parent}/pty{int.from_bytes(os.urandom(4), 'big')}"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        return path
    raise errdefs.Unknown(f"failed to create OCI runtime console socket: no free name in {parent}")


def receive_fd(peer: _socket.socket) -> int:
    """Exactly one fd of one message, close-on-exec. Raises Unknown for anything else."""
    _, ancillary, _, _ = peer.recvmsg(4096, _socket.CMSG_SPACE(4 * 4), _socket.MSG_CMSG_CLOEXEC)
    fds = fds_of(ancillary)
    if len(fds) == 1:
        return fds[0]
    for fd in fds:
        os.close(fd)
    raise errdefs.Unknown(f"failed to retrieve console master: {len(fds)} fds in the message, not one")


async def attach(io: ProcessIO, master_fd: int, stdio: Stdio, owner: Owner) -> None:
    """Takes over the master and connects it with the client's streams; they start with `io.start()`."""
    io.console_fd = master_fd
    os.set_blocking(master_fd, False)
    try:
        if stdio.stdin:
            source_fd = os.open(stdio.stdin, os.O_RDONLY | os.O_NONBLOCK | _CLOEXEC)
            io.own(source_fd)
            io.keep_stdin_open(stdio.stdin)
            # A second fd of the master, because an epoll set knows each fd once.
            target_fd = os.dup(master_fd)
            io.own(target_fd)
            io.set_stdin(source_fd, target_fd)
        if stdio.stdout:
            await _attach_output(io, master_fd, stdio.stdout, owner)
    except OSError as e:
        raise errdefs.Unknown(f"failed to start console copy: {e}", errno=e.errno or 0) from e


async def _attach_output(io: ProcessIO, master_fd: int, stdout: str, owner: Owner) -> None:
    scheme, path, query = split_uri(stdout)
    if scheme not in ("binary", "binary-v2"):
        target_fd = open_fifo_writer(path)
        io.own(target_fd)
        io.add_output(master_fd, target_fd, close=(target_fd,))
        return
    out_read_fd, out_write_fd = os.pipe2(_CLOEXEC)
    err_read_fd, err_write_fd = os.pipe2(_CLOEXEC)  # a terminal has one stream; the logger sees this one end
    os.close(err_write_fd)
    io.own(out_read_fd, out_write_fd, err_read_fd)
    await io_open.start_logger(io, scheme, path, query, owner, (out_read_fd, err_read_fd))
    os.close(out_read_fd)
    os.close(err_read_fd)
    io.disown(out_read_fd, err_read_fd)
    os.set_blocking(out_write_fd, False)
    io.add_output(master_fd, out_write_fd, close=(out_write_fd,))
