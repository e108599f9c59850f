"""What may be garbage collected: nodes, the labels that are edges, and the mark phase.

    roots: leases (unless expired) and what they hold, images, containers, gc.root labels, unexpired ingests
    edges: containerd.io/gc.ref.content[.x|/x] and containerd.io/gc.ref.snapshot.SNAPSHOTTER[/x] labels,
           a snapshot's parent, a shared ingest's expected blob

Spec: containerd docs/garbage-collection.md
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

LABEL_ROOT: Final = "containerd.io/gc.root"
LABEL_CONTENT_REF: Final = "containerd.io/gc.ref.content"
LABEL_SNAPSHOT_REF: Final = "containerd.io/gc.ref.snapshot."
LABEL_IMAGE_REF: Final = "containerd.io/gc.ref.image"
LABEL_EXPIRE: Final = "containerd.io/gc.expire"
LABEL_FLAT: Final = "containerd.io/gc.flat"


class Resource(Enum):
    """FLAT kinds are held by a flat lease: their labels are not followed."""

    CONTENT = "content"
    CONTENT_FLAT = "content-flat"
    SNAPSHOT = "snapshot"
    SNAPSHOT_FLAT = "snapshot-flat"
    INGEST = "ingest"
    LEASE = "lease"
    IMAGE = "image"


class Node(NamedTuple):
    """`key` is a digest, SNAPSHOTTER/KEY, an ingest ref, a lease id or an image name."""

    resource: Resource
    namespace: str
    key: str


def label_edges(namespace: str, labels: Mapping[str, str]) -> Iterator[Node]:
    """The nodes that an object's labels keep alive."""
    for key, value in labels.items():
        if key == LABEL_CONTENT_REF or key.startswith((LABEL_CONTENT_REF + ".", LABEL_CONTENT_REF + "/")):
            yield Node(Resource.CONTENT, namespace, value)
        elif key.startswith(LABEL_SNAPSHOT_REF):
            snapshotter = key.removeprefix(LABEL_SNAPSHOT_REF).partition("/")[0]
            yield Node(Resource.SNAPSHOT, namespace, f"{snapshotter}/{value}")
        elif key == LABEL_IMAGE_REF or key.startswith((LABEL_IMAGE_REF + ".", LABEL_IMAGE_REF + "/")):
            yield Node(Resource.IMAGE, namespace, value)


def has_expired(labels: Mapping[str, str], now_nanos: int) -> bool:
    """Whether gc.expire lies in the past. A value that is no RFC 3339 time never expires."""
    value = labels.get(LABEL_EXPIRE)
    if value is None:
        return False
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return False
    return when.tzinfo is not None and when.timestamp() * 1e9 < now_nanos


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
        case _:
            return node
