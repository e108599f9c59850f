"""Standard streams of a container process: between what the client named and what the runtime is given.

    stdin   FIFO -> pipe -> container        "" /dev/null
    stdout  container -> pipe -> FIFO        fifo (the default), file:///path, binary:///program?args
    stderr  as stdout; none with a terminal

The shim holds both ends of the client's FIFOs, so a client may come and go without the container ever seeing an end
or a broken pipe; a client that doesn't read makes the container wait, in no more memory than one chunk.

Spec: containerd docs/runtime-v2.md#io
Man: fifo(7), pipe(7)
"""

from __future__ import annotations

import _signal
import os
from time import monotonic

from pycontainerd.lib import errdefs
from pycontainerd.shim.future import Future
from pycontainerd.shim.loop import ERROR, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pycontainerd.shim.attendant import Pack, Unpack
    from pycontainerd.shim.loop import Loop
    from pycontainerd.shim.reaper import Exit, Reaper

CHUNK: Final = 32 << 10
_LOGGER_GRACE_S: Final = 12
_DRAIN_CHUNKS: Final = 64  # two full pipes of 1 MiB
_NONBLOCK: Final = os.O_NONBLOCK | os.O_CLOEXEC


class Stdio:
    """What the client asked for."""

    __slots__ = ("stderr", "stdin", "stdout", "terminal")

    def __init__(self, stdin: str, stdout: str, stderr: str, terminal: bool) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal

    @property
    def is_null(self) -> bool:
        """Nothing is wanted at all."""
        return not (self.stdin or self.stdout or self.stderr)


class Pump:
    """Copies one fd to another until the first ends or the second breaks, then closes what it owns.

    Owns the fds in `close`; a pty master is the source of one pump and belongs to none.
    """

    def __init__(self, loop: Loop, source_fd: int, target_fd: int, *, close: tuple[int, ...]) -> None:
        self._loop = loop
        self._source_fd = source_fd
        self._target_fd = target_fd
        self._close = close
        self._pending = memoryview(b"")
        self._waits_for_target = False
        self._is_started = False
        self.done: Future[None] = Future()

    def start(self) -> None:
        """Begins to copy."""
        self._is_started = True
        self._read_when_ready()

    def is_quiet(self) -> bool:
        """Whether nothing is on its way from one to the other."""
        return not self._pending and not self._waits_for_target

    def pack(self, pack: Pack) -> dict[str, Any]:
        """What `unpack` makes the same pump from."""
        return {
            "source": pack.add(self._source_fd, waited_for=True),
            "target": pack.add(self._target_fd),
            "close": [pack.add(fd) for fd in self._close],
        }

    @classmethod
    def unpack(cls, loop: Loop, state: dict[str, Any], found: Unpack) -> Pump:
        """Not started yet."""
        close = tuple(found.take(place) for place in state["close"])
        return cls(loop, found.take(state["source"]), found.take(state["target"]), close=close)

    def stop(self) -> None:
        """Ends without waiting for the source's end; what the target takes at once is still written.

        A pump that was never started writes nothing: what a failed runtime said is not the container's output.
        """
        if self.done.done:
            return
        if self._is_started:
            self._forget()
            try:
                self._drain()
            except OSError:
                self._pending = memoryview(b"")  # the reader has gone: nobody is left to miss it
        for fd in self._close:
            os.close(fd)
        self.done.set(None)

    def _drain(self) -> None:
        """What is on the way already; not more, or a busy writer would never let it end."""
        for _ in range(_DRAIN_CHUNKS):
            if not self._pending and not self._fill():
                return
            written = os.write(self._target_fd, self._pending)
            self._pending = self._pending[written:]

    def _fill(self) -> bool:
        self._pending = memoryview(os.read(self._source_fd, CHUNK))
        return bool(self._pending)

    def _forget(self) -> None:
        if self._waits_for_target:
            self._loop.unwatch(self._target_fd)
        else:
            self._loop.unwatch(self._source_fd)

    def _read_when_ready(self) -> None:
        try:
            self._loop.watch(self._source_fd, READ, self._on_source)
        except PermissionError:
            # A regular file can't be polled; as a source it is always ready.
            self._loop.later(0, lambda: self._on_source(READ))

    def _on_source(self, events: int) -> None:
        try:
            ended = not self._fill()
        except BlockingIOError:
            return
        except OSError:
            ended = True  # EIO: the last process with the terminal open has gone
        if ended:
            self.stop()
            return
        self._write()

    def _on_target(self, events: int) -> None:
        if events & ERROR and not events & WRITE:
            self.stop()
            return
        self._write()

    def _write(self) -> None:
        """Writes what is pending; when the target is full, waits for it and leaves the source alone meanwhile."""
        try:
            while self._pending:
                written = os.write(self._target_fd, self._pending)
                self._pending = self._pending[written:]
        except BlockingIOError:
            if not self._waits_for_target:
                self._loop.unwatch(self._source_fd)
                self._waits_for_target = True
                self._loop.watch(self._target_fd, WRITE, self._on_target)
            return
        except OSError:
            self._pending = memoryview(b"")
            self.stop()
            return
        if self._waits_for_target:
            self._loop.unwatch(self._target_fd)
            self._waits_for_target = False
            self._read_when_ready()


