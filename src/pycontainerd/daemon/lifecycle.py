"""The daemon's life: locks, plugins, sockets, serving, signals, and the way out.

Containers never notice: stopping the daemon leaves shims alone, and the next start finds them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon import plugin, registration, service_manager, sockets
from pycontainerd.daemon.core import files
from pycontainerd.daemon.core.blocking import Pools
from pycontainerd.daemon.endpoints import Endpoints
from pycontainerd.lib.errdefs import ContainerdError
from pycontainerd.lib.log import LEVELS, Logger
from pycontainerd.version import REVISION, VERSION

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from pycontainerd.daemon.config import Config
    from pycontainerd.daemon.registration import Context
    from pycontainerd.daemon.server.dispatch import Dispatcher

_IDLE_CHECK_S: Final = 1.0


def run(launcher: str, config: Config, *, idle_exit_s: int = 0) -> int:
    """Serves until SIGTERM or SIGINT, or until idle; the exit code. Raises errdefs when it cannot start."""
    log = Logger(2, config.debug.level, config.debug.format)
    inherited = service_manager.Inherited.take()  # before a descriptor of our own could be taken for one
    if config.temp:
        files.make_dir(config.temp, 0o700)
        os.environ["TMPDIR"] = config.temp  # for this process and every one it starts, as in containerd
    with held(config):
        _set_oom_score(config.oom_score)
        return asyncio.run(_serve(Daemon(launcher, config, log), inherited, log, idle_exit_s))


@contextmanager
def held(config: Config) -> Iterator[None]:
    """The daemon's folders, made and locked; AlreadyExists names the daemon that has them."""
    files.make_dir(config.root, 0o700)
    files.make_dir(config.state, 0o711)
    with ExitStack() as locks:
        for folder, flag in ((config.root, "--root"), (config.state, "--state")):
            locks.callback(os.close, sockets.lock_folder(folder, flag))
        yield


class Daemon:
    """A daemon on the running event loop, in folders that are `held`: `start` once, `stop` once, also after a failed start.

    What concerns the whole process (signals, environment, inherited sockets) is its caller's.
    """

    def __init__(self, launcher: str, config: Config, log: Logger) -> None:
        self._pools = Pools()
        self._context = registration.Context(config, log, self._pools, launcher)
        self._endpoints: Endpoints | None = None
        self._background: list[asyncio.Task[None]] = []

    async def start(self, inherited: service_manager.Inherited, *, serves_grpc: bool = True) -> Dispatcher:
        """Starts plugins, finds tasks again, serves; what answers calls. Owns `inherited`. Raises errdefs."""
        context, begun = self._context, time.monotonic()
        context.log.info("starting containerd", revision=REVISION, version=VERSION)
        for warning in context.config.warnings:
            context.log.warning("configuration", problem=warning)
        registration.start_all(context, plugin.registrations(context.config))
        context.require(plugin.METADATA)
        tasks = context.instances.get(plugin.TASKS)
        if tasks is not None:
            await tasks.load()
        sandboxes = context.instances.get(plugin.SANDBOXES)
        if sandboxes is not None:
            await sandboxes.load()
        self._endpoints = Endpoints(context, inherited, serves_grpc=serves_grpc)
        await self._endpoints.start()
        self.run_beside(context.get(plugin.SCHEDULER).run())
        if plugin.RESTART in context.instances:
            self.run_beside(context.get(plugin.RESTART).run())
        if tasks is not None:
            self.run_beside(tasks.report_missed(context.get(plugin.EVENTS).first_listener()))
        if not context.get(plugin.METADATA).was_clean:
            self.run_beside(_check_metadata(context))
        context.log.info(f"containerd successfully booted in {time.monotonic() - begun:.6f}s")
        return self._endpoints.dispatcher

    def run_beside(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs something until it ends or the daemon stops."""
        self._background.append(asyncio.ensure_future(coroutine))

    async def watch_idle(self, dispatcher: Dispatcher, idle_exit_s: int, stop: asyncio.Event) -> None:
        """Sets `stop` once nothing has needed the daemon for that long."""
        context = self._context
        while not stop.is_set():
            await asyncio.sleep(_IDLE_CHECK_S)
            if dispatcher.in_flight or time.monotonic() - dispatcher.last_activity < idle_exit_s:
                continue
            if context.get(plugin.SCHEDULER).pending:
                continue
            tasks = context.instances.get(plugin.TASKS)
            if tasks is not None and tasks.list(""):
                continue
            if await self._pools.run("metadata", _is_wanted, context):
                continue
            context.log.info("nothing to do, leaving", idle_seconds=idle_exit_s)
            stop.set()

    async def stop(self) -> None:
        """In the order that loses nothing: calls, background work, threads, metadata."""
        context = self._context
        if self._endpoints is not None:
            await self._endpoints.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for uri in (plugin.TASKS, plugin.SANDBOXES):
            if uri in context.instances:
                await context.get(uri).close()
        # Before the threads are waited for: what one of them waits for must not be without end.
        for stop in context.on_stop:
            await asyncio.to_thread(stop)
        self._pools.close()
        if plugin.METADATA in context.instances:
            context.get(plugin.METADATA).close()


async def _serve(daemon: Daemon, inherited: service_manager.Inherited, log: Logger, idle_exit_s: int) -> int:
    stop = asyncio.Event()
    _install_signals(stop, log)
    _switch_level_by_signal(log)
    try:
        dispatcher = await daemon.start(inherited)
        if idle_exit_s:
            daemon.run_beside(daemon.watch_idle(dispatcher, idle_exit_s, stop))
        _notify("READY=1", log)
        gc.collect()
        gc.freeze()  # what is loaded now stays: later collections need not look at it
        await stop.wait()
    finally:
        _notify("STOPPING=1", log)
        await daemon.stop()
    return 0


def _notify(message: str, log: Logger) -> None:
    if problem := service_manager.notify(message):
        log.warning("notify failed", error=problem)


async def _check_metadata(context: Context) -> None:
    """The full check of the database after an unclean stop; the quick one has passed already."""
    try:
        await context.pools.run("check", context.get(plugin.METADATA).check)
    except ContainerdError as e:
        context.log.error("metadata is damaged", error=str(e))


def _is_wanted(context: Context) -> bool:
    """Whether there are leases, or containers that are to run."""
    row = context.get(plugin.METADATA).read(lambda tx: tx.row("SELECT 1 FROM leases LIMIT 1"))
    monitor = context.instances.get(plugin.RESTART)
    return row is not None or (monitor is not None and monitor.wants_running())


def _install_signals(stop: asyncio.Event, log: Logger) -> None:
    loop = asyncio.get_running_loop()

    def leave(number: int) -> None:
        log.info("stop signal received", signal=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave, number)
    loop.add_signal_handler(signal.SIGUSR1, _dump_stacks, log)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _switch_level_by_signal(log: Logger) -> None:
    """SIGUSR2: to debug and back; a daemon that was started to debug, to info and back. containerd has no such signal."""
    started = log.level_name
    other = "info" if LEVELS[started] >= LEVELS["debug"] else "debug"

    def switch() -> None:
        log.set_level(other if log.level_name == started else started)
        log.log(log.level_name, "log level changed", now=log.level_name)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, switch)


def _dump_stacks(log: Logger) -> None:
    """Every thread's and every task's stack, to the log. SIGUSR1, as in containerd."""
    from pycontainerd.daemon.server.debug import format_stacks

    log.info(f"=== BEGIN goroutine stack dump ===\n{format_stacks()}=== END goroutine stack dump ===")


def _set_oom_score(score: int) -> None:
    if score:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as f:
            f.write(str(score))
