"""Layers from snapshots: what one has that another hasn't, as a blob of the content store.

Spec: containerd diff service, rootfs.CreateDiff
"""

from __future__ import annotations

import contextlib

from pycontainerd.client import images, leases, snapshots
from pycontainerd.lib import trace
from pycontainerd.lib.api.light import diff_v1, snapshots_v1

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pycontainerd.client.client import Client
    from pycontainerd.lib.api.light import types
    from pycontainerd.lib.oci.image import Descriptor


def create(
    client: Client,
    snapshotter: str,
    left: str,
    right: str = "",
    *,
    media_type: str,
    ref: str = "",
    labels: Mapping[str, str] | None = None,
) -> Descriptor:
    """The layer that makes `right` of `left`; without `right` the one that `left` itself is on its parent.

    The caller holds a lease. NotFound for a snapshot that isn't there; Unimplemented for a media type.
    """
    with trace.span("diff", left=left, right=right):
        if right:
            with _mounts(client, snapshotter, left) as lower, _mounts(client, snapshotter, right) as upper:
                return _diff(client, lower, upper, media_type, ref, labels)
        info = snapshots.stat(client, snapshotter, left)
        with (
            _view(client, snapshotter, info.parent) as lower,
            _mounts(client, snapshotter, left) as upper,
        ):
            return _diff(client, lower, upper, media_type, ref, labels)


@contextlib.contextmanager
def _mounts(client: Client, snapshotter: str, key: str) -> Iterator[list[types.Mount]]:
    """A snapshot's own mounts while it is active or a view; a committed one is looked at through a view of ours."""
    if snapshots.stat(client, snapshotter, key).kind != snapshots_v1.Kind.COMMITTED:
        yield snapshots.mounts(client, snapshotter, key)
        return
    with _view(client, snapshotter, key) as mounts:
        yield mounts


@contextlib.contextmanager
def _view(client: Client, snapshotter: str, parent: str) -> Iterator[list[types.Mount]]:
    key = f"{parent}-view-{leases.random_id()}"
    mounts = snapshots.view(client, snapshotter, key, parent)
    try:
        yield mounts
    finally:
        snapshots.remove(client, snapshotter, key)


def _diff(
    client: Client,
    lower: list[types.Mount],
    upper: list[types.Mount],
    media_type: str,
    ref: str,
    labels: Mapping[str, str] | None,
) -> Descriptor:
    request = diff_v1.DiffRequest(
        left=lower, right=upper, media_type=media_type, ref=ref, labels=dict(labels or {})
    )
    reply: diff_v1.DiffResponse = client.call(diff_v1.DIFF, "Diff", request)
    return images.from_wire(reply.diff)
