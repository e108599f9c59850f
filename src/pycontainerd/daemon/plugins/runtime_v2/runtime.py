"""How the shims of one generation come to life and are found again: the port, and the second generation's way.

Spec: containerd runtime v2 shim manager; docs/runtime-v2.md
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from pycontainerd.daemon.core.scope import Scope
from pycontainerd.daemon.plugins.runtime_v2 import binary, starter
from pycontainerd.daemon.plugins.runtime_v2.bundle import Bundle
from pycontainerd.daemon.plugins.runtime_v2.shim import Shim
from pycontainerd.daemon.plugins.runtime_v2.shim_log import ShimLog
from pycontainerd.daemon.plugins.runtime_v2.starter import ShimCommand
from pycontainerd.lib.errdefs import ContainerdError, Unknown
from pycontainerd.lib.ttrpc.aio import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.containers import ContainerStore
    from pycontainerd.daemon.core.tasks import CreateOptions, Exit
    from pycontainerd.daemon.plugins.runtime_v2.starter import Bootstrap, ShimStarter
    from pycontainerd.lib.log import Logger


@dataclass(frozen=True, slots=True)
class Settings:
    """Where tasks live, what their shims are told and where their logs go. Times are seconds."""

    state: str
    root: str
    address: str
    ttrpc_address: str
    publish_binary: str
    debug: bool = False
    env: Sequence[str] = ()
    runtime_paths: Mapping[str, str] = field(default_factory=dict)
    load_timeout_s: float = 5
    cleanup_timeout_s: float = 5
    shutdown_timeout_s: float = 3
    log_fd: int = 2

    def command(self, bundle: Bundle, path: str) -> ShimCommand:
        """The command line of a bundle's shim."""
        return ShimCommand(
            binary=path,
            namespace=bundle.namespace,
            id=bundle.id,
            bundle=bundle.path,
            address=self.address,
            ttrpc_address=self.ttrpc_address,
            publish_binary=self.publish_binary,
            debug=self.debug,
            env=self.env,
        )


class Command(Protocol):
    """What a shim was started by, as far as what it leaves needs it."""

    def clean_up(self, timeout_s: float) -> tuple[Exit, str]:
        """What a shim that died has left; how the task ended, and warnings. Blocking; raises errdefs."""
        ...


OwnBundle = TypeVar("OwnBundle", bound=Bundle)
OwnCommand = TypeVar("OwnCommand", bound=Command)


class TaskRuntime(Protocol[OwnBundle, OwnCommand]):
    """One generation of shims. Async; raises errdefs. `create_failed` begins the text of a Create that failed."""

    settings: Settings
    create_failed: str

    def bundle(self, namespace: str, id: str) -> OwnBundle:
        """A task's folders."""
        ...

    async def start(self, bundle: OwnBundle, options: CreateOptions) -> Shim:
        """A shim without a container, in a bundle that is there."""
        ...

    async def command(self, bundle: OwnBundle) -> OwnCommand:
        """What an earlier daemon started the bundle's shim by."""
        ...

    async def connect(self, bundle: OwnBundle, command: OwnCommand) -> Shim:
        """A connection to the shim of an earlier daemon."""
        ...


class ShimRuntime:
    """Implements TaskRuntime for runtime v2."""

    create_failed = "failed to create shim task: "

    def __init__(
        self, settings: Settings, start: ShimStarter, containers: ContainerStore, pools: Pools, log: Logger
    ) -> None:
        self.settings = settings
        self._starter = start
        self._containers = containers
        self._pools = pools
        self._log = log
        # Where a sandbox's shim serves tasks; set where there is a controller of sandboxes.
        self.sandbox_bootstrap: Callable[[str, str], Bootstrap] | None = None

    def bundle(self, namespace: str, id: str) -> Bundle:
        return Bundle(self.settings.state, self.settings.root, namespace, id)

    async def start(self, bundle: Bundle, options: CreateOptions) -> Shim:
        path = binary.resolve(options.runtime, self.settings.runtime_paths)
        command = self.settings.command(bundle, path)
        shim_log = ShimLog(f"{bundle.path}/log", self.settings.log_fd)
        try:
            # Written before the shim exists: a daemon that dies now finds whom to ask to clean up.
            bundle.write("shim-binary-path", path.encode())
            self._log.debug("starting shim", id=bundle.id, namespace=bundle.namespace, binary=path)
            try:
                bootstrap = await self._bootstrap(bundle, command, options)
            except ContainerdError as e:
                raise type(e)(f"start failed: {e}", hint=e.hint) from e
            bundle.write("bootstrap.json", bootstrap.dump())
            client = await Client.connect(bootstrap.address)
        except BaseException:
            shim_log.close()
            raise
        return Shim(bundle, command, client, bootstrap.version, shim_log)

    async def _bootstrap(self, bundle: Bundle, command: ShimCommand, options: CreateOptions) -> Bootstrap:
        """A shim of its own, or the sandbox's that is there."""
        if options.sandbox and self.sandbox_bootstrap is not None:
            bootstrap = self.sandbox_bootstrap(bundle.namespace, options.sandbox)
            bundle.write("sandbox", options.sandbox.encode())
            return bootstrap
        return await self._starter.start(command, options.options)

    async def command(self, bundle: Bundle) -> ShimCommand:
        path = bundle.read("shim-binary-path")
        if not path:
            scope = Scope(bundle.namespace)
            container = await self._pools.run("metadata", self._containers.get, scope, bundle.id)
            path = container.runtime_name
        return self.settings.command(bundle, binary.resolve(path, self.settings.runtime_paths))

    async def connect(self, bundle: Bundle, command: ShimCommand) -> Shim:
        bootstrap = _read_bootstrap(bundle)
        shim_log = ShimLog(f"{bundle.path}/log", self.settings.log_fd)
        try:
            client = await Client.connect(bootstrap.address, self.settings.load_timeout_s)
        except BaseException:
            shim_log.close()
            raise
        return Shim(bundle, command, client, bootstrap.version, shim_log)


def _read_bootstrap(bundle: Bundle) -> Bootstrap:
    """What the shim answered when it was started: bootstrap.json, or the address file of 1.x shims."""
    text = bundle.read("bootstrap.json") or bundle.read("address")
    if not text:
        raise Unknown(f"no shim address in {bundle.path}")
    return starter.parse_bootstrap(text.encode())
