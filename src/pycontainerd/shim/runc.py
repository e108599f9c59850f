"""Drives an OCI runtime by its command line, as the stock shim does.

    NAME --root R --log B/log.json --log-format json [--systemd-cgroup] VERB ...

What a failed runtime says is the last line of level error in log.json; its own output comes second.

Unlike the stock shim, a runtime that runs when the shim dies is not killed with it: posix_spawn can't ask for that, and
the delete action removes what such a runtime leaves.

Spec: OCI runtime command line interface, runc(8)
"""

from __future__ import annotations

import os
from time import monotonic_ns

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.linux import posix_spawn
from pycontainerd.lib.oci import document
from pycontainerd.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pycontainerd.shim.loop import Loop
    from pycontainerd.shim.options import Options
    from pycontainerd.shim.reaper import Reaper

_MAX_OUTPUT: Final = 1 << 20
_MAX_LOG: Final = 4 << 20
DEFAULT_NAME: Final = "runc"


class RuntimeFailed(errdefs.Unknown):
    """A runtime said no. `str()` is what its command reported; `said` the error line of its log, when it has one."""

    def __init__(self, message: str, said: str = "", log_error: str = "") -> None:
        super().__init__(message)
        self.said = said
        self.log_error = log_error

    def in_words(self, prefix: str) -> errdefs.Unknown:
        """The error for the client: `OCI runtime create failed: <what the runtime said>`."""
        if self.log_error:
            return errdefs.Unknown(
                f"{prefix}: unable to retrieve OCI runtime error ({self.log_error}): {self}"
            )
        return errdefs.Unknown(f"{prefix}: {self.said or self}")


class Output:
    """What a command prints, up to a megabyte; the rest is read and forgotten."""

    def __init__(self, loop: Loop, read_fd: int) -> None:
        self._loop = loop
        self._fd = read_fd
        self._data = bytearray()
        if read_fd >= 0:
            os.set_blocking(read_fd, False)
            loop.watch(read_fd, READ, self._read)

    def _read(self, events: int) -> None:
        while self._fd >= 0:
            try:
                data = os.read(self._fd, 65536)
            except BlockingIOError:
                return
            if not data:
                self._close()
            elif len(self._data) < _MAX_OUTPUT:
                self._data += data

    def finish(self) -> str:
        """The text so far. Called when the command has ended: what it left running may hold the pipe for ever."""
        self._read(READ)
        self._close()
        return self._data.decode(errors="replace")

    def _close(self) -> None:
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1


