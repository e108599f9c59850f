"""Runs containers by this project's libcontainer: the one seam of the shim that knows the runtime.

    loop --clone3--> worker: create, exec, update, ...  --a line of JSON on a pipe--> loop
                       `--clone3(CLONE_PARENT)--> init, a child of the shim, as the worker is: of its keeper, if it has one

What can wait (hooks, mounts, limits, freezing) waits in the worker, which lives for one call and dies with the shim. An
attendant that has no other container makes its first one itself: nobody can ask for anything meanwhile. An exec is gone
through in steps by an attendant, as long as nothing of the container can make it wait elsewhere. A start, a signal to init,
a list of processes and the removal of a container that has ended are a few quick system calls: they are made here, and go to
a worker only where a hook or a dying process makes them wait.

A process that others of its pid namespace can look into before its execve begins as a copy of this one. Where this one has
served another container before (forkserver/spare.py), there must be nothing of that in it, not even what has been freed:
pyrunc, a program of its own, makes an exec, a further container and one that joins a pid namespace then.

Spec: DESIGN "Which process is what kind of program" (ARCHITECTURE.md)
Man:  clone(2) CLONE_PARENT
"""

from __future__ import annotations

import _socket
import os

from pycontainerd.lib import errdefs, launcher, trace
from pycontainerd.lib.linux import prctl, process
from pycontainerd.lib.linux.fd import close_all_but
from pycontainerd.lib.log import Logger
from pycontainerd.lib.oci import document
from pycontainerd.shim.future import Future
from pycontainerd.shim.loop import READ
from pycontainerd.shim.runc import Runc, RuntimeFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any, Final

    from pycontainerd.runtime.libcontainer.options import ExecOptions
    from pycontainerd.runtime.libcontainer.parent import Steps
    from pycontainerd.shim.attendant import Attendant
    from pycontainerd.shim.loop import Loop
    from pycontainerd.shim.options import Options
    from pycontainerd.shim.world import World

_SIGKILL: Final = 9


def preload() -> None:
    """Imports all that a worker will need, so that it is shared and no upgrade can take it away."""
    from pycontainerd.runtime import libcontainer

    libcontainer.preload()


