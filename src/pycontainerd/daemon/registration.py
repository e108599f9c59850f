"""Plugins in general: what one is started with, what is known of it, and how all of them are started.

Spec: containerd docs/PLUGINS.md
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pycontainerd.daemon.core.plugins import Platform, PluginInfo
from pycontainerd.daemon.plugins.metadata_sqlite.snapshots import SqliteSnapshots
from pycontainerd.lib.errdefs import ContainerdError, FailedPrecondition, to_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pycontainerd.daemon.config import Config
    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.lib.api.codec import Service
    from pycontainerd.lib.log import Logger

_OS_ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@dataclass(slots=True)
class Context:
    """What plugins are started with, and what has been started so far."""

    config: Config
    log: Logger
    pools: Pools
    launcher: str
    instances: dict[str, Any] = field(default_factory=dict)
    infos: list[PluginInfo] = field(default_factory=list)
    services: list[tuple[Service, object]] = field(default_factory=list)
    on_stop: list[Callable[[], None]] = field(default_factory=list)
    failures: dict[str, ContainerdError | OSError] = field(default_factory=dict)

    def require(self, uri: str) -> None:
        """For what no daemon can be without: why it could not be started is raised again, and not what lacks it then."""
        if uri in self.failures:
            raise self.failures[uri]
        self.get(uri)

    def get(self, uri: str) -> Any:
        """The instance of a started plugin; FailedPrecondition names one that isn't there."""
        if uri not in self.instances:
            raise FailedPrecondition(f"no plugins registered for {uri}: failed precondition")
        return self.instances[uri]

    def snapshotters(self) -> Mapping[str, SqliteSnapshots]:
        """Every snapshotter that started, as namespaces see it."""
        return {s.name: s for s in self.instances.values() if isinstance(s, SqliteSnapshots)}

    def root(self, uri: str) -> str:
        """A plugin's folder below the daemon's root."""
        return f"{self.config.root}/{uri}"

    def settings(self, uri: str) -> dict[str, Any]:
        """A plugin's settings."""
        return self.config.plugins[uri]


class Registration(NamedTuple):
    """`start` returns the instance; a (Service, implementation) pair is served."""

    uri: str
    start: Callable[[Context], Any]
    requires: tuple[str, ...] = ()
    has_platform: bool = False
    platforms: tuple[Platform, ...] = ()
    capabilities: Callable[[Context], Callable[[], Sequence[str]]] | None = None
    exports: Callable[[Context], Mapping[str, str]] | None = None

    @property
    def type(self) -> str:
        return self.uri.rpartition(".")[0]

    @property
    def id(self) -> str:
        return self.uri.rpartition(".")[2]


def start_all(context: Context, registrations: tuple[Registration, ...]) -> None:
    """Starts plugins in the order given; raises only when a required one fails."""
    disabled = set(context.config.disabled_plugins)
    required = set(context.config.required_plugins)
    for registration in registrations:
        uri = registration.uri
        if uri in disabled:
            continue
        context.log.info(f'loading plugin "{uri}"...', type=registration.type)
        error: tuple[int, str] | None = None
        try:
            instance = registration.start(context)
        except (ContainerdError, OSError) as e:
            error = to_status(e)
            context.failures[uri] = e
            context.log.warning(f"failed to load plugin {uri}", error=str(e))
            if uri in required:
                raise FailedPrecondition(f"load required plugin {uri}: {e}") from e
        else:
            context.instances[uri] = instance
            if isinstance(instance, tuple):
                context.services.append(instance)
        context.infos.append(_info(context, registration, error))
    missing = required - context.instances.keys()
    if missing:
        raise FailedPrecondition(f"required plugins {sorted(missing)} are not included")


def _info(context: Context, registration: Registration, error: tuple[int, str] | None) -> PluginInfo:
    platforms = registration.platforms or ((host_platform(),) if registration.has_platform else ())
    return PluginInfo(
        registration.type,
        registration.id,
        registration.requires,
        platforms,
        registration.capabilities(context) if registration.capabilities and error is None else None,
        registration.exports(context) if registration.exports else {},
        error,
    )


def host_platform() -> Platform:
    """The platform containers run on here."""
    machine = platform.machine()
    return Platform("linux", _OS_ARCHITECTURE.get(machine, machine))
