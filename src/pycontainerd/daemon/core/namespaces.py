"""Namespaces: named worlds with labels. They come into being with their first object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and its labels (defaults for runtime and snapshotter among them)."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


class NamespaceStore(Protocol):
    """Blocking; raises errdefs."""

    def get(self, name: str) -> Namespace:
        """The labels of a namespace; an unknown one has none, as in containerd."""
        ...

    def list(self) -> Sequence[Namespace]:
        """All, by name."""
        ...

    def create(self, namespace: Namespace) -> None:
        """AlreadyExists, InvalidArgument."""
        ...

    def update(self, namespace: Namespace, paths: Sequence[str]) -> None:
        """Sets all labels, or those of the mask; an empty value removes a label."""
        ...

    def delete(self, name: str) -> None:
        """FailedPrecondition while it holds images, blobs, containers or snapshots."""
        ...
