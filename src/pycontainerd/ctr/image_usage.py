"""`ctr images usage`: what the snapshots of an image's layers take, the last one first."""

from __future__ import annotations

from pycontainerd.client import images, snapshots, unpack
from pycontainerd.ctr import display, session
from pycontainerd.lib import digest as digests
from pycontainerd.lib import platforms
from pycontainerd.lib.errdefs import ContainerdError, FailedPrecondition, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.oci.image import Descriptor


def run(call: Call) -> int:
    """The command."""
    ref = call.argument(0)
    if not ref:  # in ctr's words
        raise InvalidArgument("please provide an image reference to mount", hint="images ls lists them")
    snapshotter = session.snapshotter(call)
    with session.connect(call) as client:
        try:
            target = images.from_wire(images.get(client, ref).target)
        except ContainerdError as error:
            raise type(error)(f"failed to ensure if image {ref} exists: {error}", hint=error.hint) from error
        rows = _rows(client, snapshotter, _top(client, ref, target, snapshotter))
    display.print_rows(rows, call.flags.text("format"), table)
    return 0


def _top(client: Client, ref: str, target: Descriptor, snapshotter: str) -> str:
    matcher = platforms.default_matcher()
    if not unpack.is_unpacked(client, target, snapshotter, matcher):
        raise FailedPrecondition(
            f"image {ref} isn't unpacked in snapshotter {snapshotter}",
            hint="snapshots unpack does that, by the digest that images ls shows",
        )
    _, manifest = images.manifest_for(client, target, matcher)
    diff_ids = images.config_of(client, manifest).diff_ids
    return str(digests.chain_id(diff_ids)) if diff_ids else ""


def _rows(client: Client, snapshotter: str, key: str) -> list[dict[str, Any]]:
    rows = []
    while key:
        usage = snapshots.usage(client, snapshotter, key)
        rows.append({"key": key, "size": usage.size, "inodes": usage.inodes})
        key = snapshots.stat(client, snapshotter, key).parent
    return rows


def table(rows: Sequence[dict[str, Any]]) -> None:
    """KEY, SIZE, INODES, as of snapshots."""
    lines = [f"{row['key']}\t{display.binary_size(row['size'])}\t{row['inodes']}\t" for row in rows]
    display.table("KEY\tSIZE\tINODES\t", lines, display.SPACES)
