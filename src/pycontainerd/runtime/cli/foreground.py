"""The foreground of run and exec: signals passed on, a terminal relayed, the exit status brought back.

Man:  signalfd(2), pty(7), termios(3)
"""

from __future__ import annotations

import errno
import os
import select

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux import process as proc
from pycontainerd.lib.linux.libc import go_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Protocol

    class Watched(Protocol):
        """Something with a descriptor."""

        def fileno(self) -> int: ...
        def close(self) -> None: ...

else:
    import _signal as signal  # the signal module costs 3 ms: it makes enums

SIGCHLD, SIGURG, SIGWINCH = 17, 23, 28
_FORWARDED = frozenset(range(1, 65)) - {9, 19, 32, 33}
_CHUNK = 32768


class Foreground:
    """A context around create and wait. Signals are blocked inside and read as data, so none is lost or runs a handler."""

    __slots__ = (
        "_ends",
        "_host_fd",
        "_mask",
        "_master_fd",
        "_modes",
        "_pumps",
        "_terminal",
        "_watches",
        "console_fd",
        "stdio",
    )

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal
        self._host_fd = self._master_fd = -1
        self._modes: list[Any] | None = None
        self._ends: list[int] = []
        self._pumps: dict[int, int] = {}
        self._mask: set[int] = set()
        self._watches: dict[int, tuple[Watched, Callable[[], None]]] = {}
        self.console_fd = -1
        self.stdio: tuple[int, int, int] = (0, 1, 2)

    def __enter__(self) -> Foreground:
        self._mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED))
        if self._terminal:
            from _socket import socketpair

            self._host_fd = _host_terminal()
            ours, theirs = socketpair(1, 1 | 0o2000000, 0)
            self._ends.append(ours.detach())
            self.console_fd = theirs.detach()
        elif any(os.isatty(fd) for fd in range(3)):
            # A container that isn't meant to have a terminal must not get ours.
            self._make_pipes()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._modes is not None:
            import termios

            termios.tcsetattr(self._host_fd, termios.TCSANOW, self._modes)
        for fd in (*self._ends, self._master_fd, self.console_fd):
            if fd >= 0:
                os.close(fd)
        for source, _heard in self._watches.values():
            source.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _make_pipes(self) -> None:
        in_read, in_write = os.pipe()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        self.stdio = (in_read, out_write, err_write)
        self._pumps = {0: in_write, out_read: 1, err_read: 2}

    def attached(self) -> None:
        """After create: takes the terminal's master, or closes the container's ends of the pipes."""
        if self._terminal:
            from _socket import socket

            from pycontainerd.lib.linux.fd import recv_fds

            connection: Any = socket(fileno=os.dup(self._ends[0]))
            _data, fds = recv_fds(connection, 4096, 1)
            connection.close()
            if len(fds) != 1:
                raise InvalidArgument("the container sent no terminal")
            self._master_fd = fds[0]
            self._resize()
            import termios
            import tty

            self._modes = termios.tcgetattr(self._host_fd)
            tty.setraw(self._host_fd)
            self._pumps = {0: self._master_fd, self._master_fd: 1}
        elif self._pumps:
            for fd in self.stdio:
                os.close(fd)

    def _resize(self) -> None:
        from pycontainerd.lib.linux import pty

        try:
            pty.set_size(self._master_fd, *pty.get_size(self._host_fd))
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EIO, errno.EINVAL):
                raise

    def watch(self, source: Watched, heard: Callable[[], None]) -> None:
        """Has `wait` call `heard` whenever `source` can be read; it is closed with the foreground."""
        self._watches[source.fileno()] = (source, heard)

    def wait(self, pid: int) -> int:
        """Until the process ends: relays, forwards signals, reaps orphans; the exit status as a shell's."""
        if not self._pumps and not self._watches:
            return self._wait_plain(pid)
        signal_fd = _signalfd()
        self._ends.append(signal_fd)
        poll = select.poll()
        poll.register(signal_fd, select.POLLIN)
        for source in (*self._pumps, *self._watches):
            poll.register(source, select.POLLIN)
        code = -1
        while code < 0:
            for fd, _events in poll.poll():
                if fd == signal_fd:
                    for number in _read_signals(signal_fd):
                        found = self._handle(number, pid)
                        code = found if found >= 0 else code
                elif fd in self._watches:
                    self._watches[fd][1]()
                elif not self._pump(fd):
                    poll.unregister(fd)
        self._drain(poll)
        return code

    def _wait_plain(self, pid: int) -> int:
        code = self._reap(pid)
        while code < 0:
            code = self._handle(signal.sigwaitinfo(_FORWARDED).si_signo, pid)
        return code

    def _handle(self, number: int, pid: int) -> int:
        if number == SIGCHLD:
            return self._reap(pid)
        if number == SIGWINCH and self._master_fd >= 0:
            self._resize()
        elif number != SIGURG:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return self._reap(pid)
        return -1

    def _reap(self, pid: int) -> int:
        code = -1
        while True:
            try:
                found, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return code
            if found == 0:
                return code
            if found == pid:
                code = proc.exit_code(status)

    def _pump(self, source: int) -> bool:
        target = self._pumps[source]
        try:
            data = os.read(source, _CHUNK)
            while data:
                data = data[os.write(target, data) :]
                if not data:
                    return True
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):  # the other side of the terminal or pipe is gone
                raise
        if source == 0 and target != self._master_fd:
            os.close(target)
        return False

    def _drain(self, poll: select.poll) -> None:
        for source in self._pumps:
            if source == 0:
                continue
            while _is_readable(source) and self._pump(source):
                continue


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _host_terminal() -> int:
    for fd in (2, 1, 0):
        if os.isatty(fd):
            return fd
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArgument(f"open /dev/tty: {go_error(error.errno or 0)}") from None


def _signalfd() -> int:
    from pycontainerd.lib.linux.constants import number
    from pycontainerd.lib.linux.libc import syscall

    signalfd4 = syscall(
        number("signalfd4"),
        "signalfd4",
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_uint64),
        ctypes.c_size_t,
        ctypes.c_int,
    )
    mask = ctypes.c_uint64(sum(1 << (item - 1) for item in _FORWARDED))
    return signalfd4(-1, mask, 8, 0o2000000 | 0o4000)  # SFD_CLOEXEC | SFD_NONBLOCK


def _read_signals(fd: int) -> list[int]:
    try:
        data = os.read(fd, 128 * 16)
    except BlockingIOError:
        return []
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 128)]
