"""A process's stdio: FIFOs that the shim opens too, a poll loop that copies them, and the terminal.

    DIR/<random digits>/<id>-stdin   caller -> shim        opened O_RDWR, so that nothing is lost before the shim opens it
    DIR/<random digits>/<id>-stdout  shim -> caller        closed by the shim when the container's end is
    DIR/<random digits>/<id>-stderr  shim -> caller        absent with a terminal

One thread: FIFOs, own stdin, signals (a wake-up fd) and the answer to Wait are polled together.

Man: fifo(7), poll(2), termios(3)
"""

from __future__ import annotations

import os
import select

from pycontainerd.lib import errdefs

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any, Final, Protocol

    from pycontainerd.client.client import Client, Reply

    class Connection(Protocol):
        """Where answers come from while output is copied: a daemon's or a shim's."""

        def fileno(self) -> int: ...
        def pump(self) -> None: ...

    class Process(Protocol):
        """What a terminal's input, size and signals go to."""

        def kill(self, signal: int) -> None: ...
        def resize(self, width: int, height: int) -> None: ...
        def close_stdin(self) -> None: ...

else:
    import _signal as signal  # the signal module costs 3 ms: it makes enums

STOCK_FOLDER: Final = "/run/containerd/fifo"
_CHUNK: Final = 65536
# Never forwarded: about the caller's own life, or sent by the kernel for its own faults.
_KEPT: Final = frozenset(
    {
        signal.SIGCHLD,
        signal.SIGPIPE,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGABRT,
        signal.SIGSYS,
    }
)


