"""Shims from the forkserver: the same contract as by exec, in a fraction of the time.

Only our own shim can be forked; every other one, and every time the forkserver cannot answer, goes by exec. The
forkserver is started once, found dead or stale it is started anew, and it ends with the daemon; shims outlive it.

Spec: lib.spawn (protocol), DESIGN "Forkserver"
"""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.plugins.runtime_v2.binary import OWN_SHIM
from pycontainerd.daemon.plugins.runtime_v2.starter import (
    Bootstrap,
    ExecStarter,
    encode_options,
    parse_bootstrap,
)
from pycontainerd.lib import launcher, trace
from pycontainerd.lib.errdefs import ContainerdError, DeadlineExceeded, ResourceExhausted, Unavailable
from pycontainerd.lib.shim_place import oom_score
from pycontainerd.lib.spawn import PendingSpawn, ShimRequest, SpawnClient, Spawned, is_stale

if TYPE_CHECKING:
    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.typed import TypedValue
    from pycontainerd.daemon.plugins.runtime_v2.starter import ShimCommand
    from pycontainerd.lib.log import Logger

_TIMEOUT_S: Final = 30.0
_ATTEMPTS: Final = 2


class ForkserverStarter:
    """Implements ShimStarter. Runs on the event loop."""

    def __init__(self, pools: Pools, log: Logger) -> None:
        self._pools = pools
        self._log = log
        self._exec = ExecStarter(pools)
        self._client: SpawnClient | None = None
        self._starting = asyncio.Lock()
        self._waiting: list[tuple[PendingSpawn, asyncio.Future[Spawned]]] = []
        self._serial = itertools.count(1)
        self._own_binary = launcher.path(OWN_SHIM)

    async def warm(self) -> None:
        """Starts the forkserver before the first shim is wanted; a failure is only logged."""
        try:
            await self._connected()
        except ContainerdError as e:
            self._log.warning("no forkserver, shims are started by exec", error=str(e))

    async def start(self, command: ShimCommand, options: TypedValue | None) -> Bootstrap:
        if command.binary != self._own_binary:
            return await self._exec.start(command, options)
        id = f"{command.namespace}/{command.id}#{next(self._serial)}"
        for attempt in range(_ATTEMPTS):
            try:
                with trace.span("shim.fork", id=command.id):
                    spawned = await self._spawn(id, command, encode_options(options))
            except (Unavailable, ResourceExhausted) as e:
                self._log.warning("forkserver did not answer", error=str(e), attempt=attempt + 1)
            except ContainerdError as e:
                if not is_stale(e):
                    raise
                self._log.info("forkserver is of another build, starting a new one")
                await self._drop()
            else:
                with suppress(OSError):
                    os.close(spawned.pidfd)  # the shim's connection tells when it dies
                return parse_bootstrap(spawned.output)
        return await self._exec.start(command, options)

    async def close(self) -> None:
        """Ends the forkserver; its shims stay."""
        await self._drop()

    async def _spawn(self, id: str, command: ShimCommand, stdin: bytes) -> Spawned:
        client = await self._connected()
        request = ShimRequest(
            id,
            command.start_argv(),
            command.environment(),
            command.bundle,
            stdin=stdin,
            oom_score_adj=oom_score(os.getpid()),
        )
        future: asyncio.Future[Spawned] = asyncio.get_running_loop().create_future()
        fd = client.fileno()
        try:
            self._waiting.append((client.request(request), future))
        except Unavailable:
            if client.closed:
                self._lost(fd)
            raise
        try:
            with trace.span("wait for forkserver"):
                async with asyncio.timeout(_TIMEOUT_S):
                    return await future
        except TimeoutError as e:
            raise DeadlineExceeded("forkserver took too long: context deadline exceeded") from e

    async def _connected(self) -> SpawnClient:
        async with self._starting:
            if self._client is None or self._client.closed:
                await self._drop()
                self._client = await self._pools.run("shims", SpawnClient.start, log_fd=self._log.fd)
                asyncio.get_running_loop().add_reader(self._client.fileno(), self._pump, self._client)
            return self._client

    def _pump(self, client: SpawnClient) -> None:
        fd = client.fileno()
        client.pump()
        if client.closed:
            self._lost(fd)
        else:
            self._settle()

    def _lost(self, fd: int) -> None:
        """The forkserver has gone. The loop has to forget its socket, whose number the next one's is likely to have."""
        asyncio.get_running_loop().remove_reader(fd)
        self._settle()

    def _settle(self) -> None:
        """Hands finished requests to whoever awaits them."""
        waiting, self._waiting = self._waiting, []
        for pending, future in waiting:
            if not pending.done:
                self._waiting.append((pending, future))
                continue
            try:
                spawned = pending.result()
            except ContainerdError as e:
                if not future.done():
                    future.set_exception(e)
                continue
            if future.done():
                os.close(spawned.pidfd)  # nobody waits any more; the shim leaves when no Create comes
            else:
                future.set_result(spawned)

    async def _drop(self) -> None:
        """Lets go of the forkserver process and reaps it."""
        client, self._client = self._client, None
        if client is None:
            return
        if not client.closed:
            asyncio.get_running_loop().remove_reader(client.fileno())
            client.close()
            self._settle()
        with suppress(ChildProcessError):
            await self._pools.run("shims", os.waitpid, client.pid, 0)
