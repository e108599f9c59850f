"""Activations: a named list of mounts, of which the daemon makes those that a runtime can't, and hands on the rest.

A mount's type is [TRANSFORMER/...]KIND. Transformers fill in a mount from those before it or prepare what it needs;
a kind with a handler isn't for mount(2). The daemon makes every mount up to the last that needs either of them: what
comes after is the system's, the first of it transformed. What a runtime says it handles itself needs nobody here:
`TRANSFORMER/*`, a kind with a handler, or a whole type.

Spec: containerd services/mounts/v1, docs/mounts.md
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from pycontainerd.daemon.core import filters
from pycontainerd.lib.errdefs import Unimplemented, Unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.snapshots import Mount

TRANSFORMERS: Final = ("format", "mkdir", "mkfs")
HANDLED: Final = ("loop",)
MAX_MOUNTS: Final = 255  # containerd numbers them with a byte


@dataclass(frozen=True, slots=True)
class ActiveMount:
    """A mount the daemon has made. `mounted_nanos` since 1970."""

    mount: Mount
    mount_point: str
    mounted_nanos: int


@dataclass(frozen=True, slots=True)
class Activation:
    """`active` is mounted, `system` is left to whoever sets the container up."""

    name: str
    active: Sequence[ActiveMount] = ()
    system: Sequence[Mount] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


class MountManager(Protocol):
    """Blocking; raises errdefs."""

    def activate(
        self,
        scope: Scope,
        name: str,
        mounts: Sequence[Mount],
        labels: Mapping[str, str],
        *,
        temporary: bool,
        allowed: Collection[str] = (),
    ) -> Activation:
        """AlreadyExists; Unimplemented when none of the mounts needs the daemon. `temporary`: all of them are made.

        `allowed` is what whoever gets the rest handles itself.
        """
        ...

    def deactivate(self, scope: Scope, name: str) -> None:
        """NotFound."""
        ...

    def info(self, scope: Scope, name: str) -> Activation:
        """NotFound."""
        ...

    def update(self, scope: Scope, activation: Activation, paths: Sequence[str]) -> Activation:
        """Unimplemented, as in containerd."""
        ...

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Activation]:
        """By name; InvalidArgument for a bad filter."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One mount: the transformers it goes through, in order, and what its type is afterwards."""

    mount: Mount
    transformers: Sequence[str]
    kind: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`made` are the daemon's to make; `system` are not, and only the first of them is transformed."""

    made: Sequence[Step]
    system: Sequence[Step]


def plan(mounts: Sequence[Mount], *, temporary: bool, allowed: Collection[str] = ()) -> Plan:
    """Who makes which mount; Unimplemented when the daemon is needed for none, Unknown for too many."""
    steps = [_step(mount) for mount in mounts]
    first_system = -1
    for index, step in enumerate(steps):
        if temporary or (step.kind in HANDLED and step.kind not in allowed):
            first_system = index + 1
        elif any(f"{t}/*" not in allowed and step.mount.type not in allowed for t in step.transformers):
            first_system = index
    if first_system < 0:
        raise Unimplemented("not implemented")
    if len(steps) > MAX_MOUNTS:
        raise Unknown(f"too many mounts ({len(steps)}): maximum {MAX_MOUNTS}")
    return Plan(steps[:first_system], steps[first_system:])


def _step(mount: Mount) -> Step:
    transformers: list[str] = []
    kind = mount.type
    while "/" in kind and kind.partition("/")[0] in TRANSFORMERS:
        transformer, _, kind = kind.partition("/")
        transformers.append(transformer)
    return Step(mount, transformers, kind)


def adaptor(activation: Activation) -> filters.Adaptor:
    """The fields a filter can name."""

    def field_value(path: Sequence[str]) -> str | None:
        match tuple(path):
            case ("name",):
                return activation.name
            case ("labels", *rest):
                return filters.map_field(rest, activation.labels)
            case _:
                return None

    return field_value
