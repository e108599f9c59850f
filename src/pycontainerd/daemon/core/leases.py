"""Leases: what keeps resources alive while nobody refers to them yet.

Spec: containerd leases/v1; labels containerd.io/gc.expire and containerd.io/gc.flat
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pycontainerd.daemon.core import filters
from pycontainerd.lib import digest
from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.scope import Scope


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease; `created_nanos` since 1970."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created_nanos: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """`type` is content, ingests, images or snapshots/SNAPSHOTTER; `id` a digest, an ingest ref, a name or a snapshot key."""

    type: str
    id: str


class LeaseManager(Protocol):
    """Blocking; raises errdefs."""

    def create(self, scope: Scope, lease: Lease) -> Lease:
        """AlreadyExists."""
        ...

    def delete(self, scope: Scope, id: str) -> None:
        """NotFound."""
        ...

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Lease]:
        """By id; InvalidArgument for a bad filter."""
        ...

    def add_resource(self, scope: Scope, id: str, resource: Resource) -> None:
        """NotFound, InvalidArgument."""
        ...

    def delete_resource(self, scope: Scope, id: str, resource: Resource) -> None:
        """NotFound for the lease; a resource that isn't there is fine."""
        ...

    def list_resources(self, scope: Scope, id: str) -> Sequence[Resource]:
        """NotFound."""
        ...


def require_valid_resource(resource: Resource) -> None:
    """Raises InvalidArgument or Unimplemented for a resource no lease can hold."""
    kind, _, rest = resource.type.partition("/")
    if kind in ("content", "ingests", "images"):
        if "/" in resource.type:
            raise InvalidArgument(f"invalid resource type {resource.type}: invalid argument")
        if kind == "content":
            try:
                digest.parse(resource.id)
            except InvalidArgument as e:
                reason = str(e).removesuffix(": invalid argument")
                raise InvalidArgument(
                    f"invalid content resource id {resource.id}: {reason}: invalid argument"
                ) from e
        return
    if kind == "snapshots":
        if "/" not in resource.type or "/" in rest:
            raise InvalidArgument(f"invalid snapshot resource type {resource.type}: invalid argument")
        return
    raise Unimplemented(f"resource type {resource.type} not supported yet: not implemented")


def adaptor(lease: Lease) -> filters.Adaptor:
    """The fields a filter can name."""

    def field_value(path: Sequence[str]) -> str | None:
        match tuple(path):
            case ("id",):
                return lease.id or None
            case ("labels", *rest):
                return filters.map_field(rest, lease.labels)
            case _:
                return None

    return field_value
