"""`ctr images list` and `check`: names with what they stand for, and how much of that is here."""

from __future__ import annotations

from pycontainerd.client import content, images, unpack
from pycontainerd.ctr import display, session, text
from pycontainerd.lib import platforms
from pycontainerd.lib.errdefs import ContainerdError

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import images_v1


def run(call: Call) -> int:
    """`images list`."""
    with session.connect(call) as client:
        try:
            found = images.walk(client, call.arguments)
        except ContainerdError as error:
            raise type(error)(f"failed to list images: {error}", hint=error.hint) from error
        if call.flags.on("quiet"):
            display.write("".join(f"{image.name}\n" for image in found))
            return 0
        rows = [_row(client, image) for image in found]
    display.print_rows(rows, call.flags.text("format"), _table)
    return 0


def _row(client: Client, image: images_v1.Image) -> dict[str, Any]:
    target = images.from_wire(image.target)
    missing: ContainerdError | None
    try:
        size, missing = images.size_of(client, target, platforms.default_matcher())
    except ContainerdError as error:
        size, missing = 0, error
    if missing is not None:
        text.complain(f"failed calculating size for image {image.name}", error=missing)
    try:
        found = [str(platform) for platform in images.platforms_of(client, target)]
    except ContainerdError as error:
        text.complain(f"failed resolving platform for image {image.name}", error=error)
        found = []
    return {
        "name": image.name,
        "type": image.target.media_type,
        "digest": image.target.digest,
        "size": size,
        "platforms": sorted(set(found)),
        "labels": dict(image.labels),
    }


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [
        f"{row['name']}\t{row['type']}\t{row['digest']}\t{display.binary_size(row['size'])}\t"
        f"{','.join(row['platforms']) or '-'}\t{display.label_text(row['labels'])}\t"
        for row in rows
    ]
    display.table("REF\tTYPE\tDIGEST\tSIZE\tPLATFORMS\tLABELS\t", lines, display.SPACES)


def check(call: Call) -> int:
    """`images check`; an image whose documents aren't here is an error once all are shown."""
    failure: ContainerdError | None = None
    rows: list[dict[str, Any]] = []
    with session.connect(call) as client:
        for image in images.walk(client, call.arguments):
            row, error = _check_row(client, image, session.snapshotter(call))
            rows.append(row)
            if error is not None:
                what = f"unable to check unpack for {image.name}"
                text.complain(what, error=error)
                failure = failure or type(error)(f"{what}: {error}", hint=error.hint)
    _show_checked(call, rows)
    if failure is not None:
        raise failure
    return 0


def _show_checked(call: Call, rows: Sequence[dict[str, Any]]) -> None:
    if call.flags.on("quiet"):
        display.write("".join(f"{row['name']}\n" for row in rows if row["status"] == "complete"))
        return
    if rows or call.flags.text("format") != "table":
        display.print_rows(rows, call.flags.text("format"), _check_table)


def _check_table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [
        f"{row['name']}\t{row['type']}\t{row['digest']}\t{row['status']} "
        f"({row['present_blobs']}/{'?' if row['blobs'] is None else row['blobs']})\t"
        f"{display.binary_size(row['present_size'])}/{_size(row)}\t{str(row['unpacked']).lower()}"
        for row in rows
    ]
    display.table("REF\tTYPE\tDIGEST\tSTATUS\tSIZE\tUNPACKED\t", lines, display.SPACES)


def _size(row: dict[str, Any]) -> str:
    return "?" if row["size"] is None else display.binary_size(row["size"])


def _check_row(
    client: Client, image: images_v1.Image, snapshotter: str
) -> tuple[dict[str, Any], ContainerdError | None]:
    """The row, and why nobody can say whether it is unpacked."""
    target = images.from_wire(image.target)
    matcher = platforms.default_matcher()
    row: dict[str, Any] = {"name": image.name, "type": target.media_type, "digest": target.digest}
    try:
        _, manifest = images.manifest_for(client, target, matcher)
    except ContainerdError as error:
        unknown = {"present_blobs": 0, "blobs": None, "present_size": 0, "size": None, "unpacked": False}
        return {**row, "status": "unavailable", **unknown}, error
    # As ctr counts: the manifest's config and layers, not the documents above.
    wanted = {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
    present = [digest for digest in wanted if content.exists(client, digest)]
    row |= {
        "status": "complete" if len(present) == len(wanted) else "incomplete",
        "present_blobs": len(present),
        "blobs": len(wanted),
        "present_size": sum(wanted[digest] for digest in present),
        "size": sum(wanted.values()),
    }
    try:
        return {**row, "unpacked": unpack.is_unpacked(client, target, snapshotter, matcher)}, None
    except ContainerdError as error:
        return {**row, "unpacked": False}, error
