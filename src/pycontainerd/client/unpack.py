"""From layers to snapshots: one committed snapshot per chain id, each applied on its parent.

    prepare "extract-<nanos>-<random> <chain id>" on the parent's chain id
    apply the layer, check that its diff id is the config's
    commit under the chain id; label the layer containerd.io/uncompressed and the config gc.ref.snapshot

A chain that exists already is not touched, so an interrupted unpack goes on where it was.

Spec: containerd rootfs package, image-spec config.md#layer-chainid
"""

from __future__ import annotations

import os
import time

from pycontainerd.client import content, images, leases, snapshots
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, platforms, trace
from pycontainerd.lib.api.light import diff_v1

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.client.client import Client
    from pycontainerd.lib.oci import image as oci

UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
TARGET_LABEL = "containerd.io/snapshot.ref"
FOLLOW_ANNOTATION = "io.pycontainerd.diff.follow"


def is_unpacked(client: Client, target: oci.Descriptor, snapshotter: str, matcher: platforms.Matcher) -> bool:
    """Whether the snapshot of the image's last layer exists; NotFound when the image isn't there."""
    _, manifest = images.manifest_for(client, target, matcher)
    diff_ids = images.config_of(client, manifest).diff_ids
    return not diff_ids or snapshots.exists(client, snapshotter, digests.chain_id(diff_ids))


def unpack(
    client: Client,
    target: oci.Descriptor,
    snapshotter: str,
    matcher: platforms.Matcher,
    *,
    sync_fs: bool = False,
) -> str:
    """Makes the snapshots of an image; the last chain id (empty for an image without layers).

    The caller holds a lease. FailedPrecondition when a layer isn't what the config says. With `sync_fs` what was
    unpacked is on the disk afterwards.
    """
    _, manifest = images.manifest_for(client, target, matcher)
    config = images.config_of(client, manifest)
    layers = manifest.layers
    if len(layers) != len(config.diff_ids):
        raise errdefs.FailedPrecondition(
            f"mismatched image rootfs and manifest layers: {len(config.diff_ids)} diff ids, {len(layers)} layers"
        )
    chain = digests.chain_ids(config.diff_ids)
    parent = ""
    for layer, diff_id, chain_id in zip(layers, config.diff_ids, chain, strict=True):
        with trace.span("unpack layer", digest=layer.digest):
            unpack_layer(client, snapshotter, layer, diff_id, chain_id, parent, sync_fs=sync_fs)
        parent = chain_id
    if sync_fs and not client.is_ours():
        os.sync()  # a containerd before 1.7 doesn't know the request's field
    if chain:
        label = f"containerd.io/gc.ref.snapshot.{snapshotter}"
        content.set_labels(client, manifest.config.digest, {label: chain[-1]})
    return parent


def unpack_layer(
    client: Client,
    snapshotter: str,
    layer: oci.Descriptor,
    diff_id: digests.Digest,
    chain_id: digests.Digest,
    parent: str,
    *,
    follow: bool = False,
    sync_fs: bool = False,
) -> None:
    """Makes the snapshot of one layer on its parent's, unless it is there.

    With `follow`, which only our daemon knows, the layer's blob may still be on its way.
    """
    if snapshots.exists(client, snapshotter, chain_id):
        return
    labels = {TARGET_LABEL: str(chain_id)}
    key = f"extract-{time.time_ns() % 1_000_000_000}-{leases.random_suffix()} {chain_id}"
    try:
        mounts = snapshots.prepare(client, snapshotter, key, parent, labels)
    except errdefs.AlreadyExists:
        return  # a remote snapshotter had it ready, or somebody else unpacked it
    try:
        descriptor = images.to_wire(layer)
        if follow:
            descriptor.annotations[FOLLOW_ANNOTATION] = "true"
        reply: diff_v1.ApplyResponse = client.call(
            diff_v1.DIFF, "Apply", diff_v1.ApplyRequest(diff=descriptor, mounts=mounts, sync_fs=sync_fs)
        )
        if reply.applied.digest != diff_id:
            raise errdefs.FailedPrecondition(
                f'wrong diff id calculated on extraction "{reply.applied.digest}" of layer {layer.digest}, '
                f"the image's config says {diff_id}",
                hint="the image is damaged or was built wrongly: pull it again, or tell its maker",
            )
        snapshots.commit(client, snapshotter, chain_id, key, labels)
    except errdefs.AlreadyExists:
        snapshots.remove(client, snapshotter, key)
    except BaseException:
        _discard(client, snapshotter, key)
        raise
    content.set_labels(client, layer.digest, {UNCOMPRESSED_LABEL: str(diff_id)})


def _discard(client: Client, snapshotter: str, key: str) -> None:
    try:
        snapshots.remove(client, snapshotter, key)
    except errdefs.ContainerdError:
        return  # the lease's end collects it
