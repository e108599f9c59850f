"""The restart monitor: makes the tasks of labelled containers what their labels want, every few seconds.

It works as a client of the daemon's own socket, in threads that the daemon doesn't wait for when it stops.

Spec: containerd plugins/restart
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core import restarts
from pycontainerd.daemon.core.restarts import Change
from pycontainerd.lib.errdefs import ContainerdError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.client.client import Client
    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.containers import Container
    from pycontainerd.daemon.plugins.metadata_sqlite.containers import SqliteContainerStore
    from pycontainerd.lib.log import Logger

_THREADS: Final = 4
_DEFAULT_S: Final = 10.0
_SIGKILL: Final = 9
# Numbers of containerd.v1.types.Status.
_NAMES: Final = {1: "created", 2: "running", 3: "stopped", 4: "paused", 5: "pausing"}


class RestartMonitor:
    """`run` once, on the daemon's loop, after the sockets are served."""

    capabilities: Sequence[str] = restarts.POLICIES

    def __init__(
        self,
        store: SqliteContainerStore,
        socket: tuple[str, str],
        interval_s: float,
        pools: Pools,
        log: Logger,
    ) -> None:
        """`socket` is (address, kind) of the daemon's own; an interval of 0 is ten seconds, as in containerd."""
        self._store = store
        self._address, self._kind = socket
        self._interval_s = interval_s or _DEFAULT_S
        self._pools = pools
        self._log = log

    async def run(self) -> None:
        """Until it is cancelled. What goes wrong is logged, and tried again the next time."""
        while True:
            found = await self._pools.run("restart", self._labelled)
            if found:
                await self._pools.run_apart("restart", partial(self._reconcile, found))
            await asyncio.sleep(self._interval_s)

    def wants_running(self) -> bool:
        """Whether a container is to run: then a daemon that leaves when idle stays."""
        return any(c.labels.get(restarts.STATUS) == "running" for _, c in self._labelled())

    def _labelled(self) -> Sequence[tuple[str, Container]]:
        return self._store.labelled(restarts.STATUS)

    def _reconcile(self, labelled: Sequence[tuple[str, Container]]) -> None:
        with ThreadPoolExecutor(_THREADS, "restart") as threads:
            settling = [threads.submit(self._settle, *each) for each in labelled]
        for (namespace, container), done in zip(labelled, settling, strict=True):
            bug = done.exception()
            if bug is not None:
                self._log.error("apply change", namespace=namespace, id=container.id, error=repr(bug))

    def _settle(self, namespace: str, container: Container) -> None:
        from pycontainerd.client.client import Client

        try:
            with Client(self._address, namespace, kind=self._kind) as client:
                self._change(client, container)
        except (ContainerdError, OSError) as e:
            self._log.error("apply change", namespace=namespace, id=container.id, error=str(e))

    def _change(self, client: Client, container: Container) -> None:
        from pycontainerd.client import tasks
        from pycontainerd.lib.errdefs import NotFound

        status, exit_code = "", 0
        with suppress(NotFound):
            found = tasks.Process(client, container.id).info()
            status, exit_code = _NAMES.get(found.status, "unknown"), found.exit_status
        match restarts.change(container.labels, status, exit_code):
            case Change.START:
                _start(client, container)
            case Change.STOP:
                _end(client, container.id)
            case Change.NOTHING:
                pass


def _start(client: Client, container: Container) -> None:
    """Counts, takes away what is left of the last task, and runs another one. Its output is nobody's, or where the label says."""
    from pycontainerd.client import cio, containers, tasks

    record = containers.get(client, container.id)
    terminal = bool((containers.spec_of(record).get("process") or {}).get("terminal"))
    uri = container.labels.get(restarts.LOG_URI, "")
    streams = cio.log_streams(uri, terminal=terminal) if uri else cio.Streams(terminal=terminal)
    containers.set_labels(client, container.id, {restarts.COUNT: str(restarts.count(container.labels) + 1)})
    with suppress(ContainerdError):
        _end(client, container.id)
    tasks.create(client, container.id, containers.rootfs_of(client, record), streams).start()


def _end(client: Client, container_id: str) -> None:
    """Kills a task and all it has started, and deletes it."""
    from pycontainerd.client import tasks

    task = tasks.load(client, container_id)
    try:
        exited = task.start_wait()
        task.kill(_SIGKILL, everything=True)
        client.wait(exited)
    except ContainerdError:
        pass  # it has ended already: what counts is whether it can be deleted
    task.delete()
