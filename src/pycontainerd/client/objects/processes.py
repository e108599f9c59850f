"""Processes in containers: their streams as files, their exit codes, and what can be asked of them.

Like everything of one Containerd, a process belongs to one thread.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time

from pycontainerd.client import cio, signals, spec_opts, tasks
from pycontainerd.lib import errdefs
from pycontainerd.lib.api.light import task_types

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, BinaryIO, Final, Self

    from pycontainerd.client.client import Client
    from pycontainerd.lib.api.light import types

_CHUNK: Final = 65536
_KILL: Final = 9
_STATUS: Final = {
    task_types.Status.CREATED: "created",
    task_types.Status.RUNNING: "running",
    task_types.Status.STOPPED: "stopped",
    task_types.Status.PAUSED: "paused",
    task_types.Status.PAUSING: "pausing",
}


class Running:
    """A process that was started. A context manager: leaving it kills the process, if it still runs, and removes it.

    `stdin`, `stdout` and `stderr` are binary files, None where the process was given none; with a terminal all output is
    in `stdout`.
    """

    def __init__(self, process: tasks.Process, fifos: cio.Fifos | None, *, start: bool = True) -> None:
        """Starts it, or (`start=False`) joins one that runs. Owns the FIFOs."""
        self._process = process
        self._fifos = fifos
        self._has_terminal = fifos is not None and fifos.streams.terminal
        self._exit_code: int | None = None
        self._removed = False
        self._then: Callable[[], None] | None = None
        self._exited = process.start_wait()
        if start:
            process.start()
        self.stdin: BinaryIO | None = None
        self.stdout: BinaryIO | None = None
        self.stderr: BinaryIO | None = None
        if fifos is not None:
            # The shim has them open now: until it closes them, an empty one is no end.
            self.stdin = _file(fifos.stdin_fd, "wb")
            self.stdout = _file(fifos.stdout_fd, "rb")
            self.stderr = _file(fifos.stderr_fd, "rb")
            fifos.stdin_fd = fifos.stdout_fd = fifos.stderr_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        """Its pid on the host."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, 128+signal for a killed one; None while it runs."""
        if self._exit_code is None:
            self._client.pump()
            if self._exited.done:
                self._exit_code = tasks.exit_status(self._exited).code
        return self._exit_code

    @property
    def status(self) -> str:
        """created, running, paused, pausing or stopped; NotFound once it is removed."""
        return _STATUS.get(self._process.info().status, "unknown")

    def wait(self, timeout_s: float | None = None) -> int:
        """Waits for its end; the exit code. DeadlineExceeded when it still runs then.

        A process that says more than a pipe holds ends only when somebody reads it: see `communicate`.
        """
        deadline = _deadline(timeout_s)
        while (code := self.exit_code) is None:
            self._poll((), (), deadline)
        return code

    def communicate(self, data: bytes = b"", timeout_s: float | None = None) -> tuple[bytes, bytes]:
        """Writes `data`, closes stdin, reads everything and waits for the end; what came on stdout and stderr.

        A terminal stays open until then: its output would end with its input. What reads to the end is sent a ^D.
        """
        deadline = _deadline(timeout_s)
        outgoing = memoryview(data)
        if data and self.stdin is None:
            raise errdefs.FailedPrecondition("the process has no stdin to write to")
        found: dict[BinaryIO, list[bytes]] = {f: [] for f in (self.stdout, self.stderr) if f is not None}
        reading = list(found)
        while reading or outgoing or self.exit_code is None:
            if not outgoing and not self._has_terminal:
                self.close_stdin()
            writing = [self.stdin] if outgoing and self.stdin is not None else []
            ready = self._poll(reading, writing, deadline)
            for file in reading.copy():
                if file.fileno() in ready:
                    chunk = os.read(file.fileno(), _CHUNK)
                    found[file].append(chunk)
                    if not chunk:
                        reading.remove(file)
            if writing and writing[0].fileno() in ready:
                outgoing = outgoing[os.write(writing[0].fileno(), outgoing[: select.PIPE_BUF]) :]
            if self.exit_code is not None:
                outgoing = outgoing[len(outgoing) :]  # nobody reads any more
        self.close_stdin()
        return _joined(found, self.stdout), _joined(found, self.stderr)

    def kill(self, signal: int | str = "TERM") -> None:
        """Sends a signal, by number or name. NotFound when it has ended."""
        self._process.kill(signals.parse(str(signal)))

    def resize(self, width: int, height: int) -> None:
        """Tells its terminal how many columns and rows there are."""
        self._process.resize(width, height)

    def close_stdin(self) -> None:
        """Lets it see the end of its input."""
        if self.stdin is not None and not self.stdin.closed:
            self.stdin.close()
            self._process.close_stdin()

    def remove(self) -> None:
        """Kills it if it still runs, waits, removes it and closes its streams."""
        with contextlib.ExitStack() as last:
            if self._then is not None:
                last.callback(self._then)
                self._then = None
            if not self._removed:
                self._removed = True
                last.callback(self.close)
                self._end()

    def and_then(self, then: Callable[[], None]) -> None:
        """Has something called once it is removed, or couldn't be."""
        self._then = then

    def close(self) -> None:
        """Closes the streams and leaves the process alone."""
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()
        if self._fifos is not None:
            self._fifos.close(keep=not self._removed)

    @property
    def _client(self) -> Client:
        return self._process.client

    def _end(self) -> None:
        if self.exit_code is None:
            with contextlib.suppress(errdefs.NotFound):
                self._process.kill(_KILL)
            self.wait()
        with contextlib.suppress(errdefs.NotFound):
            found = self._process.info()
            self._process.delete()
            if self._fifos is None:
                # Made by whoever started it, who has gone without them.
                _remove_fifos(cio.Streams(found.stdin, found.stdout, found.stderr))

    def _poll(
        self, reading: Sequence[BinaryIO], writing: Sequence[BinaryIO], deadline: float | None
    ) -> set[int]:
        """Waits until a file is ready or an answer came; DeadlineExceeded at the deadline."""
        poller = select.poll()
        client = self._client
        if self._exit_code is None:
            poller.register(client.fileno(), select.POLLIN | (select.POLLOUT if client.wants_write else 0))
        for file in reading:
            poller.register(file.fileno(), select.POLLIN)
        for file in writing:
            poller.register(file.fileno(), select.POLLOUT)
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise errdefs.DeadlineExceeded(
                f"process {self.pid} of container {self._process.container_id} still runs"
            )
        return {fd for fd, _ in poller.poll(None if left is None else left * 1000)}


