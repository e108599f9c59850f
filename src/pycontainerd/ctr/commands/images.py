"""`ctr images`: pull, push, list, check, tag, label, import, export, convert, mount, unmount, delete."""

from __future__ import annotations

import os

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import BOOL, INT, STRING, STRINGS, Flag
from pycontainerd.ctr.registry_flags import ALL_METADATA_FLAG, PLATFORM_FLAGS, REGISTRY_FLAGS, platforms_of
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import images_v1


def _pull(call: Call) -> int:
    from pycontainerd.ctr import image_pull

    return image_pull.run(call)


def _push(call: Call) -> int:
    from pycontainerd.ctr import image_push

    return image_push.run(call)


def _mount(call: Call) -> int:
    from pycontainerd.ctr import image_mount

    return image_mount.mount(call)


def _unmount(call: Call) -> int:
    from pycontainerd.ctr import image_mount

    return image_mount.unmount(call)


def _convert(call: Call) -> int:
    from pycontainerd.ctr import image_convert

    return image_convert.run(call)


def _list(call: Call) -> int:
    from pycontainerd.client import images
    from pycontainerd.ctr import session

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
    from pycontainerd.client import images
    from pycontainerd.lib import platforms

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


def _check(call: Call) -> int:
    from pycontainerd.client import images
    from pycontainerd.ctr import session

    with session.connect(call) as client:
        rows = [
            _check_row(client, image, session.snapshotter(call))
            for image in images.walk(client, call.arguments)
        ]
    if call.flags.on("quiet"):
        display.write("".join(f"{row['name']}\n" for row in rows if row["ready"]))
        return 0
    lines = [
        f"{row['name']}\t{row['type']}\t{row['digest']}\t{row['status']}\t{row['size']}\t{row['unpacked']}"
        for row in rows
    ]
    if rows:
        display.table("REF\tTYPE\tDIGEST\tSTATUS\tSIZE\tUNPACKED\t", lines, display.SPACES)
    return 0