class Runc:
    """One runtime program for one bundle."""

    def __init__(
        self, loop: Loop, reaper: Reaper, bundle: str, root: str, options: Options, program: str = ""
    ) -> None:
        """program: its path, where that isn't for the options to say."""
        self._loop = loop
        self._reaper = reaper
        self._bundle = bundle
        self._name = program or options.binary_name or DEFAULT_NAME
        self._log = f"{bundle}/log.json"
        self._head = [self._name, "--root", root, "--log", self._log, "--log-format", "json"]
        if options.systemd_cgroup:
            self._head.append("--systemd-cgroup")
        self._no_pivot = options.no_pivot_root
        self._no_new_keyring = options.no_new_keyring

    async def create(self, id: str, stdio: Sequence[int], console_socket: str) -> int:
        """Makes the container; its init waits for `start`. Gives init's pid. `stdio` is empty with a console."""
        pid_file = f"{self._bundle}/init.pid"
        argv = ["create", "--bundle", self._bundle, "--pid-file", pid_file]
        if console_socket:
            argv += ["--console-socket", console_socket]
        if self._no_pivot:
            argv.append("--no-pivot")
        if self._no_new_keyring:
            argv.append("--no-new-keyring")
        await self._run([*argv, id], stdio)
        return read_pid_file(pid_file, "failed to retrieve OCI runtime container pid")

    async def start(self, id: str) -> None:
        """Lets init run its program."""
        await self._run(["start", id])

    async def exec(
        self, id: str, exec_id: str, process: bytes, stdio: Sequence[int], console_socket: str
    ) -> int:
        """Runs another process from its JSON description; gives its pid."""
        process_path = _temporary_file(process)
        pid_file = f"{self._bundle}/{exec_id}.pid"
        argv = ["exec", "--process", process_path]
        if console_socket:
            argv += ["--console-socket", console_socket]
        try:
            await self._run([*argv, "--detach", "--pid-file", pid_file, id], stdio)
        finally:
            os.unlink(process_path)
        return read_pid_file(pid_file, "failed to retrieve OCI runtime exec pid")

    async def kill(self, id: str, signal: int, everyone: bool) -> None:
        """Signals init, or with `everyone` all processes of the container."""
        await self._run(["kill", *(["--all"] if everyone else []), id, str(signal)])

    async def delete(self, id: str, *, force: bool = False) -> None:
        """Removes the container's cgroups and state."""
        await self._run(["delete", *(["--force"] if force else []), id])

    async def pause(self, id: str) -> None:
        """Freezes every process."""
        await self._run(["pause", id])

    async def resume(self, id: str) -> None:
        """Thaws them."""
        await self._run(["resume", id])

    async def update(self, id: str, resources: bytes) -> None:
        """Sets new limits from a LinuxResources document."""
        await self._run(["update", "--resources=-", id], stdin=resources)

    async def processes(self, id: str) -> list[int]:
        """Host pids of everything in the container."""
        output = await self._run(["ps", "--format", "json", id])
        listed = document.loads('{"pids":' + (output.strip() or "[]") + "}")["pids"] or []
        return [int(pid) for pid in listed]

    async def _run(self, verb: list[str], stdio: Sequence[int] = (), stdin: bytes = b"") -> str:
        """Runs one command to its end; gives its output unless it has the container's streams."""
        began = monotonic_ns()
        fds = dict(enumerate(stdio))
        output_fd = stdin_fd = -1
        if not stdio:
            output_fd, write_fd = os.pipe2(os.O_CLOEXEC)
            fds = {1: write_fd, 2: write_fd}
            if stdin:
                stdin_fd = _memory_file(stdin)
                fds[0] = stdin_fd
        try:
            pid = posix_spawn.start([*self._head, *verb], posix_spawn.environment(), fds)
        except OSError as e:
            if output_fd >= 0:
                os.close(output_fd)
            raise self._failure(_not_started(self._name, e)) from e
        finally:
            for fd in {stdin_fd, *(fds.values() if not stdio else ())} - {-1}:
                os.close(fd)
        output = Output(self._loop, output_fd)
        status = (await self._reaper.wait(pid)).status
        trace.record("runc " + verb[0], began, monotonic_ns() - began, runtime=self._name, status=status)
        text = output.finish()
        if status == 0:
            return text
        raise self._failure(f"{self._name} did not terminate successfully: exit status {status}: {text}")

    def _failure(self, text: str) -> RuntimeFailed:
        try:
            return RuntimeFailed(text, last_error(self._log))
        except (OSError, ValueError) as e:
            reason = f"open {self._log}: {(e.strerror or '').lower()}" if isinstance(e, OSError) else str(e)
            return RuntimeFailed(text, log_error=reason)


def last_error(path: str) -> str:
    """The last message of level error in a runtime's JSON log."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read(_MAX_LOG).splitlines()
    said = ""
    for line in lines:
        if line.strip():
            entry = document.loads(line)
            if entry.get("level") == "error":
                said = str(entry.get("msg", "")).strip()
    return said


def read_pid_file(path: str, what: str) -> int:
    """Raises Unknown when the runtime left no pid."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(32)
    except OSError as e:
        raise errdefs.Unknown(f"{what}: open {path}: {(e.strerror or '').lower()}") from e
    if not text.isascii() or not text.isdigit():
        raise errdefs.Unknown(f"{what}: {path} holds no pid")
    return int(text)


def _not_started(name: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        if "/" in name:
            return f"fork/exec {name}: no such file or directory"
        return f'exec: "{name}": executable file not found in $PATH'
    return f"fork/exec {name}: {(error.strerror or str(error)).lower()}"


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("resources", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _temporary_file(data: bytes) -> str:
    directory = os.environ.get("TMPDIR") or "/tmp"
    for _ in range(100):
        path = f"{directory}/runc-process{int.from_bytes(os.urandom(4), 'big')}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        return path
    raise errdefs.Unknown(f"failed to write the process description: no free name in {directory}")