class Streams:
    """What the daemon is told about a process's stdio: paths or URIs; empty ones go to /dev/null."""

    __slots__ = ("stderr", "stdin", "stdout", "terminal")

    def __init__(
        self, stdin: str = "", stdout: str = "", stderr: str = "", *, terminal: bool = False
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal


class Fifos:
    """FIFOs on disk and this side's ends of them. Owns both; `close` removes them."""

    __slots__ = ("_folder", "stderr_fd", "stdin_fd", "stdout_fd", "streams")

    def __init__(self, streams: Streams, folder: str = "") -> None:
        self.streams = streams
        self._folder = folder
        self.stdin_fd = _open(streams.stdin, os.O_RDWR)
        self.stdout_fd = _open(streams.stdout, os.O_RDONLY)
        self.stderr_fd = _open(streams.stderr, os.O_RDONLY)

    def close_stdin(self) -> None:
        """Closes the caller's end of stdin."""
        if self.stdin_fd >= 0:
            os.close(self.stdin_fd)
            self.stdin_fd = -1

    def close(self, *, keep: bool = False) -> None:
        """Closes the ends; removes the FIFOs unless a detached container goes on using them."""
        self.close_stdin()
        for name in ("stdout_fd", "stderr_fd"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)
        if self._folder and not keep:
            remove_folder(self._folder, self.streams)
            self._folder = ""


def default_folder(client: Client) -> str:
    """Where FIFOs go: beside our own daemon's socket, or where containerd's clients put them."""
    if not client.is_ours():
        return STOCK_FOLDER
    return f"{os.path.dirname(client.address.removeprefix('unix://'))}/fifo"


def make_fifos(folder: str, process_id: str, *, terminal: bool, stdin: bool = True) -> Fifos:
    """New FIFOs in a new folder with a random name of digits, readable by root only."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    while True:
        own = f"{folder}/{int.from_bytes(os.urandom(4), 'little')}"
        try:
            os.mkdir(own, 0o700)
            break
        except FileExistsError:
            continue
    streams = Streams(
        f"{own}/{process_id}-stdin" if stdin else "",
        f"{own}/{process_id}-stdout",
        "" if terminal else f"{own}/{process_id}-stderr",
        terminal=terminal,
    )
    try:
        for path in (streams.stdin, streams.stdout, streams.stderr):
            if path:
                os.mkfifo(path, 0o700)
        return Fifos(streams, own)
    except FileNotFoundError as error:
        remove_folder(own, streams)
        raise errdefs.InvalidArgument(
            f"failed to open stdin fifo: error creating fifo {error.filename or streams.stdin or streams.stdout}: "
            "no such file or directory",
            hint="an id holds no slash",
        ) from error
    except BaseException:
        remove_folder(own, streams)
        raise


def attach_fifos(streams: Streams) -> Fifos:
    """The ends of FIFOs that exist already; `close` leaves them, their folder is the task's."""
    return Fifos(streams)


def log_streams(uri: str, *, terminal: bool) -> Streams:
    """stdio handled by the shim: `file:///path`, `binary:///path?arg`, or a bare path of a file."""
    full = uri if "://" in uri else f"file://{uri}"
    return Streams("", full, "" if terminal else full, terminal=terminal)


def remove_folder(folder: str, streams: Streams) -> None:
    """Removes FIFOs and the folder made for them; one that is gone is fine."""
    for path in (streams.stdin, streams.stdout, streams.stderr):
        if path:
            _unless_missing(os.unlink, path)
    _unless_missing(os.rmdir, folder)


def remove_streams(streams: Streams) -> None:
    """Removes the FIFOs of a task that is gone, and their folder when nothing else is in it."""
    paths = [path for path in (streams.stdin, streams.stdout, streams.stderr) if path and "://" not in path]
    if not paths:
        return
    for path in paths:
        _unless_missing(os.unlink, path)
    _unless_missing(os.rmdir, os.path.dirname(paths[0]))


def _unless_missing(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        import errno

        if error.errno != errno.ENOTEMPTY:
            raise


def _open(path: str, mode: int) -> int:
    if not path or "://" in path:
        return -1
    return os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)


class Terminal:
    """The caller's terminal in raw mode for the length of a `with` block."""

    __slots__ = ("_saved", "fd")

    def __init__(self, fd: int = 0) -> None:
        self.fd = fd
        self._saved: Any = None

    def __enter__(self) -> Terminal:
        import termios
        import tty

        self._saved = termios.tcgetattr(self.fd)
        tty.setraw(self.fd, termios.TCSANOW)
        return self

    def __exit__(self, *exc_info: object) -> None:
        import termios

        termios.tcsetattr(self.fd, termios.TCSADRAIN, self._saved)

    def size(self) -> tuple[int, int]:
        """(width, height) in cells."""
        width, height = os.get_terminal_size(self.fd)
        return width, height


class Signals:
    """Signals as bytes on a pipe, for the length of a `with` block; handlers are put back afterwards."""

    __slots__ = ("_old", "_old_wakeup", "_write_fd", "read_fd")

    def __init__(self) -> None:
        self._old: dict[int, Any] = {}
        self._old_wakeup = -1
        self.read_fd = self._write_fd = -1

    def __enter__(self) -> Signals:
        self.read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old_wakeup = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in signal.valid_signals():
            if number in _KEPT and number != signal.SIGWINCH:
                continue
            if number in {32, 33, 34}:  # the C library's own
                continue
            if number == signal.SIGALRM and callable(signal.getsignal(number)):
                continue  # --timeout's: ours, not the process's
            self._old[number] = signal.signal(number, _on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self.read_fd)
        os.close(self._write_fd)

    def take(self) -> bytes:
        """The signals that came since the last call."""
        try:
            return os.read(self.read_fd, 256)
        except BlockingIOError:
            return b""


def _on_signal(_number: int, _frame: object) -> None:
    """The wake-up fd carries the signal; a handler has to be there for that."""


class Copier:
    """Copies stdio and forwards signals until the process has ended and its output is drained."""

    def __init__(
        self,
        client: Connection,
        process: Process,
        fifos: Fifos,
        signals: Signals,
        *,
        terminal: Terminal | None = None,
        stdin_fd: int = 0,
    ) -> None:
        self._client = client
        self._process = process
        self._fifos = fifos
        self._signals = signals
        self._terminal = terminal
        self._source_fd = stdin_fd if fifos.stdin_fd >= 0 else -1
        self._outgoing = b""
        self._poller = select.poll()
        self._sinks = {fd: sink for fd, sink in ((fifos.stdout_fd, 1), (fifos.stderr_fd, 2)) if fd >= 0}

    def run(self, exited: Reply) -> None:
        """Returns when `exited` is answered and both outputs are at their end."""
        poller = self._poller
        poller.register(self._client.fileno(), select.POLLIN)
        poller.register(self._signals.read_fd, select.POLLIN)
        for fd in self._sinks:
            poller.register(fd, select.POLLIN)
        if self._source_fd >= 0:
            poller.register(self._source_fd, select.POLLIN)
        self._client.pump()
        drained = False
        while not exited.done or self._sinks:
            if exited.done and not drained:
                # A FIFO that had no writer any more when it was opened (attach to what has ended) says so only when read.
                drained = True
                poller.unregister(
                    self._client.fileno()
                )  # answered: a daemon that leaves now is nobody's concern
                for fd in tuple(self._sinks):
                    self._drain(fd)
                continue
            for fd, _ in poller.poll():
                self._handle(fd)
        self._fifos.close_stdin()

    def _handle(self, fd: int) -> None:
        if fd == self._client.fileno():
            self._client.pump()
        elif fd == self._signals.read_fd:
            for number in self._signals.take():
                self._forward(number)
        elif fd in self._sinks:
            self._drain(fd)
        elif fd == self._source_fd:
            self._take_input()
        elif fd == self._fifos.stdin_fd:
            self._send_input()

    def _drain(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._poller.unregister(fd)
            del self._sinks[fd]
            return
        write_all(self._sinks[fd], data)

    def _take_input(self) -> None:
        try:
            data = os.read(self._source_fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the terminal is gone
            data = b""
        self._poller.unregister(self._source_fd)
        if not data:
            self._source_fd = -1
            self._end_input()
            return
        self._outgoing = data
        self._poller.register(self._fifos.stdin_fd, select.POLLOUT)

    def _send_input(self) -> None:
        try:
            sent = os.write(self._fifos.stdin_fd, self._outgoing)
        except BlockingIOError:
            return
        self._outgoing = self._outgoing[sent:]
        if not self._outgoing:
            self._poller.unregister(self._fifos.stdin_fd)
            self._poller.register(self._source_fd, select.POLLIN)

    def _end_input(self) -> None:
        """Both ends have to go: ours here, and the one that the shim keeps open against a lost writer."""
        self._fifos.close_stdin()
        self._process.close_stdin()

    def _forward(self, number: int) -> None:
        try:
            if number == signal.SIGWINCH:
                if self._terminal is not None:
                    fit(self._process, self._terminal)
            elif number not in _KEPT:
                self._process.kill(number)
        except (errdefs.NotFound, errdefs.FailedPrecondition):
            return  # it ended meanwhile


def fit(process: Process, terminal: Terminal) -> None:
    """Tells a process the size of its terminal; one that has ended meanwhile needs none."""
    try:
        process.resize(*terminal.size())
    except (errdefs.NotFound, errdefs.FailedPrecondition):
        return
    except errdefs.Unknown as error:
        if "stopped" not in str(error):  # shims answer by their states' names, without a code
            raise


def write_all(fd: int, data: bytes) -> None:
    """Writes everything; a slow reader is waited for, also where the caller's fd doesn't block."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