class ProcessIO:
    """The streams of one process: what its runtime gets as 0, 1 and 2, and the pumps behind them.

    `child_fds` are owned until `close_child_fds()`, which is called once the runtime has them. `close()` ends everything.
    """

    def __init__(self, loop: Loop, reaper: Reaper) -> None:
        self.loop = loop
        self._reaper = reaper
        self.child_fds: list[int] = []
        self.console_fd = -1  # pty master, owned
        self._logger_pid = 0
        self._logger_exit: Future[Exit] | None = None
        self._owned: list[int] = []
        self._outputs: list[Pump] = []
        self._stdin: Pump | None = None
        self._stdin_keeper_fd = -1
        self._closed = False

    def is_quiet(self) -> bool:
        """Whether its set-up is over and nothing is on its way."""
        pumps = [pump for pump in (self._stdin, *self._outputs) if pump is not None and not pump.done.done]
        return not self.child_fds and all(pump.is_quiet() for pump in pumps)

    def pack(self, pack: Pack) -> dict[str, Any] | None:
        """What `unpack` makes the same streams from; None when all is closed."""
        if self._closed:
            return None
        stdin = self._stdin if self._stdin is not None and not self._stdin.done.done else None
        return {
            "console": pack.add(self.console_fd),
            "owned": [pack.add(fd) for fd in self._owned],
            "stdin_keeper": pack.add(self._stdin_keeper_fd),
            "stdin": stdin.pack(pack) if stdin is not None else None,
            "outputs": [pump.pack(pack) for pump in self._outputs if not pump.done.done],
            "logger": self.logger_pid(),
        }

    @classmethod
    def unpack(cls, loop: Loop, reaper: Reaper, state: dict[str, Any], found: Unpack) -> ProcessIO:
        """Goes on copying."""
        made = cls(loop, reaper)
        made.console_fd = found.take(state["console"])
        made.own(*(found.take(place) for place in state["owned"]))
        made._stdin_keeper_fd = found.take(state["stdin_keeper"])
        made._stdin = Pump.unpack(loop, state["stdin"], found) if state["stdin"] else None
        made._outputs = [Pump.unpack(loop, each, found) for each in state["outputs"]]
        if state["logger"]:
            made.set_logger(state["logger"])
        made.start()
        return made

    def logger_pid(self) -> int:
        """Of a logger program that runs; 0 without one."""
        return self._logger_pid if self._logger_exit is not None and not self._logger_exit.done else 0

    def own(self, *fds: int) -> None:
        """Closes these too when a set-up fails half-way."""
        self._owned += fds

    def disown(self, *fds: int) -> None:
        """They have another owner now."""
        self._owned = [fd for fd in self._owned if fd not in fds]

    def add_output(self, source_fd: int, target_fd: int, *, close: tuple[int, ...]) -> None:
        """Takes over the fds in `close` and copies to the client once `start()` is called."""
        self._outputs.append(Pump(self.loop, source_fd, target_fd, close=close))
        self.disown(*close)

    def set_stdin(self, source_fd: int, target_fd: int) -> None:
        """Takes over both and copies to the container once `start()` is called."""
        self._stdin = Pump(self.loop, source_fd, target_fd, close=(source_fd, target_fd))
        self.disown(source_fd, target_fd)

    def keep_stdin_open(self, path: str) -> None:
        """Holds a writer of the client's FIFO until CloseIO, so that a client's end isn't the container's end."""
        self._stdin_keeper_fd = os.open(path, os.O_WRONLY | _NONBLOCK)

    def set_logger(self, pid: int) -> None:
        """A logger program that was started for these streams and ends with them."""
        self._logger_pid = pid
        self._logger_exit = self._reaper.wait(pid)

    def start(self) -> None:
        """Begins to copy."""
        if self._stdin is not None:
            self._stdin.start()
        for pump in self._outputs:
            pump.start()

    def close_child_fds(self) -> None:
        """Lets go of the container's ends."""
        for fd in set(self.child_fds):
            os.close(fd)
        self.child_fds = []

    def close_stdin(self) -> None:
        """CloseIO: the container sees the end of stdin once the client's writers have gone too."""
        if self._stdin_keeper_fd >= 0:
            os.close(self._stdin_keeper_fd)
            self._stdin_keeper_fd = -1

    def resize(self, width: int, height: int) -> None:
        """Window size in characters; without a terminal there is nothing to do, as in the stock shim."""
        if self.console_fd < 0:
            return
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.console_fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def drained(self, timeout_s: float) -> bool:
        """Waits until the output has been copied to its end, at most `timeout_s`; says whether it was."""
        deadline = monotonic() + timeout_s
        for pump in self._outputs:
            if not await self.loop.within(pump.done, max(0.0, deadline - monotonic())):
                return False
        return True

    def close(self) -> None:
        """Ends the pumps and closes every fd; twice is once."""
        if self._closed:
            return
        self._closed = True
        self.close_child_fds()
        self.close_stdin()
        for pump in (self._stdin, *self._outputs):
            if pump is not None:
                pump.stop()
        if self.console_fd >= 0:
            os.close(self.console_fd)
            self.console_fd = -1
        for fd in self._owned:
            os.close(fd)
        self._owned = []
        self._end_logger()

    def _end_logger(self) -> None:
        """Asks it to flush and leave, and makes it leave when it doesn't."""
        if self._logger_exit is None or self._logger_exit.done:
            return
        os.kill(self._logger_pid, _signal.SIGTERM)
        killer = self.loop.later(_LOGGER_GRACE_S, lambda: os.kill(self._logger_pid, _signal.SIGKILL))
        # Its pid is its own until it is reaped, and then nobody kills any more.
        self._logger_exit.when_done(lambda _: killer.cancel())


