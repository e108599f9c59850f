"""Snapshots: the file systems of containers and the layers under them.

Spec: containerd snapshots service
"""

from __future__ import annotations

from pycontainerd.lib import errdefs
from pycontainerd.lib.api.light import snapshots_v1, wkt
from pycontainerd.lib.identifiers import quoted

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from pycontainerd.client.client import Client, Reply
    from pycontainerd.lib.api.light import types

DEFAULT: Final = "overlayfs"


def prepare(
    client: Client, snapshotter: str, key: str, parent: str = "", labels: Mapping[str, str] | None = None
) -> list[types.Mount]:
    """A writable snapshot on a committed parent; AlreadyExists for a key in use."""
    reply: snapshots_v1.PrepareSnapshotResponse = client.call(
        snapshots_v1.SNAPSHOTS,
        "Prepare",
        snapshots_v1.PrepareSnapshotRequest(
            snapshotter=snapshotter, key=key, parent=parent, labels=dict(labels or {})
        ),
    )
    return list(reply.mounts)


def view(
    client: Client, snapshotter: str, key: str, parent: str = "", labels: Mapping[str, str] | None = None
) -> list[types.Mount]:
    """A read-only snapshot on a committed parent."""
    reply: snapshots_v1.ViewSnapshotResponse = client.call(
        snapshots_v1.SNAPSHOTS,
        "View",
        snapshots_v1.ViewSnapshotRequest(
            snapshotter=snapshotter, key=key, parent=parent, labels=dict(labels or {})
        ),
    )
    return list(reply.mounts)


def commit(
    client: Client, snapshotter: str, name: str, key: str, labels: Mapping[str, str] | None = None
) -> None:
    """Turns an active snapshot into a committed one."""
    client.call(
        snapshots_v1.SNAPSHOTS,
        "Commit",
        snapshots_v1.CommitSnapshotRequest(
            snapshotter=snapshotter, name=name, key=key, labels=dict(labels or {})
        ),
    )


def mounts(client: Client, snapshotter: str, key: str) -> list[types.Mount]:
    """What to mount for an active snapshot or a view."""
    reply: snapshots_v1.MountsResponse = client.call(
        snapshots_v1.SNAPSHOTS, "Mounts", snapshots_v1.MountsRequest(snapshotter=snapshotter, key=key)
    )
    return list(reply.mounts)


def capabilities(client: Client, snapshotter: str) -> list[str]:
    """What a snapshotter can and others can't, in containerd's words; NotFound for one the daemon doesn't have."""
    from pycontainerd.lib.api.light import introspection_v1

    request = introspection_v1.PluginsRequest(
        filters=[f"type==io.containerd.snapshotter.v1,id=={quoted(snapshotter)}"]
    )
    reply: introspection_v1.PluginsResponse = client.call(introspection_v1.INTROSPECTION, "Plugins", request)
    if not reply.plugins:
        raise errdefs.NotFound(
            f"snapshotter {snapshotter}: not found", hint="plugins ls shows which there are"
        )
    return list(reply.plugins[0].capabilities)


def stat(client: Client, snapshotter: str, key: str) -> snapshots_v1.Info:
    """The record of a snapshot; NotFound when there is none."""
    reply: snapshots_v1.StatSnapshotResponse = client.call(
        snapshots_v1.SNAPSHOTS, "Stat", snapshots_v1.StatSnapshotRequest(snapshotter=snapshotter, key=key)
    )
    return reply.info


def exists(client: Client, snapshotter: str, key: str) -> bool:
    """Whether there is a snapshot of that key or name."""
    try:
        stat(client, snapshotter, key)
    except errdefs.NotFound:
        return False
    return True


def usage(client: Client, snapshotter: str, key: str) -> snapshots_v1.UsageResponse:
    """Bytes and inodes of a snapshot, without its parents."""
    reply: snapshots_v1.UsageResponse = client.call(
        snapshots_v1.SNAPSHOTS, "Usage", snapshots_v1.UsageRequest(snapshotter=snapshotter, key=key)
    )
    return reply


def remove(client: Client, snapshotter: str, key: str) -> None:
    """Removes a snapshot; FailedPrecondition while it has children."""
    client.call(
        snapshots_v1.SNAPSHOTS,
        "Remove",
        snapshots_v1.RemoveSnapshotRequest(snapshotter=snapshotter, key=key),
    )


def start_remove(client: Client, snapshotter: str, key: str) -> Reply:
    """The same without waiting."""
    request = snapshots_v1.RemoveSnapshotRequest(snapshotter=snapshotter, key=key)
    return client.start(snapshots_v1.SNAPSHOTS, "Remove", request)


def walk(client: Client, snapshotter: str) -> Iterator[snapshots_v1.Info]:
    """Every snapshot of the namespace."""
    request = snapshots_v1.ListSnapshotsRequest(snapshotter=snapshotter)
    with client.stream(snapshots_v1.SNAPSHOTS, "List", request) as stream:
        for message in stream:
            yield from message.info


def set_labels(client: Client, snapshotter: str, key: str, labels: Mapping[str, str]) -> None:
    """Sets (or, with an empty value, removes) single labels."""
    client.call(
        snapshots_v1.SNAPSHOTS,
        "Update",
        snapshots_v1.UpdateSnapshotRequest(
            snapshotter=snapshotter,
            info=snapshots_v1.Info(name=key, labels=dict(labels)),
            update_mask=wkt.FieldMask(paths=[f"labels.{name}" for name in labels]),
        ),
    )
