"""Asks the forkserver for shims: the protocol, and the client that the daemon uses.

    client                                         forkserver (one per daemon, made by exec, dies with the socket)
      {"build","id","argv","env",...} [+ 3 fds] ->
                                    <- {"id","pid","output"} + pidfd          the shim listens: what `start` prints
                                    <- {"id","error":{"code","message"}}      nothing was made, or it died on the way

One message is one SOCK_SEQPACKET packet of JSON, at most 128 KiB. A repeated id never makes a second shim as long as the
first lives: it gets the same answer again. A request of another build of this package is refused as stale; the client
then starts a new forkserver. Who gets no answer may always start the shim by exec instead.

A child takes nothing from the forkserver that changes over time; a request therefore carries, or the client fills in
from its own process: environment, folder, umask, resource limits, nice value, CPU affinity.

Spec: DESIGN "Forkserver" (ARCHITECTURE.md)
Man:  unix(7) SOCK_SEQPACKET, pidfd_open(2)
"""

from __future__ import annotations

import _socket
import os
import select
from time import monotonic

from pycontainerd.lib import errdefs, launcher, trace
from pycontainerd.lib.linux import posix_spawn
from pycontainerd.lib.linux.fd import fds_of, rights
from pycontainerd.lib.oci import document
from pycontainerd.version import __version__

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

PROGRAM: Final = "pycontainerd-forkserver"
CONTROL_FD: Final = 3
MAX_MESSAGE: Final = 128 << 10
STALE: Final = "forkserver is of another build"


def build_id() -> str:
    """Tells one installed state of this package from another: version, place and time of its files."""
    import pycontainerd

    folder = os.path.dirname(os.path.abspath(pycontainerd.__file__ or ""))
    newest = max(os.stat(f"{folder}/{name}").st_mtime_ns for name in ("version.py", "shim", "runtime", "lib"))
    return f"{__version__}:{folder}:{newest}"


class ShimRequest:
    """One shim: the standard `start` command line and what the process is to look like.

    `stdin` is what `start` would read (bytes of an Any or BootstrapParams). `limits` maps RLIMIT numbers to (soft, hard).
    `oom_score_adj` None keeps the shim's own rule; `cgroup` is a folder whose cgroup.procs takes it; `new_keyring` gives it
    an anonymous session keyring. `stdio` are three borrowed fds, or none for /dev/null.
    """

    __slots__ = (
        "affinity",
        "argv",
        "cgroup",
        "cwd",
        "env",
        "id",
        "limits",
        "new_keyring",
        "nice",
        "oom_score_adj",
        "stdin",
        "stdio",
        "umask",
    )

    def __init__(
        self,
        id: str,  # noqa: A002 - the protocol's word
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        *,
        stdin: bytes = b"",
        stdio: Sequence[int] = (),
        umask: int = 0o022,
        limits: Mapping[int, tuple[int, int]] | None = None,
        nice: int | None = None,
        affinity: Sequence[int] | None = None,
        oom_score_adj: int | None = None,
        cgroup: str = "",
        new_keyring: bool = False,
    ) -> None:
        self.id = id
        self.argv = list(argv)
        self.env = dict(env)
        self.cwd = cwd
        self.stdin = stdin
        self.stdio = list(stdio)
        self.umask = umask
        self.limits = dict(limits) if limits is not None else current_limits()
        self.nice = os.getpriority(os.PRIO_PROCESS, 0) if nice is None else nice
        self.affinity = sorted(os.sched_getaffinity(0) if affinity is None else affinity)
        self.oom_score_adj = oom_score_adj
        self.cgroup = cgroup
        self.new_keyring = new_keyring

    def encode(self, build: str) -> bytes:
        """The packet. Raises ResourceExhausted when it is too large for one."""
        fields: dict[str, Any] = {
            "build": build,
            "id": self.id,
            "argv": self.argv,
            "env": self.env,
            "cwd": self.cwd,
            "stdin": self.stdin.hex(),
            "umask": self.umask,
            "limits": [[number, soft, hard] for number, (soft, hard) in self.limits.items()],
            "nice": self.nice,
            "affinity": self.affinity,
            "oom_score_adj": self.oom_score_adj,
            "cgroup": self.cgroup,
            "new_keyring": self.new_keyring,
            "stdio": bool(self.stdio),
        }
        data = document.dumps(fields).encode("utf-8", "surrogateescape")
        if len(data) > MAX_MESSAGE:
            raise errdefs.ResourceExhausted(f"spawn request of {len(data)} bytes is over {MAX_MESSAGE}")
        return data


def current_limits() -> dict[int, tuple[int, int]]:
    """This process's resource limits, which a shim started by exec would inherit."""
    import resource

    return {number: resource.getrlimit(number) for number in range(16)}