def open_fifo_writer(path: str) -> int:
    """The client's FIFO, both ends in one fd: writing never fails for want of a reader."""
    return os.open(path, os.O_RDWR | _NONBLOCK)


def split_uri(text: str) -> tuple[str, str, list[tuple[str, str]]]:
    """(scheme, path, query) of a stdio address; a bare path has the scheme fifo. Query order is kept."""
    if "://" not in text:
        return "fifo", text, []
    scheme, rest = text.split("://", 1)
    path, _, query = rest.partition("?")
    pairs = [part.partition("=") for part in query.split("&") if part]
    return (
        scheme,
        unquote(path),
        [(unquote(key, plus=True), unquote(value, plus=True)) for key, _, value in pairs],
    )


def unquote(text: str, *, plus: bool = False) -> str:
    """Percent-decoding. Raises InvalidArgument for a broken escape."""
    if plus:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    head, *rest = text.encode().split(b"%")
    out = [head]
    for part in rest:
        try:
            out.append(bytes.fromhex(part[:2].decode()))
        except ValueError as e:
            raise errdefs.InvalidArgument(
                f"unable to parse stdout uri: invalid URL escape in {text!r}"
            ) from e
        out.append(part[2:])
    return b"".join(out).decode("utf-8", "surrogateescape")