def _check_row(client: Client, image: images_v1.Image, snapshotter: str) -> dict[str, Any]:
    from pycontainerd.client import content, images, unpack
    from pycontainerd.lib import platforms

    target = images.from_wire(image.target)
    matcher = platforms.default_matcher()
    row = {"name": image.name, "type": target.media_type, "digest": target.digest}
    try:
        _, manifest = images.manifest_for(client, target, matcher)
    except ContainerdError:
        return {**row, "status": "unavailable (0/?)", "size": "0.0 B/?", "unpacked": "false", "ready": False}
    # As ctr counts: the manifest's config and layers, not the documents above.
    wanted = {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
    present = [digest for digest in wanted if content.exists(client, digest)]
    have, total = (sum(wanted[digest] for digest in some) for some in (present, wanted))
    complete = len(present) == len(wanted)
    unpacked = complete and unpack.is_unpacked(client, target, snapshotter, matcher)
    return {
        **row,
        "status": f"{'complete' if complete else 'incomplete'} ({len(present)}/{len(wanted)})",
        "size": f"{display.binary_size(have)}/{display.binary_size(total)}",
        "unpacked": str(unpacked).lower(),
        "ready": unpacked,
    }


def _tag(call: Call) -> int:
    from pycontainerd.client import images
    from pycontainerd.ctr import session
    from pycontainerd.lib.errdefs import AlreadyExists

    source, targets = call.argument(0), call.arguments[1:]
    if not source:
        raise InvalidArgument("please provide an image reference to tag from")
    if not targets:
        raise InvalidArgument("please provide an image reference to tag to")
    with session.connect(call) as client:
        image = images.get(client, source)
        descriptor = images.from_wire(image.target)
        for target in targets:
            try:
                images.create(client, target, descriptor, image.labels)
            except AlreadyExists:
                if not call.flags.on("force"):
                    raise
                images.delete(client, target)
                images.create(client, target, descriptor, image.labels)
            display.write(f"{target}\n")
    return 0


def _label(call: Call) -> int:
    from pycontainerd.client import images
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import images_v1

    name, labels = call.argument(0), text.labels_from(call.arguments[1:])
    if not name:
        raise InvalidArgument("please specify an image")
    if not labels:
        raise InvalidArgument("please specify labels", hint="image label NAME KEY=VALUE; KEY= clears one")
    paths = ["labels"] if call.flags.on("replace-all") else [f"labels.{key}" for key in labels]
    with session.connect(call) as client:
        updated = images.update(client, images_v1.Image(name=name, labels=labels), paths)
    display.write(display.label_text(dict(updated.labels), "") + "\n")
    return 0


def _delete(call: Call) -> int:
    from pycontainerd.client import images
    from pycontainerd.ctr import session

    failure: ContainerdError | None = None
    with session.connect(call) as client:
        for place, name in enumerate(call.arguments):
            last = place == len(call.arguments) - 1
            try:
                images.delete(client, name, sync=call.flags.on("sync") and last)
            except NotFound:
                text.warn(f"{name}: image not found")
                continue
            except ContainerdError as error:
                text.complain(f"unable to delete {name}", error=error)
                failure = failure or error
                continue
            display.write(f"{name}\n")
    if failure is not None:
        raise failure
    return 0


def _import(call: Call) -> int:
    import sys

    from pycontainerd.client import leases
    from pycontainerd.ctr import image_import, session

    path = call.argument(0)
    # The name is checked before a daemon is woken up.
    source = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115 - closed below
    try:
        with session.connect(call) as client, leases.held(client):
            image_import.run(call, client, source)
    finally:
        if path != "-":
            source.close()
    return 0


def _export(call: Call) -> int:
    from pycontainerd.client import archive, cio, images
    from pycontainerd.ctr import session
    from pycontainerd.lib import platforms

    path, names = call.argument(0), call.arguments[1:]
    if not path or not names:
        raise InvalidArgument("please provide both an output filename and an image reference to export")
    wanted = platforms_of(call.flags)
    matcher = platforms.any_of(wanted) if wanted else platforms.default_matcher()
    if call.flags.on("all-platforms"):
        matcher = platforms.everything()
    with session.connect(call) as client:
        for name in names:  # before a file is made
            images.get(client, name)
        out_fd = (
            1 if path == "-" else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        )
        try:
            archive.export(
                client,
                lambda data: cio.write_all(out_fd, data),
                names,
                matcher,
                with_manifest_json=not call.flags.on("skip-manifest-json"),
                with_foreign=not call.flags.on("skip-non-distributable"),
            )
        except BaseException:
            if path != "-":
                os.unlink(path)
            raise
        finally:
            if path != "-":
                os.close(out_fd)
    return 0


COMMANDS = (
    Command(
        "check",
        "check that images are complete and unpacked",
        _check,
        arguments="[flags] [<filter>, ...]",
        flags=(Flag("quiet, q", BOOL, "print the names of ready images only"), text.SNAPSHOTTER_FLAG),
    ),
    Command(
        "convert",
        "make another form of an image",
        _convert,
        arguments="[flags] <source_ref> <target_ref>",
        flags=(
            Flag("uncompress", BOOL, "make the layers plain tar"),
            Flag("oci", BOOL, "make docker's media types OCI's"),
            *PLATFORM_FLAGS,
        ),
        description="of an index only the platforms that are asked for stay: this machine's by default",
    ),
    Command(
        "export",
        "write images to an archive",
        _export,
        arguments="[flags] <out> <image> ...",
        flags=(
            Flag("skip-manifest-json", BOOL, "leave docker's manifest.json out"),
            Flag("skip-non-distributable", BOOL, "leave foreign layers out"),
            *PLATFORM_FLAGS,
        ),
        description='an OCI layout that docker can load too; "-" is stdout',
    ),
    Command(
        "import",
        "read images from an archive",
        _import,
        arguments="[flags] <in>",
        flags=(
            Flag("base-name", STRING, "name for images that have only a tag; others must begin with it"),
            Flag("digests", BOOL, "make names of digests too"),
            Flag("skip-digest-for-named", BOOL, "with --digests: not for images that have a name"),
            Flag("index-name", STRING, "keep the archive's index under this name"),
            Flag("all-platforms", BOOL, "unpack every platform"),
            Flag("platform", STRING, "unpack this platform"),
            Flag("no-unpack", BOOL, "don't unpack"),
            Flag("compress-blobs", BOOL, "compress plain layers of docker archives"),
            text.SNAPSHOTTER_FLAG,
        ),
        description='an OCI layout or what docker save wrote; "-" is stdin',
    ),
    Command(
        "list, ls",
        "list images",
        _list,
        arguments="[flags] [<filter>, ...]",
        flags=(Flag("quiet, q", BOOL, "print names only"), text.FORMAT_FLAG),
    ),
    Command(
        "mount",
        "mount an image's root file system on a folder",
        _mount,
        arguments="[flags] <ref> <target>",
        flags=(
            text.SNAPSHOTTER_FLAG,
            Flag("label", STRINGS, "label of the snapshot (key=value)"),
            Flag("rw", BOOL, "make it writable; what is written goes with the snapshot"),
            Flag("platform", STRING, "platform to mount; empty for this machine's"),
        ),
        description="take it away with `images unmount --rm`; it is kept for a day otherwise",
    ),
    Command(
        "unmount",
        "unmount an image's root file system",
        _unmount,
        arguments="[flags] <target>",
        flags=(text.SNAPSHOTTER_FLAG, Flag("rm", BOOL, "remove the snapshot too")),
    ),
    Command(
        "pull",
        "fetch an image from a registry and unpack it",
        _pull,
        arguments="[flags] <ref>",
        flags=(
            *REGISTRY_FLAGS,
            text.SNAPSHOTTER_FLAG,
            Flag("label", STRINGS, "label of the image (key=value)"),
            *PLATFORM_FLAGS,
            ALL_METADATA_FLAG,
            Flag("print-chainid", BOOL, "print the image's chain id"),
            Flag("max-concurrent-downloads", INT, "blobs to fetch side by side"),
        ),
    ),
    Command(
        "push",
        "upload an image to a registry",
        _push,
        arguments="[flags] <remote> [<local>]",
        flags=(
            *REGISTRY_FLAGS,
            Flag("manifest", STRING, "push the document of this digest"),
            Flag(
                "manifest-type",
                STRING,
                "media type of the document",
                default="application/vnd.oci.image.manifest.v1+json",
            ),
            Flag("platform", STRINGS, "push the manifest of this platform only"),
            Flag("max-concurrent-uploaded-layers", INT, "blobs to upload side by side"),
            Flag("allow-non-distributable-blobs", BOOL, "push foreign layers too"),
        ),
        description="everything that the image refers to has to be in the content store",
    ),
    Command(
        "delete, del, remove, rm",
        "remove images by name",
        _delete,
        arguments="[flags] <ref> [<ref>, ...]",
        flags=(Flag("sync", BOOL, "wait until their content is collected"),),
    ),
    Command(
        "tag",
        "give an image further names",
        _tag,
        arguments="[flags] <source_ref> <target_ref> [<target_ref>, ...]",
        flags=(Flag("force", BOOL, "take the name from another image"),),
    ),
    Command(
        "label",
        "set and clear labels of an image",
        _label,
        arguments="[flags] <name> [<key>=<value>, ...]",
        flags=(Flag("replace-all, r", BOOL, "replace all labels"),),
    ),
)
