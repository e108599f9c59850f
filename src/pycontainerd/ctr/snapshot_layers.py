"""`ctr snapshots diff` and `unpack`: from snapshots to layers and back."""

from __future__ import annotations

import time

from pycontainerd.client import cio, content, diff, images, leases, unpack
from pycontainerd.ctr import display, session, text
from pycontainerd.ctr.commands.content import parse_digest
from pycontainerd.lib import platforms
from pycontainerd.lib.errdefs import InvalidArgument, NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call


def make_diff(call: Call) -> int:
    """Writes the layer to stdout; it stays in the content store with --keep only."""
    left, right = call.argument(0), call.argument(1)
    if not left:
        raise InvalidArgument("snapshot id must be provided")
    labels = text.labels_from(call.flags.texts("label"))
    if call.flags.on("keep"):
        labels["containerd.io/gc.root"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with session.connect(call) as client, leases.held(client):
        descriptor = diff.create(
            client,
            session.snapshotter(call),
            left,
            right,
            media_type=call.flags.text("media-type"),
            ref=call.flags.text("ref"),
            labels=labels,
        )
        for chunk in content.read(client, descriptor.digest):
            cio.write_all(1, chunk)
    return 0


def unpack_manifest(call: Call) -> int:
    """Makes the snapshots of the images whose descriptor has the digest."""
    digest = parse_digest(call.argument(0))
    with session.connect(call) as client, leases.held(client):
        found = next((image for image in images.walk(client) if image.target.digest == digest), None)
        if found is None:
            raise NotFound("manifest not found", hint="it takes the digest that `images ls` shows")
        display.write(f"unpacking {digest} ({found.target.media_type})...")
        target = images.from_wire(found.target)
        unpack.unpack(
            client,
            target,
            session.snapshotter(call),
            platforms.default_matcher(),
            sync_fs=call.flags.on("sync-fs"),
        )
    display.write("done\n")
    return 0