class Libcontainer:
    """The Runtime of process/init.py, in process. `root` is the state folder of the namespace."""

    def __init__(
        self,
        world: World,
        bundle: str,
        root: str,
        options: Options,
        *,
        alone: Attendant | None = None,
        renewed: Attendant | None = None,
    ) -> None:
        """`alone`: this process is that, serves nobody else and will leave: it makes the container itself.

        `renewed`: this process is that, and has served another shim before.
        """
        preload()
        self._alone = alone
        self._renewed = renewed
        self._spec: dict[str, Any] | None = None  # what config.json holds, when it has been read already
        self._world = world
        self._loop = world.loop
        self._reaper = world.reaper
        self._shim_pid = world.shim_pid
        self._bundle = bundle
        self._root = root
        self._options = options
        self._log_path = f"{bundle}/log.json"

    def _program(self) -> Runc:
        """The same runtime as a program, which is no copy of this process."""
        world, path = self._world, launcher.path("pyrunc")
        return Runc(world.loop, world.reaper, self._bundle, self._root, self._options, path)

    def _makes_pid_namespace(self) -> bool:
        """By config.json; one that can't be read has none, and no container will come of it."""
        from pycontainerd.runtime.libcontainer.config import load_spec

        try:
            self._spec = load_spec(self._bundle)
            namespaces = self._spec["linux"]["namespaces"]
            return any(each["type"] == "pid" and not each.get("path") for each in namespaces)
        except (errdefs.ContainerdError, OSError, ValueError, LookupError, TypeError, AttributeError):
            return False

    async def create(self, id: str, stdio: Sequence[int], console_socket: str) -> int:
        """Makes the container; its init, a child of the shim, waits for `start`."""
        from pycontainerd.runtime.libcontainer.config import load_spec

        if self._renewed is not None and (self._alone is None or not self._makes_pid_namespace()):
            return await self._program().create(id, stdio, console_socket)
        prefix = "runc create failed: "
        spec: dict[str, Any] | None = None
        if self._alone is not None:
            with self._here("create", prefix) as log:
                # runc makes the file whether or not it has something to say.
                os.close(_open_log(self._log_path))
                with trace.span("config.read"):
                    spec = self._spec or load_spec(self._bundle)
                if not spec.get("hooks"):
                    return self._create(id, log, spec, stdio, console_socket)

        def work(log: Logger) -> int:
            return self._create(id, log, spec, stdio, console_socket)

        return int(await self._run("create", work, prefix, stdio))

    def _create(
        self, id: str, log: Logger, spec: dict[str, Any] | None, stdio: Sequence[int], console_socket: str
    ) -> int:
        """Init's pid. Closes what it opens, whichever process it runs in."""
        from pycontainerd.runtime.libcontainer.container import CreateOptions, create

        opened: list[int] = []
        try:
            options = CreateOptions(
                id,
                self._bundle,
                self._root,
                spec=spec,
                console_socket_fd=_connect(console_socket, opened),
                pid_file=f"{self._bundle}/init.pid",
                no_pivot=self._options.no_pivot_root,
                no_new_keyring=self._options.no_new_keyring,
                stdio=_streams(stdio, opened),
                clone_parent=True,
                systemd_cgroup=self._options.systemd_cgroup,
                log=log,
                pages=self._alone.pages if self._alone is not None else None,
            )
            return create(options).pid
        finally:
            for fd in opened:
                os.close(fd)

    async def start(self, id: str) -> None:
        """Lets init run its program."""
        with self._here("start"):
            container = self._load(id)
            if not container.hooks("poststart"):
                await self._start(container)
                return
        await self._run("start", lambda log: self._load(id).start())

    async def _start(self, container: Any) -> None:
        fifo_fd, pidfd = container.open_fifo()
        try:
            with trace.span("exec.fifo"):
                await self._loop.either_readable(fifo_fd, pidfd)
            container.finish_start(fifo_fd)
        finally:
            os.close(fifo_fd)
            os.close(pidfd)

    async def exec(
        self,
        id: str,
        exec_id: str,
        process_document: bytes,
        stdio: Sequence[int],
        console_socket: str,
    ) -> int:
        """Runs another process from its JSON description."""
        if self._renewed is not None:
            self._renewed.hurry()  # the next exec is the next attendant's
            return await self._program().exec(id, exec_id, process_document, stdio, console_socket)
        prefix = "exec failed: "
        if self._shim_pid != os.getpid() and not console_socket:
            opened: list[int] = []
            try:
                # An attendant is no parent of containers: whoever is born beside it isn't its to reap.
                with self._here("exec", prefix):
                    options = self._exec_options(exec_id, process_document, stdio, "", opened)
                    steps = self._load(id).exec_steps(options)
                    if steps is not None:
                        return await self._go_through(steps)
            finally:
                for fd in opened:
                    os.close(fd)

        def work(log: Logger) -> int:
            options = self._exec_options(exec_id, process_document, stdio, console_socket, [])
            return int(self._load(id).exec(options))

        return int(await self._run("exec", work, prefix, stdio))

    def _exec_options(
        self,
        exec_id: str,
        process_document: bytes,
        stdio: Sequence[int],
        console_socket: str,
        opened: list[int],
    ) -> ExecOptions:
        from pycontainerd.runtime.libcontainer.options import ExecOptions

        return ExecOptions(
            process=document.loads(process_document),
            console_socket_fd=_connect(console_socket, opened),
            pid_file=f"{self._bundle}/{exec_id}.pid",
            stdio=_streams(stdio, opened),
            clone_parent=True,
        )

    async def _go_through(self, steps: Steps[int]) -> int:
        """Waits for what each step waits for, while the loop goes on."""
        while True:
            try:
                fd = next(steps)
            except StopIteration as end:
                return int(end.value)
            await self._loop.readable(fd)

    async def kill(self, id: str, signal: int, everyone: bool) -> None:
        """Signals init, or everything in the container's cgroup."""
        if not everyone:
            with self._here("kill"):
                container = self._load(id)
                if container.kills_by_init(signal):
                    container.kill(signal)
                    return
        await self._run("kill", lambda log: self._load(id).kill(signal, everyone))

    async def delete(self, id: str, *, force: bool = False) -> None:
        """Removes cgroups and state."""
        with self._here("delete"):
            if self._load(id).delete_at_once():
                return
        await self._run("delete", lambda log: self._load(id, log).delete(force))

    async def pause(self, id: str) -> None:
        """Freezes every process."""
        await self._run("pause", lambda log: self._load(id).pause())

    async def resume(self, id: str) -> None:
        """Thaws them."""
        await self._run("resume", lambda log: self._load(id).resume())

    async def update(self, id: str, resources: bytes) -> None:
        """Sets new limits from a LinuxResources document."""
        await self._run("update", lambda log: self._load(id).update(document.loads(resources)))

    async def processes(self, id: str) -> list[int]:
        """Host pids of everything in the container."""
        with self._here("ps"):
            return [int(pid) for pid in self._load(id).processes()]

    def _load(self, id: str, log: Logger | None = None) -> Any:
        from pycontainerd.runtime.libcontainer.container import load

        return load(self._root, id, log)

    def _here(self, name: str, prefix: str = "") -> _Here:
        return _Here(name, self._log_path, prefix)

    async def _run(
        self, name: str, work: Callable[[Logger], Any], prefix: str = "", stdio: Sequence[int] = ()
    ) -> Any:
        """Does `work` in a worker; gives what it returns. Raises RuntimeFailed with the words runc would log."""
        with trace.span("libcontainer " + name):
            result = document.loads(await self._work_apart(name, work, prefix, stdio))
        if "error" in result:
            raise RuntimeFailed(result["error"], result["error"])
        return result["value"]

    async def _work_apart(
        self, name: str, work: Callable[[Logger], Any], prefix: str, stdio: Sequence[int]
    ) -> bytes:
        """The worker's answer."""
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        parent, shim = trace.traceparent(), self._shim_pid
        try:
            with trace.span("fork worker"):
                pid = process.clone3(
                    lambda: _worker(shim, work, write_fd, stdio, self._log_path, prefix, parent),
                    parent=shim != os.getpid(),
                )
        except OSError as e:
            os.close(read_fd)
            raise RuntimeFailed(f"libcontainer {name}: {e}", f"libcontainer {name}: {e}") from e
        finally:
            os.close(write_fd)
        # To the line's end, not the pipe's: init may hold the other end until it executes its program. Nor to the
        # worker's, which takes a millisecond to leave once it has answered.
        answer = _Answer(self._loop, read_fd)
        exited = self._reaper.wait(pid)
        exited.when_done(lambda _: answer.end())
        with trace.span("wait for worker", pid=pid):
            line = await answer.line
        if not line:
            text = f"libcontainer {name} worker ended with status {exited.result().status}"
            raise RuntimeFailed(text, text)
        return line


