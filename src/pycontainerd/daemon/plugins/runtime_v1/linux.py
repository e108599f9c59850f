"""io.containerd.runtime.v1.linux: starts and finds again the shims of containerd 1.x's first runtime.

Spec: containerd 1.6 runtime/v1/linux, its configuration plugins."io.containerd.runtime.v1.linux"
"""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core.scope import Scope
from pycontainerd.daemon.plugins.runtime_v1.command import LinuxBundle, LinuxCommand
from pycontainerd.daemon.plugins.runtime_v1.task import LinuxShim
from pycontainerd.lib import launcher
from pycontainerd.lib.api.full import runc_v1, runctypes
from pycontainerd.lib.errdefs import (
    ContainerdError,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from pycontainerd.lib.ttrpc.aio import Client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.containers import ContainerStore
    from pycontainerd.daemon.core.tasks import CreateOptions
    from pycontainerd.daemon.core.typed import TypedValue
    from pycontainerd.daemon.plugins.runtime_v1.task import Publish
    from pycontainerd.daemon.plugins.runtime_v2.exits import ExitReports
    from pycontainerd.daemon.plugins.runtime_v2.runtime import Settings

NAME: Final = "io.containerd.runtime.v1.linux"
OWN_SHIM: Final = "containerd-shim-py"
_RUNC_OPTIONS: Final = "containerd.linux.runc.RuncOptions"
_CREATE_OPTIONS: Final = "containerd.linux.runc.CreateOptions"
_V2_OPTIONS: Final = "containerd.runc.v1.Options"
_DEFAULT_ROOT: Final = "/run/containerd/runc"


class LinuxRuntime:
    """Implements runtime_v2's TaskRuntime. `settings` has this runtime's own folders."""

    create_failed = ""

    def __init__(
        self,
        settings: Settings,
        options: Mapping[str, Any],
        containers: ContainerStore,
        pools: Pools,
        publish: Publish,
        exits: ExitReports,
    ) -> None:
        self.settings = settings
        self._options = options
        self._containers = containers
        self._pools = pools
        self._publish = publish
        self._exits = exits

    def bundle(self, namespace: str, id: str) -> LinuxBundle:
        """A task's folders."""
        return LinuxBundle(self.settings.state, self.settings.root, namespace, id)

    async def command(self, bundle: LinuxBundle) -> LinuxCommand:
        """By the configuration and the container's own runtime options; where its record is gone, by the first alone."""
        return await self._pools.run("metadata", self._command, bundle, "")

    def _command(self, bundle: LinuxBundle, cgroup: str) -> LinuxCommand:
        try:
            given = self._containers.get(Scope(bundle.namespace), bundle.id).runtime_options
        except NotFound:
            given = None
        runtime, root, criu, systemd = _runtime_options(given)
        return LinuxCommand(
            binary=self._shim(),
            bundle=bundle,
            address=self.settings.address,
            publish_binary=self.settings.publish_binary,
            runtime=runtime or self._options["runtime"],
            runtime_root=root or self._options["runtime_root"] or _DEFAULT_ROOT,
            criu=criu,
            systemd_cgroup=systemd,
            debug=self.settings.debug or self._options["shim_debug"],
            env=self.settings.env,
            cgroup=cgroup,
        )

    async def start(self, bundle: LinuxBundle, options: CreateOptions) -> LinuxShim:
        """A shim without a container."""
        if options.sandbox:
            raise Unimplemented(f"{NAME} has no sandboxes: not implemented")
        cgroup = _shim_cgroup(options.options)
        command = await self._pools.run("shims", self._command, bundle, cgroup)
        for path in bundle.log_paths:
            os.mkfifo(path, 0o700)
        pid = await self._pools.run("shims", command.start)
        try:
            _reap_at_end(pid)
            return await self._reach(command)
        except BaseException as e:
            await self._pools.run("shims", command.take_back, pid)
            if isinstance(e, ContainerdError):
                raise type(e)(f"shim {command.binary} does not answer: {e}") from e
            raise

    async def _reach(self, command: LinuxCommand) -> LinuxShim:
        """Connecting says little: the daemon's own socket takes it, whatever became of the shim."""
        client = await Client.connect(command.socket_address())
        shim = LinuxShim(command, client, self._publish, self._exits, self.settings.log_fd)
        try:
            await shim.shim_pid(self.settings.load_timeout_s)
        except BaseException:
            shim.close()
            raise
        return shim

    async def connect(self, bundle: LinuxBundle, command: LinuxCommand) -> LinuxShim:
        """A connection to the shim of an earlier daemon."""
        address = bundle.read("address")
        if not address:
            raise Unknown(f"no shim address in {bundle.path}")
        client = await Client.connect(address, self.settings.load_timeout_s)
        return LinuxShim(command, client, self._publish, self._exits, self.settings.log_fd)

    def _shim(self) -> str:
        wanted: str = self._options["shim"]
        if not wanted:
            return launcher.path(OWN_SHIM)
        found = shutil.which(wanted)
        if found is None:
            raise NotFound(
                f'exec: "{wanted}": executable file not found in $PATH: not found',
                hint=f"name the shim in plugins.'{NAME}'.shim, or leave it out for the daemon's own",
            )
        return os.path.abspath(found)


def _runtime_options(value: TypedValue | None) -> tuple[str, str, str, bool]:
    """(program, state folder, criu, systemd's cgroups) of a container's record; this runtime's type and the later one."""
    if value is None or not value.value:
        return "", "", "", False
    if value.type_url.endswith(_RUNC_OPTIONS):
        old = runctypes.RuncOptions.FromString(value.value)
        return old.runtime, old.runtime_root, old.criu_path, old.systemd_cgroup
    if value.type_url.endswith(_V2_OPTIONS):
        new = runc_v1.Options.FromString(value.value)
        return new.binary_name, new.root, new.criu_path, new.systemd_cgroup
    raise InvalidArgument(f"unsupported runtime options {value.type_url!r}, want {_RUNC_OPTIONS}")


def _shim_cgroup(value: TypedValue | None) -> str:
    """Where the shim itself is to be, of a Create's options."""
    if value is None or not value.type_url.endswith(_CREATE_OPTIONS):
        return ""
    given: str = runctypes.CreateOptions.FromString(value.value).shim_cgroup
    return given


def _reap_at_end(pid: int) -> None:
    """The daemon is the shim's parent: without this its end would leave a zombie."""
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(pid)

    def reap() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        os.waitpid(pid, os.WNOHANG)

    loop.add_reader(pidfd, reap)
