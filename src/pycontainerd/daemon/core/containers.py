"""Container records: what is to run, not what runs.

Spec: containerd containers/v1; docs in containerd containers.Store
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from pycontainerd.daemon.core import filters
from pycontainerd.daemon.core import labels as label
from pycontainerd.lib import identifiers
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.typed import TypedValue


@dataclass(frozen=True, slots=True)
class Container:
    """A container's metadata. Times are nanoseconds since 1970."""

    id: str
    image: str = ""
    runtime_name: str = ""
    runtime_options: TypedValue | None = None
    spec: TypedValue | None = None
    snapshotter: str = ""
    snapshot_key: str = ""
    sandbox: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, TypedValue] = field(default_factory=dict)
    created_nanos: int = 0
    updated_nanos: int = 0


_FULL_UPDATE = ("labels", "spec", "extensions", "image", "snapshotkey")


class ContainerStore(Protocol):
    """Blocking; raises errdefs."""

    def get(self, scope: Scope, id: str) -> Container:
        """NotFound."""
        ...

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Container]:
        """By id; InvalidArgument for a bad filter."""
        ...

    def create(self, scope: Scope, container: Container) -> Container:
        """AlreadyExists, InvalidArgument."""
        ...

    def update(self, scope: Scope, container: Container, paths: Sequence[str]) -> Container:
        """NotFound, InvalidArgument."""
        ...

    def delete(self, scope: Scope, id: str) -> None:
        """NotFound."""
        ...


def require_valid(container: Container) -> None:
    """Raises InvalidArgument for a record that could not be run."""
    try:
        identifiers.require_valid(container.id)
    except ContainerdError as e:
        raise type(e)(f"container.ID: {e}") from e
    if "" in container.extensions:
        raise InvalidArgument("container.Extension keys must not be zero-length: invalid argument")
    label.require_valid(container.labels, "containers.Labels")
    if not container.runtime_name:
        raise InvalidArgument("container.Runtime.Name must be set: invalid argument")
    if container.spec is None:
        raise InvalidArgument("container.Spec must be set: invalid argument")
    if container.snapshot_key and not container.snapshotter:
        raise InvalidArgument(
            "container.Snapshotter must be set if container.SnapshotKey is set: invalid argument"
        )


def updated(current: Container, wanted: Container, paths: Sequence[str]) -> Container:
    """`current` with the masked fields of `wanted`; without a mask, with every mutable field."""
    if not paths:
        if current.snapshotter != wanted.snapshotter:
            raise InvalidArgument("container.Snapshotter field is immutable: invalid argument")
        if current.runtime_name != wanted.runtime_name:
            raise InvalidArgument("container.Runtime.Name field is immutable: invalid argument")
        paths = _FULL_UPDATE
    result = current
    for path in paths:
        result = _with_path(result, wanted, path)
    return result


def _with_path(current: Container, wanted: Container, path: str) -> Container:
    head, _, key = path.partition(".")
    match head, bool(key):
        case "labels", True:
            return replace(current, labels=label.with_path(current.labels, wanted.labels, path))
        case "extensions", True:
            extensions = {**current.extensions}
            if key in wanted.extensions:
                extensions[key] = wanted.extensions[key]
            return replace(current, extensions=extensions)
        case "labels", False:
            return replace(current, labels=label.stored(wanted.labels))
        case "spec", False:
            return replace(current, spec=wanted.spec)
        case "extensions", False:
            return replace(current, extensions=wanted.extensions)
        case "image", False:
            return replace(current, image=wanted.image)
        case "snapshotkey", False:
            return replace(current, snapshot_key=wanted.snapshot_key)
        case _:
            raise InvalidArgument(
                f"cannot update {quoted(path)} field on {quoted(current.id)}: invalid argument"
            )


def adaptor(container: Container) -> filters.Adaptor:
    """The fields a filter can name."""

    def field_value(path: Sequence[str]) -> str | None:
        match tuple(path):
            case ("id",):
                return container.id or None
            case ("runtime", "name"):
                return container.runtime_name or None
            case ("image",):
                return container.image or None
            case ("labels", *rest):
                return filters.map_field(rest, container.labels)
            case _:
                return None

    return field_value