class Spawned:
    """A shim that listens. `pidfd` is owned by whoever has this; `output` is what `start` would have printed."""

    __slots__ = ("output", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, output: bytes) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.output = output


class PendingSpawn:
    """A request under way."""

    __slots__ = ("_error", "_spawned", "done", "request")

    def __init__(self, request: ShimRequest) -> None:
        self.request = request
        self.done = False
        self._spawned: Spawned | None = None
        self._error: errdefs.ContainerdError | None = None

    def settle(self, spawned: Spawned | None, error: errdefs.ContainerdError | None) -> None:
        """Ends it."""
        self.done, self._spawned, self._error = True, spawned, error

    def result(self) -> Spawned:
        """The shim; raises why there is none."""
        if self._error is not None:
            raise self._error
        assert self._spawned is not None
        return self._spawned


class SpawnClient:
    """The daemon's end. For a loop: poll `fileno()`, call `pump()`, look at `PendingSpawn.done`; or just `spawn_shim()`.

    Owns its socket. Closing it ends the forkserver, and no shim.
    """

    def __init__(self, control: _socket.socket, pid: int, build: str) -> None:
        control.setblocking(False)
        self._socket = control
        self._build = build
        self._pending: dict[str, list[PendingSpawn]] = {}
        self.pid = pid
        self.closed = False

    @classmethod
    def start(cls, *, log_fd: int = 2, environ: Mapping[str, str] | None = None) -> SpawnClient:
        """Executes a forkserver with nothing but its control socket and `log_fd` (borrowed) for its complaints."""
        ours, theirs = _socketpair()
        try:
            with trace.span("forkserver start"):
                pid = posix_spawn.start(
                    launcher.interpreter_argv(PROGRAM),
                    dict(os.environ if environ is None else environ),
                    {1: log_fd, 2: log_fd, CONTROL_FD: theirs.fileno()},
                )
        except OSError as e:
            ours.close()
            raise errdefs.Unavailable(f"failed to start the forkserver: {e}", errno=e.errno or 0) from e
        finally:
            theirs.close()
        return cls(ours, pid, build_id())

    def __enter__(self) -> SpawnClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fileno(self) -> int:
        """To be polled for reading."""
        return self._socket.fileno()

    def request(self, request: ShimRequest) -> PendingSpawn:
        """Sends a request without waiting for its answer. Raises Unavailable when the forkserver has gone."""
        pending = PendingSpawn(request)
        packet = request.encode(self._build)
        try:
            self._socket.sendmsg([packet], rights(request.stdio), _socket.MSG_NOSIGNAL)
        except OSError as e:
            if not isinstance(e, BlockingIOError):
                self._lost()
            raise errdefs.Unavailable(
                f"forkserver takes no requests: {e.strerror}", errno=e.errno or 0
            ) from e
        self._pending.setdefault(request.id, []).append(pending)
        return pending

    def spawn_shim(self, request: ShimRequest, timeout_s: float = 30) -> Spawned:
        """Waits for the shim. Raises what it failed with, Unavailable, or DeadlineExceeded."""
        with trace.span("forkserver shim", id=request.id):
            pending = self.request(request)
            deadline = monotonic() + timeout_s
            while not pending.done:
                poller = select.poll()
                poller.register(self._socket.fileno(), select.POLLIN)
                left_s = deadline - monotonic()
                if left_s <= 0:
                    raise errdefs.DeadlineExceeded
                poller.poll(left_s * 1000)
                self.pump()
            return pending.result()

    def pump(self) -> None:
        """Takes the answers that are there."""
        while not self.closed:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(
                    MAX_MESSAGE, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            if not data:
                self._lost()
                return
            self._answer(data, fds_of(ancillary))

    def close(self) -> None:
        """Ends the forkserver; requests under way fail with Unavailable. Twice is once."""
        self._lost()

    def _answer(self, data: bytes, fds: list[int]) -> None:
        answer = document.loads(data)
        waiting = self._pending.pop(str(answer["id"]), [])
        error = answer.get("error")
        for pending in waiting:
            if error is not None:
                pending.settle(None, errdefs.from_status(int(error["code"]), str(error["message"])))
                continue
            pidfd = os.dup(fds[0]) if fds else -1
            pending.settle(Spawned(int(answer["pid"]), pidfd, bytes.fromhex(answer["output"])), None)
        for fd in fds:
            os.close(fd)

    def _lost(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._socket.close()
        pending, self._pending = self._pending, {}
        for waiting in pending.values():
            for each in waiting:
                each.settle(None, errdefs.Unavailable("the forkserver has gone"))


def is_stale(error: BaseException) -> bool:
    """Whether a request failed only because the forkserver is older or newer than the client: start another one."""
    return isinstance(error, errdefs.FailedPrecondition) and str(error) == STALE


def _socketpair() -> tuple[_socket.socket, _socket.socket]:
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    return _socket.socketpair(_socket.AF_UNIX, kind)
