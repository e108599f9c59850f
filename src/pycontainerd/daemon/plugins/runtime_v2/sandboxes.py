"""Sandboxes by shims that serve containerd.runtime.sandbox.v1.

    create: bundle -> shim start -> connect -> CreateSandbox
    shutdown: ShutdownSandbox -> close -> bundle removed
    a connection that closes by itself: shim `delete` -> bundle removed

The tasks of its containers are served on the same connection's address; the task manager asks for it here.

Spec: containerd plugins/sandbox (controller), core/sandbox
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import files
from pycontainerd.daemon.core.plugins import Platform
from pycontainerd.daemon.core.sandboxes import SandboxStatus, Started
from pycontainerd.daemon.core.tasks import Exit
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.plugins.runtime_v2 import binary, starter
from pycontainerd.daemon.plugins.runtime_v2.bundle import Bundle
from pycontainerd.daemon.plugins.runtime_v2.shim_log import ShimLog
from pycontainerd.lib.api.full import runtime_sandbox_v1, types, wkt
from pycontainerd.lib.errdefs import (
    AlreadyExists,
    ContainerdError,
    DeadlineExceeded,
    NotFound,
    Unavailable,
    Unknown,
)
from pycontainerd.lib.identifiers import quoted
from pycontainerd.lib.ttrpc.aio import Client
from pycontainerd.lib.ttrpc.client import Closed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.sandboxes import Sandbox
    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.snapshots import Mount
    from pycontainerd.daemon.plugins.runtime_v2.runtime import Settings
    from pycontainerd.daemon.plugins.runtime_v2.starter import Bootstrap, ShimCommand, ShimStarter
    from pycontainerd.lib.log import Logger

_SERVICE: Final = runtime_sandbox_v1.SANDBOX


class SandboxShim:
    """One connected sandbox. Owns the connection and the copy of the shim's log."""

    __slots__ = ("bootstrap", "bundle", "client", "command", "log", "removed")

    def __init__(
        self, bundle: Bundle, command: ShimCommand, client: Client, bootstrap: Bootstrap, log: ShimLog
    ) -> None:
        self.bundle = bundle
        self.command = command
        self.client = client
        self.bootstrap = bootstrap
        self.log = log
        self.removed = False  # in the ordinary way: its end is no surprise

    async def call(self, name: str, timeout_s: float = 0, **fields: Any) -> Any:
        """One method of the shim's sandbox service; its errors end with their class, as containerd's do."""
        method = next(m for m in _SERVICE.methods if m.name == name)
        request = method.request(sandbox_id=self.bundle.id, **fields)
        metadata = {"containerd-namespace-ttrpc": self.bundle.namespace}
        try:
            payload = await self.client.call(
                _SERVICE.name, name, request.SerializeToString(), metadata, timeout_s
            )
        except Closed as e:
            raise Unavailable("ttrpc: closed: unavailable") from e
        except ContainerdError as e:
            if str(e).endswith(e.reason):
                raise
            raise type(e)(f"{e}: {e.reason}") from e
        return method.response.FromString(payload)

    def close(self) -> None:
        """Ends the connection; the shim lives on."""
        self.client.close()
        self.log.close()


