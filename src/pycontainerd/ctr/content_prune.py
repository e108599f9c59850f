"""`ctr content prune`: layers that are unpacked needn't be kept as blobs; without references they are collected."""

from __future__ import annotations

from pycontainerd.client import content, leases
from pycontainerd.ctr import session, text
from pycontainerd.lib import digest as digests

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call

_PREFIX = "containerd.io/gc.ref.content."


def references(call: Call) -> int:
    """Drops the references to layers of every document, then has the rest collected."""
    dry = call.flags.on("dry")
    if dry:
        text.trace("dry run, no changes will be applied")
    with session.connect(call) as client:
        for info in list(content.walk(client)):
            labels = [key for key in info.labels if _is_layer(key)]
            for key in labels if dry else ():
                text.trace("Removing label", digest=info.digest, label=key)
            if labels and not dry:
                content.set_labels(client, digests.parse(info.digest), dict.fromkeys(labels, ""))
        if not dry:
            # The end of a lease is what starts a collection, and what it can be waited for by.
            lease = leases.create(client, labels=leases.expiring())
            leases.delete(client, lease.id, sync=not call.flags.on("async"))
    return 0


def _is_layer(label: str) -> bool:
    """`l.N`, or in labels of older clients a number that isn't the config's."""
    if not label.startswith(_PREFIX):
        return False
    name = label.removeprefix(_PREFIX)
    return name.startswith("l.") or (name.isascii() and name.isdigit() and name != "0")