class _Here:
    """A call of the runtime made in this process: its errors are logged and said as a worker's are."""

    __slots__ = ("_log_path", "_prefix", "_span")

    def __init__(self, name: str, log_path: str, prefix: str) -> None:
        self._span = trace.span("libcontainer " + name)
        self._log_path = log_path
        self._prefix = prefix

    def __enter__(self) -> _LateLogger:
        self._span.__enter__()
        return _LateLogger(self._log_path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._span.__exit__(kind, error, tb)
        if isinstance(error, (errdefs.ContainerdError, OSError, ValueError)):
            message = self._prefix + str(error)
            _LateLogger(self._log_path).error(message)
            raise RuntimeFailed(message, message) from error


class _LateLogger(Logger):
    """Opens its file for the line that is written, if there ever is one."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        super().__init__(-1, "info", "json")
        self._path = path

    def log(self, level: str, message: str, **fields: object) -> None:
        """Appends one line."""
        self.fd = _open_log(self._path)
        try:
            super().log(level, message, **fields)
        finally:
            os.close(self.fd)
            self.fd = -1


class _Answer:
    """The line that a worker says; `line` settles with it, or with nothing when it has ended without."""

    def __init__(self, loop: Loop, read_fd: int) -> None:
        self._loop = loop
        self._fd = read_fd
        self._data = bytearray()
        self.line: Future[bytes] = Future()
        os.set_blocking(read_fd, False)
        loop.watch(read_fd, READ, self._read)

    def _read(self, events: int) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        self._data += data
        if not data or data.endswith(b"\n"):
            self._settle()

    def end(self) -> None:
        """The worker has ended: what is in the pipe now is all there is."""
        while not self.line.done:
            try:
                data = os.read(self._fd, 65536)
            except BlockingIOError:
                data = b""
            self._data += data
            if not data:
                self._settle()

    def _settle(self) -> None:
        self._loop.unwatch(self._fd)
        os.close(self._fd)
        self.line.set(bytes(self._data) if self._data.endswith(b"\n") else b"")


def _open_log(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _worker(
    shim: int,
    work: Callable[[Logger], Any],
    write_fd: int,
    stdio: Sequence[int],
    log_path: str,
    prefix: str,
    traceparent: str,
) -> None:
    """Runs in the worker: answers and leaves."""
    prctl.set_pdeathsig(_SIGKILL)
    if os.getppid() != shim:
        os._exit(1)  # it died before the signal was asked for: what it wanted is being cleaned up
    trace.after_fork()
    trace.adopt(traceparent)
    with trace.span("begin"):
        # Nothing of the shim's goes along: init lives until `start` with what this process has open.
        close_all_but((0, 1, 2, write_fd, *stdio))
        log_fd = _open_log(log_path)
    log = Logger(log_fd, "info", "json")
    try:
        answer = {"value": work(log)}
    except (errdefs.ContainerdError, OSError, ValueError) as e:
        message = prefix + str(e)
        log.error(message)
        answer = {"error": message}
    _write(write_fd, document.dumps(answer).encode("utf-8", "surrogateescape") + b"\n")
    os._exit(0)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _connect(console_socket: str, opened: list[int]) -> int:
    """A connection to the console socket, told to `opened`, too; -1 when there is no terminal."""
    if not console_socket:
        return -1
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    sock.connect(console_socket)
    opened.append(sock.detach())
    return opened[-1]


def _streams(stdio: Sequence[int], opened: list[int]) -> tuple[int, int, int]:
    if not stdio:
        null_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        opened.append(null_fd)
        return null_fd, null_fd, null_fd
    stdin, stdout, stderr = stdio
    return stdin, stdout, stderr


def delete_now(root: str, id: str) -> None:
    """Removes a container by force, waiting for it; one that isn't there is fine."""
    from pycontainerd.runtime.libcontainer.container import delete_by_force

    delete_by_force(root, id)
