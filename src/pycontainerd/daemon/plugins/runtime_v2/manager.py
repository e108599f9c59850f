"""All tasks of the daemon: starts their shims, finds them again after a restart, cleans up after dead ones.

    create: bundle -> shim start -> connect -> Create
    delete: Delete -> Shutdown -> close -> bundle removed
    a connection that closes by itself: shim `delete` -> /tasks/exit and /tasks/delete, once -> bundle removed

Spec: containerd runtime v2 shim manager; docs/runtime-v2.md
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import files
from pycontainerd.daemon.core.scope import Scope, now_nanos
from pycontainerd.daemon.core.tasks import CreateOptions, Exit, Status
from pycontainerd.daemon.plugins.runtime_v2 import starter
from pycontainerd.daemon.plugins.runtime_v2.runtime import ShimRuntime
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import AlreadyExists, ContainerdError, DeadlineExceeded, NotFound, Unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.containers import ContainerStore
    from pycontainerd.daemon.plugins.runtime_v2.bundle import Bundle
    from pycontainerd.daemon.plugins.runtime_v2.exits import ExitReports
    from pycontainerd.daemon.plugins.runtime_v2.rootfs import RootfsMounts
    from pycontainerd.daemon.plugins.runtime_v2.runtime import Command, Settings, TaskRuntime
    from pycontainerd.daemon.plugins.runtime_v2.shim import Shim
    from pycontainerd.daemon.plugins.runtime_v2.starter import Bootstrap, ShimStarter
    from pycontainerd.lib.log import Logger

    AnyRuntime = TaskRuntime[Any, Any]

_UNKNOWN_EXIT_STATUS: Final = 255
_LISTENER_PATIENCE_S: Final = 10.0
# For how long after an exit the stock shim goes on trying to report it (five times, 1 to 5 seconds apart).
_SHIM_RETRIES_S: Final = 20.0


class ShimManager:
    """Implements core.tasks.TaskManager."""

    def __init__(
        self,
        settings: Settings,
        start: ShimStarter,
        containers: ContainerStore,
        pools: Pools,
        log: Logger,
        exits: ExitReports,
    ) -> None:
        self._settings = settings
        self._starter = start
        self._containers = containers
        self._pools = pools
        self._log = log
        self._exits = exits
        self._shim_runtime = ShimRuntime(settings, start, containers, pools, log)
        # Others by the name that containers ask for; every other name is a shim's of the second generation.
        self._runtimes: dict[str, AnyRuntime] = {}
        # Set where there is a mount manager.
        self.rootfs_mounts: RootfsMounts | None = None
        self._lost: list[tuple[Bundle, Exit]] = []
        self._found_again: list[Shim] = []
        self._shims: dict[tuple[str, str], Shim] = {}
        self._creating: set[tuple[str, str]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._cleaners: dict[Shim, asyncio.Task[None]] = {}
        self._closing = False
        for path in (settings.root, settings.state):
            files.make_dir(path, 0o711)

    @property
    def settings(self) -> Settings:
        """What shims of this daemon are told."""
        return self._settings

    @property
    def starter(self) -> ShimStarter:
        """How its shims come to life."""
        return self._starter

    @property
    def exits(self) -> ExitReports:
        """Who was told of which exit."""
        return self._exits

    def serve(self, name: str, runtime: AnyRuntime) -> None:
        """From now on containers of that runtime name are this one's."""
        self._runtimes[name] = runtime

    def serve_sandboxes(self, bootstrap: Callable[[str, str], Bootstrap]) -> None:
        """Says, by namespace and id, where a sandbox's shim serves tasks."""
        self._shim_runtime.sandbox_bootstrap = bootstrap

    def get(self, namespace: str, id: str) -> Shim:
        shim = self._shims.get((namespace, id))
        if shim is None:
            raise NotFound(f"task {id} not found")
        return shim

    def list(self, namespace: str) -> Sequence[Shim]:
        return [shim for (ns, _), shim in sorted(self._shims.items()) if namespace in ("", ns)]

    async def create(self, scope: Scope, id: str, options: CreateOptions) -> Shim:
        key = (scope.namespace, id)
        await self._cleaned_up(key)
        if key in self._shims or key in self._creating:
            raise AlreadyExists(f"task {id}: already exists")
        self._creating.add(key)
        creation = asyncio.ensure_future(self._create(scope, id, options))
        creation.add_done_callback(lambda _: self._creating.discard(key))
        try:
            return await asyncio.shield(creation)
        except asyncio.CancelledError:
            # The client went away. A shim that is half started cannot be stopped: it is taken back once it is whole.
            self._in_background(self._take_back(creation))
            raise

    async def _cleaned_up(self, key: tuple[str, str]) -> None:
        """Waits while what a dead shim has left under this name is being removed."""
        shim = self._shims.get(key)
        if shim is not None and shim.client.closed.is_set() and (cleaner := self._cleaners.get(shim)):
            await asyncio.wait([cleaner])

    async def _create(self, scope: Scope, id: str, options: CreateOptions) -> Shim:
        if self.rootfs_mounts is not None:
            rootfs = await self.rootfs_mounts.activate(scope, id, options.rootfs, options.runtime)
            options = replace(options, rootfs=rootfs)
        runtime = self._runtimes.get(options.runtime, self._shim_runtime)
        try:
            shim = await self._start_shim(runtime, scope.namespace, id, options)
        except BaseException:
            await self._release_mounts(scope.namespace, id)
            raise
        self._shims[scope.namespace, id] = shim
        self._watch(shim)
        try:
            await shim.create(options)
        except ContainerdError as e:
            await self._abandon(shim)
            raise type(e)(f"{runtime.create_failed}{e}", hint=e.hint) from e
        return shim

    async def _take_back(self, creation: asyncio.Future[Shim]) -> None:
        """Undoes a creation nobody waits for any more."""
        with suppress(ContainerdError):
            await self._abandon(await creation)

    async def delete(self, scope: Scope, id: str) -> Exit:
        shim = self.get(scope.namespace, id)
        failure: ContainerdError | None = None
        result: Exit | None = None
        try:
            result = await shim.delete_process("")
        except ContainerdError as e:
            lost = isinstance(e, NotFound) or shim.client.closed.is_set()
            if not lost:
                raise type(e)(f"failed to delete task: {e}", hint=e.hint) from e
            failure = e
        else:
            shim.deleted = True
        # A client that goes away now must not leave half a task.
        await asyncio.shield(self._let_go(shim))
        if result is None:
            assert failure is not None
            raise type(failure)(f"failed to delete task: {failure}") from failure
        return result

    async def load(self) -> None:
        """Finds the shims that outlived the last daemon; cleans up what is left of those that didn't."""
        await self._starter.warm()
        for runtime in (self._shim_runtime, *self._runtimes.values()):
            settings = runtime.settings
            bundles = [runtime.bundle(namespace, id) for namespace, id in _two_levels(settings.state)]
            await asyncio.gather(*(self._load_one(runtime, bundle) for bundle in bundles))
            known = {(bundle.namespace, bundle.id) for bundle in bundles}
            await self._pools.run("shims", _remove_stale_work, settings.root, known)

    async def report_missed(self, first_listener: Awaitable[None]) -> None:
        """Tells clients, once they listen again, of ends that no shim will report any more, or has reported too early."""
        with suppress(TimeoutError):
            await asyncio.wait_for(first_listener, _LISTENER_PATIENCE_S)
        lost, self._lost = self._lost, []
        for bundle, end in lost:
            self._exits.report_lost(bundle.namespace, bundle.id, end)
        found, self._found_again = self._found_again, []
        self._exits.report_unheard({(shim.namespace, shim.id) for shim in found})
        # Those that were started since report their exits to this daemon; asking them would only wake them.
        silent = [s for s in found if not self._exits.was_reported(s.namespace, s.id)]
        await asyncio.gather(*(self._report_if_silent(shim) for shim in silent))

    async def _report_if_silent(self, shim: Shim) -> None:
        """Reports a stopped task's exit unless its shim still does so itself."""
        try:
            state = await shim.state()
        except ContainerdError:
            return  # its connection closed: the watcher reports it
        if state.status != Status.STOPPED:
            return
        exited = state.exited_nanos or now_nanos()
        await asyncio.sleep(max(0.0, _SHIM_RETRIES_S - (now_nanos() - exited) / 1e9))
        if self._is_current(shim) and not self._exits.was_reported(shim.namespace, shim.id):
            self._exits.report_exit(shim.namespace, shim.id, Exit(state.pid, state.exit_status, exited))

    async def close(self) -> None:
        """Lets go of all shims, which live on."""
        self._closing = True
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for shim in self._shims.values():
            shim.close()
        await self._starter.close()

    async def _start_shim(self, runtime: AnyRuntime, namespace: str, id: str, options: CreateOptions) -> Shim:
        bundle = runtime.bundle(namespace, id)
        try:
            with trace.span("bundle.create", id=id):
                await self._pools.run("shims", bundle.create, options.spec)
        except ContainerdError as e:
            raise type(e)(f"failed to start shim: {e}") from e
        try:
            return await runtime.start(bundle, options)
        except ContainerdError as e:
            await self._delete_bundle(bundle)
            raise type(e)(f"failed to start shim: {e}", hint=e.hint) from e
        except BaseException:
            await self._delete_bundle(bundle)
            raise

    def _in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Runs beside requests; ended with the manager."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _watch(self, shim: Shim) -> None:
        """From now on the shim's death is noticed; `_cleaners` tells who cleans up after it."""
        cleaner = self._in_background(self._clean_up_when_dead(shim))
        self._cleaners[shim] = cleaner
        cleaner.add_done_callback(lambda _: self._cleaners.pop(shim, None))

    async def _clean_up_when_dead(self, shim: Shim) -> None:
        """Waits for the connection to close; unless the task was deleted, does what its shim no longer can."""
        await shim.client.closed.wait()
        if shim.deleted or self._closing:
            return
        self._log.info("shim disconnected", id=shim.id)
        end = await self._clean_up_dead(shim.bundle, shim.command)
        if self._is_current(shim):
            self._exits.report_lost(shim.namespace, shim.id, end)
        self._forget(shim)
        shim.close()

    async def _clean_up_dead(self, bundle: Bundle, command: Command) -> Exit:
        """Cleans up as the shim would, removes bundle and mounts; how the task ended, as far as can be known."""
        self._log.warning("cleaning up after shim disconnected", id=bundle.id, namespace=bundle.namespace)
        result = Exit(0, _UNKNOWN_EXIT_STATUS, now_nanos())
        try:
            self._log.info("cleaning up dead shim")
            timeout_s = self._settings.cleanup_timeout_s
            result, warnings = await starter.patiently(self._pools, self._log, command.clean_up, timeout_s)
            if warnings:
                self._log.warning(f"cleanup warnings {warnings}")
        except (ContainerdError, OSError, ValueError) as e:
            self._log.warning(
                "failed to clean up after shim disconnected",
                id=bundle.id,
                namespace=bundle.namespace,
                error=str(e),
            )
        await self._delete_bundle(bundle)
        await self._release_mounts(bundle.namespace, bundle.id)
        return result

    async def _abandon(self, shim: Shim) -> None:
        """Takes back a shim whose Create failed; nobody was told of the task."""
        self._forget(shim)
        with suppress(ContainerdError):
            async with asyncio.timeout(self._settings.cleanup_timeout_s):
                await shim.delete_process("")
        await self._let_go(shim)

    async def _let_go(self, shim: Shim) -> None:
        """Shim shut down, connection closed, bundle removed, record gone."""
        if shim.client.closed.is_set() and not shim.deleted:
            # It died. Its `delete` needs the bundle, which goes only after that: one cleans up, the other waits.
            if cleaner := self._cleaners.get(shim):
                await asyncio.wait([cleaner])
            self._forget(shim)
            return
        shim.deleted = True
        await self._end_unused(shim)
        shim.close()
        await self._delete_bundle(shim.bundle)
        await self._release_mounts(shim.namespace, shim.id)
        self._forget(shim)

    async def _end_unused(self, shim: Shim) -> None:
        """Asks a shim that has no task to leave; one that has another's stays."""
        try:
            if not shim.bundle.read("sandbox"):  # a sandbox's shim is its controller's to end
                await shim.shutdown(self._settings.shutdown_timeout_s)
        except (ContainerdError, TimeoutError) as e:
            self._log.error("failed to shutdown shim task", id=shim.id, error=str(e))

    async def _release_mounts(self, namespace: str, id: str) -> None:
        if self.rootfs_mounts is not None:
            await self.rootfs_mounts.deactivate(Scope(namespace), id)

    async def _delete_bundle(self, bundle: Bundle) -> None:
        try:
            await self._pools.run("shims", bundle.delete)
        except (ContainerdError, OSError) as e:
            self._log.error("failed to delete bundle", id=bundle.id, error=str(e))

    def _is_current(self, shim: Shim) -> bool:
        return self._shims.get((shim.namespace, shim.id)) is shim

    def _forget(self, shim: Shim) -> None:
        if self._is_current(shim):
            del self._shims[shim.namespace, shim.id]

    async def _load_one(self, runtime: AnyRuntime, bundle: Bundle) -> None:
        if bundle.is_empty():
            await self._delete_bundle(bundle)
            return
        try:
            command = await runtime.command(bundle)
        except ContainerdError as e:
            self._log.error(f"loading container {bundle.id}", error=str(e))
            await self._delete_bundle(bundle)
            return
        try:
            shim = await runtime.connect(bundle, command)
            has_answered = await self._finds(shim)
        except (ContainerdError, OSError) as e:
            self._log.warning("shim did not answer after restart", id=bundle.id, error=str(e))
            end = await self._clean_up_dead(bundle, command)
            if await self._is_container(bundle):
                self._lost.append((bundle, end))
            return
        self._shims[bundle.namespace, bundle.id] = shim
        self._found_again.append(shim)
        self._watch(shim)
        if has_answered:
            self._log.info("shim found again", id=bundle.id, namespace=bundle.namespace)
        else:
            self._log.warning("shim has not answered yet after restart", id=bundle.id)
            self._in_background(self._find_late(shim))

    async def _is_container(self, bundle: Bundle) -> bool:
        """Whether clients know a container by that id, and so wait for its end."""
        try:
            await self._pools.run("metadata", self._containers.get, Scope(bundle.namespace), bundle.id)
        except NotFound:
            return False
        return True

    async def _finds(self, shim: Shim) -> bool:
        """Whether a shim said in time that it has a task. One that has none, or is gone, is closed; the error says why.

        One that is slow is not dead: on a busy machine it may take long, and its container runs all the while.
        """
        try:
            await self._adopt(shim, self._settings.load_timeout_s)
        except DeadlineExceeded:
            return False
        except BaseException:
            shim.close()
            raise
        return True

    async def _find_late(self, shim: Shim) -> None:
        """However long it takes; until then the task is listed as unknown."""
        try:
            await self._adopt(shim, 0)
        except ContainerdError as e:
            self._log.warning("shim did not answer after restart", id=shim.id, error=str(e))
            shim.close()  # who watches it cleans up
        else:
            self._log.info("shim found again", id=shim.id, namespace=shim.namespace)

    async def _adopt(self, shim: Shim, timeout_s: float) -> None:
        """Asks a shim for its task. NotFound: there is none, and it was asked to leave."""
        try:
            state = await shim.state(timeout_s=timeout_s)
        except NotFound:
            # The last daemon died between the task's deletion and the shim's end, which nobody else will ask for.
            await self._end_unused(shim)
            raise
        if state.status == Status.UNKNOWN:
            raise Unknown("shim has no task")
        shim.adopt(state)


def _remove_stale_work(root: str, known: set[tuple[str, str]]) -> None:
    """Work folders whose bundle went with a reboot."""
    for namespace, id in _two_levels(root):
        if (namespace, id) not in known:
            files.remove_tree(f"{root}/{namespace}/{id}")


def _visible_folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and e.name[0] != ".")
    except FileNotFoundError:
        return []


def _two_levels(path: str) -> list[tuple[str, str]]:
    """(namespace, id) of what is below a state or root folder."""
    return [
        (namespace, id)
        for namespace in _visible_folders(path)
        for id in _visible_folders(f"{path}/{namespace}")
    ]
