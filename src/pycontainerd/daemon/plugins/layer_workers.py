"""The workers that unpack layers: forked by a process that is started when the first is wanted, else executed one by one.

A worker is a child of this daemon either way, and answers for one layer. What forks them is confined like a worker
(lib/archive/layer_server.py); found dead or gone it is started anew, and workers that it made go on.

Man: unix(7) SCM_RIGHTS, waitid(2) WNOWAIT
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.lib import errdefs, launcher, trace
from pycontainerd.lib.archive import layer_server, worker
from pycontainerd.lib.linux import posix_spawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.content import Following

PROGRAM: Final = layer_server.NAME
_PIPE_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 30.0
_FAREWELL_S: Final = 5.0
_ATTEMPTS: Final = 2


class LayerWorkers:
    """Thread-safe; starts what it needs, and owns it until `close`."""

    def __init__(self, *, forks: bool = True) -> None:
        """`forks`: whether there is to be what forks them."""
        self.patience_s = _PATIENCE_S
        self._forks = forks
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def apply(
        self, arguments: Sequence[str], fds: Sequence[int], blob: int | Following, *, zstd: bool = False
    ) -> dict[str, Any]:
        """The answer of a worker that has unpacked the blob; raises the error that it answers, or Unknown for none.

        `fds` are the target and its lower directories, `arguments` the rest of the worker's; a blob that is still being
        written counts only once it is verified. All descriptors are borrowed.
        """
        args = ["apply", *arguments]
        kind = layer_server.ZSTD if zstd else layer_server.PLAIN
        job = self._fork(kind) if self._forks and len(fds) < layer_server.MAX_FDS else None
        return checked(_run(job or _Executed(), args, fds, blob))

    def close(self) -> None:
        """Ends what forks workers; idempotent."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    def _fork(self, kind: bytes) -> _Forked | None:
        """A worker that waits for its job; None where none can be forked."""
        for _ in range(_ATTEMPTS):
            try:
                server = self._running()
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            except OSError:
                return None
            with theirs:
                asked = server.ask(kind, theirs)
            pid = server.hear_pid(ours, self.patience_s) if asked else None
            if pid:
                return _Forked(ours, pid)
            ours.close()
            if pid is not None:
                return None
            server.close()  # it had just left, or was killed
        return None

    def _running(self) -> _Server:
        with self._lock:
            if self._server is None or self._server.has_ended():
                self._server = _Server()
            return self._server


class _Server:
    """The process that forks workers. A thread reaps it whenever it ends."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = posix_spawn.start(
                [*launcher.interpreter_argv(PROGRAM), "serve"],
                _kept(),
                {layer_server.CONTROL_FD: theirs.fileno()},
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours
        self._lock = threading.Lock()
        self._ended = False
        self._reaper = threading.Thread(target=self._reap, name="layer-server", daemon=True)
        self._reaper.start()

    def ask(self, kind: bytes, channel: socket.socket) -> bool:
        """Whether the request was taken; its answer comes on the channel's other end."""
        try:
            with self._lock:
                layer_server.ask(self._control, kind, channel)
        except OSError:
            return False
        return True

    def hear_pid(self, channel: socket.socket, patience_s: float) -> int | None:
        """The pid of the worker; 0 when the kernel refused it; None when this process has gone.

        One that doesn't answer is killed: the channel has an end then.
        """
        poller = select.poll()
        poller.register(channel, select.POLLIN)
        if not poller.poll(patience_s * 1000):
            self._kill()
        said = layer_server.hear(channel)
        return int(said["pid"]) if said else None

    def has_ended(self) -> bool:
        """Whether it takes requests no more."""
        return self._ended

    def close(self) -> None:
        """Tells it to leave and waits for that."""
        with self._lock:
            self._control.close()
        self._reaper.join(_FAREWELL_S)
        self._kill()  # unless it has left
        self._reaper.join()

    def _kill(self) -> None:
        with self._lock:
            if not self._ended:  # until then the pid is its own
                os.kill(self._pid, 9)

    def _reap(self) -> None:
        with suppress(ChildProcessError):  # somebody in this process reaps everybody's children
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._ended = True
            self._control.close()
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)


