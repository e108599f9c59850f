"""The daemon's life: locks, plugins, sockets, serving, signals, and the way out.

Containers never notice: stopping the daemon leaves shims alone, and the next start finds them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon import plugin, sockets
from pycontainerd.daemon.core import files
from pycontainerd.daemon.core.blocking import Pools
from pycontainerd.daemon.endpoints import Endpoints
from pycontainerd.lib.errdefs import ContainerdError
from pycontainerd.lib.log import Logger
from pycontainerd.version import REVISION, VERSION

if TYPE_CHECKING:
    from pycontainerd.daemon.config import Config
    from pycontainerd.daemon.plugin import Context
    from pycontainerd.daemon.server.dispatch import Dispatcher

_IDLE_CHECK_S: Final = 1.0


def run(launcher: str, config: Config, *, idle_exit_s: int = 0) -> int:
    """Serves until SIGTERM or SIGINT, or until idle; the exit code. Raises errdefs when it cannot start."""
    begun = time.monotonic()
    log = Logger(2, config.debug.level, config.debug.format)
    files.make_dir(config.root, 0o700)
    files.make_dir(config.state, 0o711)
    if config.temp:
        files.make_dir(config.temp, 0o700)
        os.environ["TMPDIR"] = config.temp  # for this process and every one it starts, as in containerd
    locks = [sockets.lock_folder(config.root, "--root"), sockets.lock_folder(config.state, "--state")]
    log.info("starting containerd", revision=REVISION, version=VERSION)
    for warning in config.warnings:
        log.warning("configuration", problem=warning)
    _set_oom_score(config.oom_score)
    try:
        return asyncio.run(_serve(launcher, config, log, begun, idle_exit_s))
    finally:
        for fd in locks:
            os.close(fd)


async def _serve(launcher: str, config: Config, log: Logger, begun: float, idle_exit_s: int) -> int:
    stop = asyncio.Event()
    _install_signals(stop, log)
    inherited = sockets.Inherited.take()  # before anything is started that could inherit them too
    pools = Pools()
    context = plugin.Context(config, log, pools, launcher)
    endpoints: Endpoints | None = None
    background: list[asyncio.Task[None]] = []
    try:
        plugin.start_all(context, plugin.registrations(config))
        tasks = context.instances.get(plugin.TASKS)
        if tasks is not None:
            await tasks.load()
        sandboxes = context.instances.get(plugin.SANDBOXES)
        if sandboxes is not None:
            await sandboxes.load()
        endpoints = Endpoints(context, inherited)
        await endpoints.start()
        background.append(asyncio.ensure_future(context.get(plugin.SCHEDULER).run()))
        if tasks is not None:
            exchange = context.get(plugin.EVENTS)
            background.append(asyncio.ensure_future(tasks.report_missed(exchange.first_listener())))
        if not context.get(plugin.METADATA).was_clean:
            background.append(asyncio.ensure_future(_check_metadata(context)))
        if idle_exit_s:
            background.append(
                asyncio.ensure_future(_watch_idle(context, endpoints.dispatcher, idle_exit_s, stop))
            )
        sockets.notify_systemd("READY=1")
        log.info(f"containerd successfully booted in {time.monotonic() - begun:.6f}s")
        gc.collect()
        gc.freeze()  # what is loaded now stays: later collections need not look at it
        await stop.wait()
    finally:
        sockets.notify_systemd("STOPPING=1")
        await _stop(context, endpoints, background)
    return 0


async def _stop(
    context: Context,
    endpoints: Endpoints | None,
    background: list[asyncio.Task[None]],
) -> None:
    """In the order that loses nothing: calls, background work, threads, metadata."""
    if endpoints is not None:
        await endpoints.close()
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    tasks = context.instances.get(plugin.TASKS)
    if tasks is not None:
        await tasks.close()
    sandboxes = context.instances.get(plugin.SANDBOXES)
    if sandboxes is not None:
        await sandboxes.close()
    # Before the threads are waited for: what one of them waits for must not be without end.
    for stop in context.on_stop:
        await asyncio.to_thread(stop)
    context.pools.close()
    database = context.instances.get(plugin.METADATA)
    if database is not None:
        database.close()


async def _watch_idle(
    context: Context, dispatcher: Dispatcher, idle_exit_s: int, stop: asyncio.Event
) -> None:
    """Sets `stop` once nothing has needed the daemon for that long."""
    while not stop.is_set():
        await asyncio.sleep(_IDLE_CHECK_S)
        if dispatcher.in_flight or time.monotonic() - dispatcher.last_activity < idle_exit_s:
            continue
        if context.get(plugin.SCHEDULER).pending:
            continue
        tasks = context.instances.get(plugin.TASKS)
        if tasks is not None and tasks.list(""):
            continue
        if await context.pools.run("metadata", _has_leases, context):
            continue
        context.log.info("nothing to do, leaving", idle_seconds=idle_exit_s)
        stop.set()


async def _check_metadata(context: Context) -> None:
    """The full check of the database after an unclean stop; the quick one has passed already."""
    try:
        await context.pools.run("check", context.get(plugin.METADATA).check)
    except ContainerdError as e:
        context.log.error("metadata is damaged", error=str(e))


def _has_leases(context: Context) -> bool:
    row = context.get(plugin.METADATA).read(lambda tx: tx.row("SELECT 1 FROM leases LIMIT 1"))
    return row is not None


def _install_signals(stop: asyncio.Event, log: Logger) -> None:
    loop = asyncio.get_running_loop()

    def leave(number: int) -> None:
        log.info("stop signal received", signal=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave, number)
    loop.add_signal_handler(signal.SIGUSR1, _dump_stacks, log)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _dump_stacks(log: Logger) -> None:
    """Every thread's and every task's stack, to the log. SIGUSR1, as in containerd."""
    from pycontainerd.daemon.server.debug import format_stacks

    log.info(f"=== BEGIN goroutine stack dump ===\n{format_stacks()}=== END goroutine stack dump ===")


def _set_oom_score(score: int) -> None:
    if score:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as f:
            f.write(str(score))
