"""What a daemon is made of, as `ctr plugins ls` shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pycontainerd.daemon.core import filters
    from pycontainerd.daemon.core.typed import TypedValue


@dataclass(frozen=True, slots=True)
class Platform:
    """OCI os, architecture, variant. Spec: image-spec image-index.md#platform"""

    os: str
    architecture: str
    variant: str = ""


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin and how its start went; `error` is (gRPC code, message) when it did not load.

    `capabilities` may try something out, and so block, when it is called first.
    """

    type: str
    id: str
    requires: Sequence[str] = ()
    platforms: Sequence[Platform] = ()
    capabilities: Callable[[], Sequence[str]] | None = None
    exports: Mapping[str, str] = field(default_factory=dict)
    error: tuple[int, str] | None = None


class RuntimeInformer(Protocol):
    """Asks runtimes what they are."""

    async def runtime_info(self, runtime: str, options: TypedValue | None) -> bytes:
        """The bytes of a containerd.types.RuntimeInfo; raises errdefs."""
        ...


def adaptor(plugin: PluginInfo) -> filters.Adaptor:
    """The fields a filter can name."""

    def field_value(path: Sequence[str]) -> str | None:
        match tuple(path):
            case ("type",):
                return plugin.type
            case ("id",):
                return plugin.id
            case _:
                return None

    return field_value
