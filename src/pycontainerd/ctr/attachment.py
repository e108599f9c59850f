"""Running a process in the foreground: its stdio, terminal and signals, until it has ended."""

from __future__ import annotations

import os

from pycontainerd.client import cio, tasks
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import FailedPrecondition

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Protocol

    from pycontainerd.client.client import Client, Reply
    from pycontainerd.client.tasks import ExitStatus
    from pycontainerd.ctr.flags import Values

    class Process(cio.Process, Protocol):
        """A daemon's or a shim's process."""

        pid: int

        def start(self) -> object: ...
        def start_wait(self) -> Reply: ...


class Stdio:
    """What a process is given: FIFOs to copy (`fifos`), or streams that somebody else handles."""

    __slots__ = ("fifos", "streams", "terminal_fd")

    def __init__(self, streams: cio.Streams, fifos: cio.Fifos | None = None, terminal_fd: int = -1) -> None:
        self.streams = streams
        self.fifos = fifos
        self.terminal_fd = terminal_fd

    def close(self, *, keep: bool = False) -> None:
        """Closes this side; `keep` leaves the FIFOs to a detached process."""
        if self.fifos is not None:
            self.fifos.close(keep=keep)


def terminal_fd() -> int:
    """The caller's terminal: the first of stdin, stdout and stderr that is one."""
    for fd in (0, 1, 2):
        if os.isatty(fd):
            return fd
    raise FailedPrecondition(
        "provided file is not a console",
        hint="-t needs a terminal: leave it out when input or output is piped",
    )


def make_stdio(client: Client, flags: Values, process_id: str, *, terminal: bool) -> Stdio:
    """Stdio by --null-io, --log-uri or --fifo-dir. Raises FailedPrecondition for a terminal that isn't there."""
    console_fd = terminal_fd() if terminal else -1
    if not terminal and flags.flag("null-io") and flags.on("null-io"):
        return Stdio(cio.Streams())
    if not terminal and flags.text("log-uri"):
        return Stdio(cio.log_streams(flags.text("log-uri"), terminal=False))
    folder = flags.text("fifo-dir") or cio.default_folder(client)
    fifos = cio.make_fifos(folder, process_id, terminal=terminal)
    return Stdio(fifos.streams, fifos, console_fd)


class raw_terminal:  # noqa: N801 - reads as what it is: `with raw_terminal(stdio) as terminal:`
    """The caller's terminal in raw mode, where the process has one."""

    __slots__ = ("_terminal",)

    def __init__(self, stdio: Stdio) -> None:
        self._terminal = None if stdio.terminal_fd < 0 else cio.Terminal(stdio.terminal_fd)

    def __enter__(self) -> cio.Terminal | None:
        return None if self._terminal is None else self._terminal.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        if self._terminal is not None:
            self._terminal.__exit__(*exc_info)


def follow(client: cio.Connection, process: Process, stdio: Stdio, *, start: bool = True) -> ExitStatus:
    """Starts a process (or joins a running one), copies its stdio and returns how it ended."""
    with cio.Signals() as signals, raw_terminal(stdio) as terminal:
        exited = process.start_wait()
        if start:
            process.start()
        if terminal is not None:
            cio.fit(process, terminal)
        fifos = stdio.fifos or cio.Fifos(cio.Streams())
        source_fd = max(stdio.terminal_fd, 0)
        copier = cio.Copier(client, process, fifos, signals, terminal=terminal, stdin_fd=source_fd)
        with trace.span("wait for exit", pid=process.pid):
            copier.run(exited)
        return tasks.exit_status(exited)


def write_pid_file(path: str, pid: int) -> None:
    """The pid, by way of a file beside it that is renamed into place."""
    folder, name = os.path.split(os.path.abspath(path))
    temporary = f"{folder}/.{name}"
    with open(temporary, "x", encoding="ascii") as file:
        file.write(str(pid))
    os.rename(temporary, path)