class Exec(Running):
    """A further process in a container."""

    @property
    def id(self) -> str:
        """Its exec id."""
        return self._process.exec_id


class Task(Running):
    """A container's first process, and with it the container's life."""

    def __init__(
        self, process: tasks.Process, fifos: cio.Fifos | None, spec: Mapping[str, Any], *, start: bool = True
    ) -> None:
        """`spec`: the container's, which its further processes are like."""
        super().__init__(process, fifos, start=start)
        self._spec = spec

    @property
    def id(self) -> str:
        """The container's id."""
        return self._process.container_id

    def exec(
        self,
        args: Sequence[str],
        *,
        env: Sequence[str] = (),
        cwd: str = "",
        terminal: bool = False,
        pipes: bool = True,
    ) -> Exec:
        """Starts a further process, as the first one's user. `env` are `NAME=VALUE`, over the container's own."""
        process = {**self._spec.get("process", {}), "args": list(args), "terminal": terminal}
        process["env"] = spec_opts.merge_env(process.get("env", ()), env)
        if cwd:
            process["cwd"] = cwd
        exec_id = f"exec-{os.urandom(8).hex()}"
        fifos = make_fifos(self._client, exec_id, terminal=terminal, pipes=pipes)
        try:
            streams = cio.Streams() if fifos is None else fifos.streams
            made = tasks.exec_process(
                self._client, self.id, exec_id, spec_opts.encode_process(process), streams
            )
            with _deleted_on_failure(made):
                return Exec(made, fifos)
        except BaseException:
            if fifos is not None:
                fifos.close()
            raise

    def pause(self) -> None:
        """Freezes every process of the container."""
        tasks.pause(self._client, self.id)

    def resume(self) -> None:
        """Thaws them."""
        tasks.resume(self._client, self.id)

    def pids(self) -> list[int]:
        """The pids on the host of everything in the container."""
        return [process.pid for process in tasks.pids(self._client, self.id)]

    def metrics(self) -> types.Metric:
        """One sample of what the container uses: `data` holds a message of io.containerd.cgroups.v1 or v2."""
        return tasks.metrics(self._client, self.id)


def start_task(
    client: Client,
    container_id: str,
    rootfs: Sequence[types.Mount],
    spec: Mapping[str, Any],
    *,
    pipes: bool,
    log: str,
) -> Task:
    """Creates and starts a container's task; nothing of it is left when that fails."""
    terminal = bool(spec.get("process", {}).get("terminal"))
    fifos = None if log else make_fifos(client, container_id, terminal=terminal, pipes=pipes)
    try:
        streams = cio.Streams(terminal=terminal) if fifos is None else fifos.streams
        if log:
            streams = cio.log_streams(log, terminal=terminal)
        made = tasks.create(client, container_id, rootfs, streams)
        with _deleted_on_failure(made):
            return Task(made, fifos, spec)
    except BaseException:
        if fifos is not None:
            fifos.close()
        raise


def make_fifos(client: Client, process_id: str, *, terminal: bool, pipes: bool) -> cio.Fifos | None:
    """The streams of a new process; None for one whose streams are /dev/null (a terminal always has some)."""
    if not (pipes or terminal):
        return None
    return cio.make_fifos(cio.default_folder(client), process_id, terminal=terminal)


@contextlib.contextmanager
def _deleted_on_failure(made: tasks.Process) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(errdefs.ContainerdError):
            made.delete()
        raise


def _remove_fifos(streams: cio.Streams) -> None:
    paths = [path for path in (streams.stdin, streams.stdout, streams.stderr) if path]
    if paths and all(_is_fifo(path) for path in paths):
        cio.remove_streams(streams)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.lstat(path).st_mode)
    except OSError:
        return False  # a log URI, or gone


def _file(fd: int, mode: str) -> BinaryIO | None:
    if fd < 0:
        return None
    os.set_blocking(fd, True)
    file: Any = open(fd, mode, buffering=0)  # noqa: SIM115 -- the process's, which closes it
    return file  # type: ignore[no-any-return]


def _joined(found: Mapping[BinaryIO, Sequence[bytes]], file: BinaryIO | None) -> bytes:
    return b"" if file is None else b"".join(found[file])


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s
