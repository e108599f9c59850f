"""Sandbox records: what groups of containers share, for runtimes that make pods of them.

Spec: containerd services/sandbox/v1 (Store), core/sandbox
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from pycontainerd.daemon.core import filters
from pycontainerd.daemon.core import labels as label
from pycontainerd.lib import identifiers
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.plugins import Platform
    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.snapshots import Mount
    from pycontainerd.daemon.core.tasks import Exit
    from pycontainerd.daemon.core.typed import TypedValue

_FULL_UPDATE: Final = ("labels", "extensions", "spec", "runtime")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox's metadata. Times are nanoseconds since 1970."""

    id: str
    runtime_name: str = ""
    runtime_options: TypedValue | None = None
    spec: TypedValue | None = None
    sandboxer: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, TypedValue] = field(default_factory=dict)
    created_nanos: int = 0
    updated_nanos: int = 0


class SandboxStore(Protocol):
    """Blocking; raises errdefs."""

    def get(self, scope: Scope, id: str) -> Sandbox:
        """NotFound."""
        ...

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Sandbox]:
        """By id; InvalidArgument for a bad filter."""
        ...

    def create(self, scope: Scope, sandbox: Sandbox) -> Sandbox:
        """AlreadyExists, InvalidArgument."""
        ...

    def update(self, scope: Scope, sandbox: Sandbox, paths: Sequence[str]) -> Sandbox:
        """NotFound, InvalidArgument."""
        ...

    def delete(self, scope: Scope, id: str) -> None:
        """NotFound."""
        ...


def require_valid(sandbox: Sandbox) -> None:
    """Raises InvalidArgument for an id that is none."""
    try:
        identifiers.require_valid(sandbox.id)
    except ContainerdError as e:
        raise type(e)(f"invalid sandbox ID: {e}") from e
    label.require_valid(sandbox.labels, "sandbox.Labels")


def updated(current: Sandbox, wanted: Sandbox, paths: Sequence[str]) -> Sandbox:
    """`current` with the named fields of `wanted`; without names, with every mutable field."""
    if not paths:
        if current.runtime_name != wanted.runtime_name:
            raise InvalidArgument("sandbox.Runtime.Name field is immutable: invalid argument")
        paths = _FULL_UPDATE
    result = current
    for path in paths:
        result = _with_path(result, wanted, path)
    return result


def _with_path(current: Sandbox, wanted: Sandbox, path: str) -> Sandbox:
    head, _, key = path.partition(".")
    match head, bool(key):
        case "labels", True:
            return replace(current, labels=label.with_path(current.labels, wanted.labels, path))
        case "extensions", True:
            extensions = {name: value for name, value in current.extensions.items() if name != key}
            if key in wanted.extensions:
                extensions[key] = wanted.extensions[key]
            return replace(current, extensions=extensions)
        case "labels", False:
            return replace(current, labels=label.stored(wanted.labels))
        case "extensions", False:
            return replace(current, extensions=wanted.extensions)
        case "spec", False:
            return replace(current, spec=wanted.spec)
        case "runtime", False:
            return replace(current, runtime_name=wanted.runtime_name, runtime_options=wanted.runtime_options)
        case _:
            raise InvalidArgument(
                f"cannot update {quoted(path)} field on sandbox {quoted(current.id)}: invalid argument"
            )


def adaptor(sandbox: Sandbox) -> filters.Adaptor:
    """The fields a filter can name."""

    def field_value(path: Sequence[str]) -> str | None:
        match tuple(path):
            case ("id",):
                return sandbox.id
            case ("runtime", "name"):
                return sandbox.runtime_name or None
            case ("sandboxer",):
                return sandbox.sandboxer or None
            case ("labels", *rest):
                return filters.map_field(rest, sandbox.labels)
            case _:
                return None

    return field_value


@dataclass(frozen=True, slots=True)
class Started:
    """A sandbox that runs. `address` and `version` are those of the task API it serves for its containers."""

    pid: int
    created_nanos: int
    address: str
    version: int
    spec: TypedValue | None = None


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """What a sandbox says about itself. Times are nanoseconds since 1970, 0 for never."""

    pid: int
    state: str
    info: Mapping[str, str] = field(default_factory=dict)
    created_nanos: int = 0
    exited_nanos: int = 0
    extra: TypedValue | None = None
    address: str = ""
    version: int = 0


class Controller(Protocol):
    """Runs sandboxes. Async; raises errdefs, NotFound for a sandbox that isn't there."""

    async def create(
        self,
        scope: Scope,
        sandbox: Sandbox,
        rootfs: Sequence[Mount],
        options: TypedValue | None,
        netns_path: str,
        annotations: Mapping[str, str],
    ) -> None:
        """AlreadyExists for one that is there."""
        ...

    async def start(self, scope: Scope, id: str) -> Started: ...

    async def platform(self, scope: Scope, id: str) -> Platform: ...

    async def stop(self, scope: Scope, id: str, timeout_s: int) -> None: ...

    async def wait(self, scope: Scope, id: str) -> Exit: ...

    async def status(self, scope: Scope, id: str, *, verbose: bool) -> SandboxStatus: ...

    async def shutdown(self, scope: Scope, id: str) -> None:
        """Ends it and removes what is left of it."""
        ...

    async def metrics(self, scope: Scope, id: str) -> tuple[int, TypedValue | None]:
        """When they were taken, nanoseconds since 1970, and what they are."""
        ...
