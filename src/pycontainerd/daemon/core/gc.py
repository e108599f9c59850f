"""What may be garbage collected: nodes, the labels that are edges, and the mark phase.

    roots: leases (unless expired) and what they hold, images, containers, gc.root labels, unexpired ingests
    edges: labels containerd.io/gc.ref.{content,image,mount}[.x|/x] and containerd.io/gc.ref.snapshot.SNAPSHOTTER[/x],
           a snapshot's parent, a shared ingest's expected blob; and, from what a label names to what has the label,
           containerd.io/gc.bref.{container,content,image}[.x|/x] and containerd.io/gc.bref.snapshot.SNAPSHOTTER[/x]
    edges while they hold: containerd.io/gc.cond.snapshot.SNAPSHOTTER[/x] = CONDITION[,CONDITION...]|KEY of content and
           images, to a snapshot whose containerd.io/gc.cond.value-usedat one of the conditions is true of:
           usedat<DURATION (used not longer ago than that) or usedat>DURATION

Spec: containerd docs/garbage-collection.md, core/metadata (gc.cond, since 2.3)
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from pycontainerd.lib.duration import parse_nanos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

LABEL_ROOT: Final = "containerd.io/gc.root"
LABEL_EXPIRE: Final = "containerd.io/gc.expire"
LABEL_FLAT: Final = "containerd.io/gc.flat"
LABEL_USED: Final = "containerd.io/gc.cond.value-usedat"


class Resource(Enum):
    """FLAT kinds are held by a flat lease: their labels are not followed."""

    CONTENT = "content"
    CONTENT_FLAT = "content-flat"
    SNAPSHOT = "snapshot"
    SNAPSHOT_FLAT = "snapshot-flat"
    INGEST = "ingest"
    LEASE = "lease"
    IMAGE = "image"
    IMAGE_FLAT = "image-flat"
    CONTAINER = "container"
    MOUNT = "mount"


class Node(NamedTuple):
    """`key` is a digest, SNAPSHOTTER/KEY, an ingest ref, a lease id, or the name of an image, container or activation."""

    resource: Resource
    namespace: str
    key: str


_PREFIX: Final = "containerd.io/gc."
_CONDITIONAL: Final = "containerd.io/gc.cond.snapshot"
_REFERENCES: Final = {
    "containerd.io/gc.ref.content": Resource.CONTENT,
    "containerd.io/gc.ref.image": Resource.IMAGE,
    "containerd.io/gc.ref.mount": Resource.MOUNT,
    "containerd.io/gc.ref.snapshot.": Resource.SNAPSHOT,
}
_BACK_REFERENCES: Final = {
    "containerd.io/gc.bref.container": Resource.CONTAINER,
    "containerd.io/gc.bref.content": Resource.CONTENT,
    "containerd.io/gc.bref.image": Resource.IMAGE,
    "containerd.io/gc.bref.snapshot.": Resource.SNAPSHOT,
}


def label_edges(namespace: str, labels: Mapping[str, str]) -> Iterator[Node]:
    """The nodes that an object's labels keep alive."""
    return _named(_REFERENCES, namespace, labels)


def label_back_edges(namespace: str, labels: Mapping[str, str]) -> Iterator[Node]:
    """The nodes that keep an object alive because its labels name them."""
    return _named(_BACK_REFERENCES, namespace, labels)


class Condition(NamedTuple):
    """An edge to a snapshot, `when` the time it was used last is further back than `nanos` ("<": less far)."""

    node: Node
    when: str
    nanos: int

    def holds(self, labels: Mapping[str, str], now_nanos: int) -> bool:
        """Of a snapshot with these labels; one that doesn't say when it was used is kept by no condition."""
        used = _time_nanos(labels.get(LABEL_USED, ""))
        if used is None:
            return False
        return now_nanos - used < self.nanos if self.when == "<" else now_nanos - used > self.nanos


def label_conditions(namespace: str, labels: Mapping[str, str]) -> Iterator[Condition]:
    """The conditional edges of an object's labels, each condition for itself; what isn't understood is none."""
    for key, value in labels.items():
        if not key.startswith(_CONDITIONAL):
            continue
        snapshotter = key.removeprefix(_CONDITIONAL).lstrip("./").partition("/")[0]
        conditions, bar, snapshot = value.partition("|")
        for condition in conditions.split(",") if bar else ():
            name, when, text = condition[:6], condition[6:7], condition[7:]
            nanos = parse_nanos(text)
            if name == "usedat" and when in ("<", ">") and nanos is not None:
                yield Condition(Node(Resource.SNAPSHOT, namespace, f"{snapshotter}/{snapshot}"), when, nanos)


def _named(known: Mapping[str, Resource], namespace: str, labels: Mapping[str, str]) -> Iterator[Node]:
    for key, value in labels.items():
        if not key.startswith(_PREFIX):  # most are somebody else's
            continue
        for label, resource in known.items():
            if not key.startswith(label):
                continue
            rest = key.removeprefix(label)
            if resource is Resource.SNAPSHOT:
                yield Node(resource, namespace, f"{rest.partition('/')[0]}/{value}")
            elif not rest or rest[0] in "./":
                yield Node(resource, namespace, value)


def has_expired(labels: Mapping[str, str], now_nanos: int) -> bool:
    """Whether gc.expire lies in the past. A value that is no RFC 3339 time never expires."""
    when = _time_nanos(labels.get(LABEL_EXPIRE, ""))
    return when is not None and when < now_nanos


def _time_nanos(value: str) -> int | None:
    """Nanoseconds since 1970 of an RFC 3339 time; None for anything else."""
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return None
    return None if when.tzinfo is None else int(when.timestamp() * 1e9)


def mark(roots: Iterable[Node], references: Callable[[Node], Iterable[Node]]) -> set[Node]:
    """Everything reachable. Flat and plain nodes of one object count as the same object in the sweep."""
    seen: set[Node] = set()
    grey = list(roots)
    while grey:
        node = grey.pop()
        if node in seen:
            continue
        seen.add(node)
        grey.extend(references(node))
    return {_plain(node) for node in seen}


def _plain(node: Node) -> Node:
    match node.resource:
        case Resource.CONTENT_FLAT:
            return node._replace(resource=Resource.CONTENT)
        case Resource.SNAPSHOT_FLAT:
            return node._replace(resource=Resource.SNAPSHOT)
        case Resource.IMAGE_FLAT:
            return node._replace(resource=Resource.IMAGE)
        case _:
            return node