class ShimSandboxController:
    """Implements core.sandboxes.Controller."""

    def __init__(self, settings: Settings, start: ShimStarter, pools: Pools, log: Logger) -> None:
        self._settings = settings
        self._starter = start
        self._pools = pools
        self._log = log
        self._shims: dict[tuple[str, str], SandboxShim] = {}
        self._creating: set[tuple[str, str]] = set()
        self._watchers: set[asyncio.Task[None]] = set()
        self._closing = False

    async def create(
        self,
        scope: Scope,
        sandbox: Sandbox,
        rootfs: Sequence[Mount],
        options: TypedValue | None,
        netns_path: str,
        annotations: Mapping[str, str],
    ) -> None:
        key = (scope.namespace, sandbox.id)
        if key in self._shims or key in self._creating:
            raise AlreadyExists(f"sandbox {sandbox.id} already running: already exists")
        self._creating.add(key)
        try:
            shim = await self._start_shim(scope.namespace, sandbox)
            try:
                await shim.call(
                    "CreateSandbox",
                    bundle_path=shim.bundle.path,
                    rootfs=[
                        types.Mount(type=m.type, source=m.source, target=m.target, options=list(m.options))
                        for m in rootfs
                    ],
                    options=_any(options),
                    netns_path=netns_path,
                    annotations=dict(annotations),
                )
            except BaseException as e:
                await asyncio.shield(self._remove(shim))
                if isinstance(e, ContainerdError):
                    raise type(e)(f"failed to create sandbox {sandbox.id}: {e}") from e
                raise
            self._adopt(shim)
        finally:
            self._creating.discard(key)

    async def start(self, scope: Scope, id: str) -> Started:
        shim = self._require(scope, id)
        try:
            answer = await shim.call("StartSandbox")
        except ContainerdError as e:
            await asyncio.shield(self._remove(shim))
            raise type(e)(f"failed to start sandbox {id}: {e}") from e
        return Started(
            answer.pid,
            _nanos(answer.created_at),
            shim.bootstrap.address,
            shim.bootstrap.version,
            _typed(answer, "spec"),
        )

    async def platform(self, scope: Scope, id: str) -> Platform:
        found = (await self._require(scope, id).call("Platform")).platform
        return Platform(found.os, found.architecture, found.variant)

    async def stop(self, scope: Scope, id: str, timeout_s: int) -> None:
        await self._require(scope, id).call("StopSandbox", timeout_secs=timeout_s)

    async def wait(self, scope: Scope, id: str) -> Exit:
        answer = await self._require(scope, id).call("WaitSandbox")
        return Exit(0, answer.exit_status, _nanos(answer.exited_at))

    async def status(self, scope: Scope, id: str, *, verbose: bool) -> SandboxStatus:
        shim = self._require(scope, id)
        answer = await shim.call("SandboxStatus", verbose=verbose)
        return SandboxStatus(
            answer.pid,
            answer.state,
            dict(answer.info),
            _nanos(answer.created_at),
            _nanos(answer.exited_at),
            _typed(answer, "extra"),
            shim.bootstrap.address,
            shim.bootstrap.version,
        )

    async def shutdown(self, scope: Scope, id: str) -> None:
        shim = self._require(scope, id)
        try:
            await shim.call("ShutdownSandbox")
        except Unavailable:
            self._log.info("sandbox shim left by itself", id=id)
        except ContainerdError as e:
            raise type(e)(f"failed to shutdown sandbox {id}: {e}") from e
        await asyncio.shield(self._remove(shim, by_its_command=False))

    async def metrics(self, scope: Scope, id: str) -> tuple[int, TypedValue | None]:
        found = (await self._require(scope, id).call("SandboxMetrics")).metrics
        return _nanos(found.timestamp), _typed(found, "data")

    def bootstrap(self, namespace: str, id: str) -> Bootstrap:
        """Where the tasks of a sandbox's containers are served; NotFound."""
        shim = self._shims.get((namespace, id))
        if shim is None:
            raise NotFound(f"sandbox {quoted(id)}: not found")
        return shim.bootstrap

    async def load(self) -> None:
        """Finds the sandboxes that outlived the last daemon; cleans up what is left of those that didn't."""
        state = self._settings.state
        bundles = [
            Bundle(state, self._settings.root, namespace, id)
            for namespace in _visible_folders(state)
            for id in _visible_folders(f"{state}/{namespace}")
        ]
        await asyncio.gather(*(self._load_one(bundle) for bundle in bundles))

    async def close(self) -> None:
        """Lets go of all sandboxes, which live on."""
        self._closing = True
        for watcher in tuple(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for shim in self._shims.values():
            shim.close()

    def _require(self, scope: Scope, id: str) -> SandboxShim:
        shim = self._shims.get((scope.namespace, id))
        if shim is None:
            raise NotFound(f"unable to find sandbox {quoted(id)}: not found")
        return shim

    async def _start_shim(self, namespace: str, sandbox: Sandbox) -> SandboxShim:
        settings = self._settings
        for path in (settings.root, settings.state):
            files.make_dir(path, 0o711)
        bundle = Bundle(settings.state, settings.root, namespace, sandbox.id)
        path = binary.resolve(sandbox.runtime_name, settings.runtime_paths)
        spec = sandbox.spec.value if sandbox.spec is not None else b"{}"
        await self._pools.run("shims", bundle.create, spec)
        command = self._settings.command(bundle, path)
        log = ShimLog(f"{bundle.path}/log", self._settings.log_fd)
        try:
            bundle.write("shim-binary-path", path.encode())
            bootstrap = await self._starter.start(command, sandbox.runtime_options)
            bundle.write("bootstrap.json", bootstrap.dump())
            return SandboxShim(bundle, command, await Client.connect(bootstrap.address), bootstrap, log)
        except BaseException as e:
            log.close()
            await self._delete_bundle(bundle)
            if isinstance(e, ContainerdError):
                raise type(e)(f"failed to start new shim for sandbox {sandbox.id}: {e}", hint=e.hint) from e
            raise

    def _adopt(self, shim: SandboxShim) -> None:
        self._shims[shim.bundle.namespace, shim.bundle.id] = shim
        watcher = asyncio.ensure_future(self._watch(shim))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, shim: SandboxShim) -> None:
        """Cleans up after a shim that went away by itself."""
        await shim.client.closed.wait()
        if shim.removed or self._closing:
            return
        self._log.info("sandbox shim disconnected", id=shim.bundle.id)
        await self._clean_up_dead(shim.bundle, shim.command)
        self._forget(shim)

    async def _clean_up_dead(self, bundle: Bundle, command: ShimCommand) -> None:
        try:
            delete = partial(starter.run_delete, command)
            await starter.patiently(self._pools, self._log, delete, self._settings.cleanup_timeout_s)
        except (ContainerdError, OSError) as e:
            self._log.warning("failed to clean up after sandbox shim", id=bundle.id, error=str(e))
        await self._delete_bundle(bundle)

    async def _remove(self, shim: SandboxShim, *, by_its_command: bool = True) -> None:
        """Forgets a sandbox; one that did not end in order is taken away by the shim's own `delete`."""
        shim.removed = True
        self._forget(shim)
        if by_its_command:
            await self._clean_up_dead(shim.bundle, shim.command)
        else:
            await self._delete_bundle(shim.bundle)

    def _forget(self, shim: SandboxShim) -> None:
        key = (shim.bundle.namespace, shim.bundle.id)
        if self._shims.get(key) is shim:
            del self._shims[key]
        shim.close()

    async def _delete_bundle(self, bundle: Bundle) -> None:
        try:
            await self._pools.run("shims", bundle.delete)
        except (ContainerdError, OSError) as e:
            self._log.error("failed to delete bundle", id=bundle.id, error=str(e))

    async def _load_one(self, bundle: Bundle) -> None:
        path = bundle.read("shim-binary-path")
        if not path:
            await self._delete_bundle(bundle)
            return
        command = self._settings.command(bundle, path)
        try:
            shim = await self._reconnect(bundle, command)
        except (ContainerdError, OSError) as e:
            self._log.warning("sandbox shim did not answer after restart", id=bundle.id, error=str(e))
            await self._clean_up_dead(bundle, command)
            return
        self._adopt(shim)
        self._log.info("sandbox found again", id=bundle.id, namespace=bundle.namespace)

    async def _reconnect(self, bundle: Bundle, command: ShimCommand) -> SandboxShim:
        text = bundle.read("bootstrap.json")
        if not text:
            raise Unknown(f"no shim address in {bundle.path}")
        bootstrap = starter.parse_bootstrap(text.encode())
        log = ShimLog(f"{bundle.path}/log", self._settings.log_fd)
        try:
            client = await Client.connect(bootstrap.address, self._settings.load_timeout_s)
        except BaseException:
            log.close()
            raise
        shim = SandboxShim(bundle, command, client, bootstrap, log)
        try:
            await shim.call("PingSandbox", self._settings.load_timeout_s)
        except DeadlineExceeded:
            # Slow is not dead: its containers run all the while. When it dies, its watcher cleans up.
            self._log.warning("sandbox shim has not answered yet after restart", id=bundle.id)
        except BaseException:
            shim.close()
            raise
        return shim


def _visible_folders(path: str) -> list[str]:
    with suppress(FileNotFoundError), os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and e.name[0] != ".")
    return []


def _any(value: TypedValue | None) -> wkt.Any | None:
    return None if value is None else wkt.Any(type_url=value.type_url, value=value.value)


def _typed(message: Any, field: str) -> TypedValue | None:
    if not message.HasField(field):
        return None
    value = getattr(message, field)
    return TypedValue(value.type_url, value.value)


def _nanos(message: Any) -> int:
    return int(message.seconds) * 1_000_000_000 + int(message.nanos)
