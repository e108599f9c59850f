"""A daemon on a thread of this process: its folders are locked like any daemon's, its containers outlive it like any daemon's.

    with in_process(root, state) as containerd:      # a client.Containerd
        containerd.run("busybox", ["true"])

What a daemon does to its whole process as a program isn't done here: no signal is handled, no environment changed, no
socket inherited, nothing frozen. Other processes are started as ever (forkserver, shims, layer workers), never forked.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from pycontainerd.client.client import Client
from pycontainerd.client.objects.containerd import Containerd, default_namespace
from pycontainerd.daemon import config as settings
from pycontainerd.daemon import lifecycle, service_manager
from pycontainerd.embedded.transport import DirectTransport
from pycontainerd.lib import launcher
from pycontainerd.lib.errdefs import FailedPrecondition, InvalidArgument, PermissionDenied, Unavailable
from pycontainerd.lib.log import LEVELS, Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from pycontainerd.daemon.config import Config
    from pycontainerd.daemon.server.dispatch import Dispatcher

_PROGRAM: Final = "pycontainerd"
_SOCKET: Final = "pycontainerd.sock"  # in the state folder; its ttrpc socket is beside it


@contextmanager
def in_process(
    root: str = "",
    state: str = "",
    *,
    namespace: str = "",
    address: str = "",
    config: str = "",
    log: str = "",
    log_level: str = "",
) -> Iterator[Containerd]:
    """A daemon in this process and a client of it; both end with the block, containers stay. Arguments as `Daemon`'s."""
    with (
        Daemon(root, state, address=address, config=config, log=log, log_level=log_level) as daemon,
        daemon.containerd(namespace) as containerd,
    ):
        yield containerd


class Daemon:
    """Runs from its making to `close`. A context manager; for any number of clients in any threads."""

    def __init__(
        self,
        root: str = "",
        state: str = "",
        *,
        address: str = "",
        config: str = "",
        log: str = "",
        log_level: str = "",
    ) -> None:
        """Returns once it serves.

        `root` and `state` are the daemon's folders, `config` is a config.toml: what is given counts before what stands
        there, and what nobody says is the program's default. Other programs are served gRPC at `address`; without one
        there is only the ttrpc socket in `state` (root's), which shims send their events to. Daemon and shims append what
        they have to say to `log`, a path: `pycontainerd.log` in `state` where none is given.

        AlreadyExists while another daemon has one of the folders; PermissionDenied without root's rights;
        FailedPrecondition where the package is without its programs; InvalidArgument for settings that only a process of
        its own can have.
        """
        program = _program()
        self._config = _config(root, state, address, config, log_level)
        self._serves_grpc = self._config.grpc.address != f"{self._config.state}/{_SOCKET}"
        self._log_path = log or f"{self._config.state}/{_PROGRAM}.log"
        self._lock = threading.Lock()
        self._transports: weakref.WeakSet[DirectTransport] = weakref.WeakSet()
        self._dispatcher: Dispatcher | None = None
        self._loop = asyncio.new_event_loop()
        self._leave = asyncio.Event()
        self._started: Future[None] = Future()
        self._ended: Future[None] = Future()
        # Not waited for by an interpreter that ends without `close`: to the containers that is a daemon's death.
        self._thread = threading.Thread(target=self._run, args=(program,), name=_PROGRAM, daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except BaseException:  # also an interrupt while it starts
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def containerd(self, namespace: str = "", *, timeout_s: float = 0) -> Containerd:
        """A client of this daemon, for one thread; `another` is the next thread's. Arguments as `Containerd`'s."""
        address = self._config.grpc.address
        namespace = namespace or default_namespace()
        return Containerd(client=Client(address, namespace, timeout_s=timeout_s, dial=self._dial))

    def close(self) -> None:
        """Stops it: calls under way end with Unavailable, containers go on. Waits for its threads; twice is once."""
        with suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join()
        self._ended.result()

    def _dial(self) -> DirectTransport:
        with self._lock:
            if self._dispatcher is None:
                raise Unavailable("the daemon in this process has stopped")
            transport = DirectTransport(self._loop, self._dispatcher, self._log)
            self._transports.add(transport)
            return transport

    def _run(self, program: str) -> None:
        """The thread. An error before it serves is the constructor's, a later one is `close`'s."""
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.get_loop()  # the runner's to close from here on
                with lifecycle.held(self._config), open(self._log_path, "ab", 0, opener=_open_log) as log:
                    self._log = Logger(log.fileno(), self._config.debug.level, self._config.debug.format)
                    runner.run(self._serve(program))
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that waits for it
            (self._ended if self._started.done() else self._started).set_exception(error)
        if not self._ended.done():
            self._ended.set_result(None)

    async def _serve(self, program: str) -> None:
        daemon = lifecycle.Daemon(program, self._config, self._log)
        try:
            self._dispatcher = await daemon.start(service_manager.Inherited(), serves_grpc=self._serves_grpc)
            self._started.set_result(None)
            await self._leave.wait()
        finally:
            with self._lock:
                self._dispatcher = None
                transports = tuple(self._transports)
            for transport in transports:
                await transport.drained()
            await daemon.stop()


def _program() -> str:
    """The launcher that shims and the forkserver are started by, once it is clear that they can be."""
    if os.geteuid() != 0:
        raise PermissionDenied("a daemon needs root's rights", hint="run the script as root")
    program = launcher.path(_PROGRAM)
    if not os.access(program, os.X_OK):
        raise FailedPrecondition(
            f"{program} is missing, which shims and the forkserver are started by",
            hint="install the package with its programs (pip install .), or run it from a checkout",
        )
    return program


def _config(root: str, state: str, address: str, path: str, log_level: str) -> Config:
    """The settings, checked for what would change more than a daemon of this process may."""
    config = settings.load(path, required=True) if path else settings.Config()
    config.root = root or config.root
    config.state = state or config.state
    if not (os.path.isabs(config.root) and os.path.isabs(config.state)):
        raise InvalidArgument(f"root and state must be absolute paths: {config.root!r}, {config.state!r}")
    if address or config.grpc.address == settings.DEFAULT_ADDRESS:
        config.grpc.address = address or f"{config.state}/{_SOCKET}"
    config.debug.level = log_level or config.debug.level
    if config.debug.level not in LEVELS:
        raise InvalidArgument(f'not a valid logrus Level: "{log_level}"')
    whole_process: dict[str, Callable[[], object]] = {
        "oom_score": lambda: config.oom_score,
        "temp": lambda: config.temp,
        f"path of {settings.OPT}": lambda: config.plugins[settings.OPT]["path"],
    }
    for name, value in whole_process.items():
        if value():
            raise InvalidArgument(f"{name} is for a daemon in a process of its own")
    # Its folder of programs would have to be on this process's PATH.
    config.disabled_plugins = [*config.disabled_plugins, settings.OPT]
    return config


def _open_log(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