class _Forked:
    """A forked worker; owns its channel, and the child until `answer` or `kill` has reaped it."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self._channel = channel
        self._pid = pid

    def begin(self, args: list[str], fds: Sequence[int], blob_fd: int) -> None:
        """Hands it the job; one that is dead by now has no answer."""
        with suppress(BrokenPipeError, ConnectionResetError):
            layer_server.give(self._channel, args, environment(), [blob_fd, *fds])

    def answer(self) -> dict[str, Any]:
        """Waits for it, and for the worker's end."""
        said: dict[str, Any] = {}
        while message := layer_server.hear(self._channel):
            if "pid" not in message:
                said = message
        status = self._reap()
        return said or _no_answer(status, "")

    def kill(self) -> None:
        """Ends it now."""
        os.kill(self._pid, 9)
        self._reap()

    def _reap(self) -> int:
        self._channel.close()
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        except ChildProcessError:  # see _Server._reap
            return 0


class _Executed:
    """The same by exec: an interpreter of its own."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def begin(self, args: list[str], fds: Sequence[int], blob_fd: int) -> None:
        """Starts it."""
        self._child = subprocess.Popen(
            [*launcher.interpreter_argv(PROGRAM), *args, *worker.descriptors(fds)],
            stdin=blob_fd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            env=environment(),
        )

    def answer(self) -> dict[str, Any]:
        """As of a forked one."""
        assert self._child is not None
        stdout, stderr = self._child.communicate()
        return parse_answer(stdout, self._child.returncode, stderr)

    def kill(self) -> None:
        """As of a forked one."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()


def _run(
    job: _Forked | _Executed, args: list[str], fds: Sequence[int], blob: int | Following
) -> dict[str, Any]:
    """The answer of a worker that was given everything; it has ended, whatever is raised here."""
    try:
        if isinstance(blob, int):
            os.lseek(blob, 0, os.SEEK_SET)
            job.begin(args, fds, blob)
        else:
            _begin_along(job, args, fds, blob)
    except BaseException:
        job.kill()
        raise
    return job.answer()


def _begin_along(job: _Forked | _Executed, args: list[str], fds: Sequence[int], growing: Following) -> None:
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            job.begin(args, fds, read_fd)
        finally:
            os.close(read_fd)
        _feed(growing, write_fd)
    finally:
        os.close(write_fd)


def _feed(growing: Following, pipe_fd: int) -> None:
    """Every byte to the worker, to the verified end; a worker that has given up says why in its answer."""
    with suppress(PermissionError):  # beyond the user's share of pipe memory: the small one does too
        fcntl.fcntl(pipe_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    offset = 0
    worker_listens = True
    while (size := growing.wait(offset)) > offset:
        while worker_listens and offset < size:
            try:
                offset += os.splice(growing.fileno(), pipe_fd, size - offset, offset_src=offset)
            except BrokenPipeError:
                worker_listens = False
        offset = size


def parse_answer(output: bytes, status: int, stderr: bytes) -> dict[str, Any]:
    """What an executed worker has printed as its one line; Unknown for none."""
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        return _no_answer(status, stderr.decode(errors="replace").strip().rpartition("\n")[2])
    return answer


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer; raises the error it stands for."""
    error = answer.get("error")
    if error:
        raise errdefs.from_status(int(error["code"]), str(error["message"]))
    return answer


def _no_answer(status: int, tail: str) -> dict[str, Any]:
    message = f"the layer worker ended with status {status} and no answer: {tail}".removesuffix(": ")
    return {"error": {"code": errdefs.Unknown.code, "message": message}}


def _kept() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PYCONTAINERD_INTERPRETER",) if name in os.environ}


def environment() -> dict[str, str]:
    """What a worker may know: where its spans belong."""
    return {**_kept(), **trace.environment()}
