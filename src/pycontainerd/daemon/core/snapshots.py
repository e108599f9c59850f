"""Snapshots: layered root filesystems, handed out as mounts.

`Snapshotter` is a backend under plain keys; `Snapshots` is the same for one namespace at a time.

Spec: containerd snapshots/v1; lifecycle active -> committed, view read-only
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from pycontainerd.daemon.core import filters
from pycontainerd.daemon.core import labels as label
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.scope import Scope


class Kind(Enum):
    """Values are the wire's and the database's."""

    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3


@dataclass(frozen=True, slots=True)
class Info:
    """A snapshot; `name` is the key while it is active. Times are nanoseconds since 1970."""

    name: str
    kind: Kind = Kind.ACTIVE
    parent: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_nanos: int = 0
    updated_nanos: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a snapshot itself holds, without its parents."""

    inodes: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount(2) in containerd's words. Spec: containerd.types.Mount"""

    type: str
    source: str
    options: Sequence[str] = ()
    target: str = ""


class Snapshotter(Protocol):
    """A backend. Blocking; raises errdefs."""

    name: str
    is_local: (
        bool  # stat and mounts are answered from the daemon's own metadata: there is nothing to wait for
    )

    @property
    def capabilities(self) -> Sequence[str]:
        """What it can and others can't, in containerd's words."""
        ...

    def stat(self, key: str) -> Info: ...

    def update(self, info: Info, paths: Sequence[str]) -> Info: ...

    def usage(self, key: str) -> Usage: ...

    def mounts(self, key: str) -> Sequence[Mount]:
        """FailedPrecondition for a committed one."""
        ...

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]: ...

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]: ...

    def commit(
        self, name: str, key: str, labels: Mapping[str, str], usage: Usage | None = None, parent: str = ""
    ) -> None:
        """`usage` spares measuring again what the caller has just measured.

        `parent` is what a snapshot without one is put on: InvalidArgument for a snapshot with another one,
        Unimplemented where that can't be done.
        """
        ...

    def remove(self, key: str) -> None:
        """FailedPrecondition while it has children. Its directory goes now or with the next cleanup."""
        ...

    def walk(self) -> Sequence[Info]: ...

    def cleanup(self) -> None:
        """Removes directories nothing refers to."""
        ...


class Snapshots(Protocol):
    """One snapshotter as namespaces see it. Blocking; raises errdefs."""

    name: str
    is_local: bool  # as the backend's

    def stat(self, scope: Scope, key: str) -> Info: ...

    def update(self, scope: Scope, info: Info, paths: Sequence[str]) -> Info: ...

    def usage(self, scope: Scope, key: str) -> Usage: ...

    def mounts(self, scope: Scope, key: str) -> Sequence[Mount]: ...

    def prepare(self, scope: Scope, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]: ...

    def view(self, scope: Scope, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]: ...

    def commit(
        self, scope: Scope, name: str, key: str, labels: Mapping[str, str], parent: str = ""
    ) -> None: ...

    def remove(self, scope: Scope, key: str) -> None: ...

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Info]: ...

    def cleanup(self) -> None: ...


def updated(current: Info, wanted: Info, paths: Sequence[str]) -> Info:
    """`current` with the masked labels of `wanted`; without a mask, with all of them."""
    labels: Mapping[str, str] = current.labels if paths else label.stored(wanted.labels)
    for path in paths:
        if path.startswith("labels."):
            labels = label.with_path(labels, wanted.labels, path)
        elif path == "labels":
            labels = label.stored(wanted.labels)
        else:
            raise InvalidArgument(
                f"cannot update {quoted(path)} field on snapshot {quoted(wanted.name)}: invalid argument"
            )
    label.require_valid(labels, "info.Labels")
    return replace(current, labels=labels)


def adaptor(info: Info) -> filters.Adaptor:
    """The fields a filter can name."""

    def field_value(path: Sequence[str]) -> str | None:
        match tuple(path):
            case ("kind",):
                return info.kind.name.lower()
            case ("name",):
                return info.name
            case ("parent",):
                return info.parent
            case ("labels", *rest):
                return filters.map_field(rest, info.labels)
            case _:
                return None

    return field_value
