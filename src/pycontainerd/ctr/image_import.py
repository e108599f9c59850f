"""`ctr images import`: from the descriptors of an archive to named, unpacked images."""

from __future__ import annotations

import os
import stat
import sys
import time

from pycontainerd.client import archive, content, images, leases, unpack
from pycontainerd.client.archive import NAME_ANNOTATION, REF_ANNOTATION
from pycontainerd.ctr import display, session, text
from pycontainerd.ctr.meter import Meter
from pycontainerd.lib import digest as digests
from pycontainerd.lib import platforms, reference
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.ctr.flags import Values


def run(call: Call) -> int:
    """The command; a lease sees to it that a failure leaves nothing."""
    path, flags = call.argument(0), call.flags
    _require_consistent(flags)
    # The name is checked before a daemon is woken up.
    file = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115 - closed below
    try:
        with session.connect(call) as client:
            if flags.on("local"):
                with leases.held(client):
                    _import(call, client, file)
            else:
                from pycontainerd.ctr import image_transfer

                image_transfer.import_(call, client, file, _size_of(file))
    finally:
        if path != "-":
            file.close()
    return 0


def _require_consistent(flags: Values) -> None:
    if flags.on("skip-digest-for-named") and not flags.on("digests"):
        raise InvalidArgument("--skip-digest-for-named must be specified with --digests option")
    if flags.on("discard-unpacked-layers") and flags.on("no-unpack"):
        raise InvalidArgument("--discard-unpacked-layers and --no-unpack are incompatible options")


def _size_of(file: IO[bytes]) -> int:
    """How much there is to read; 0 where only the end tells."""
    found = os.fstat(file.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _import(call: Call, client: Client, file: IO[bytes]) -> None:
    flags = call.flags
    wanted = platforms.parse(flags.text("platform")) if flags.text("platform") else platforms.default()
    matcher = platforms.everything() if flags.on("all-platforms") else platforms.only(wanted)
    with Meter("importing", _size_of(file)) as meter:
        descriptors = archive.load(client, meter.reading(file), compress=flags.on("compress-blobs"))
    with_layers = not flags.on("discard-unpacked-layers")
    named: list[tuple[str, oci.Descriptor]] = []
    for descriptor in descriptors:
        archive.label_tree(client, descriptor, matcher, with_layers=with_layers)
        named += [(name, descriptor) for name in _names(call, descriptor)]
    if flags.text("index-name"):
        named.append((flags.text("index-name"), _index(client, descriptors)))
    for name, descriptor in named:
        images.create_or_update(client, name, _plain(descriptor), text.labels_from(flags.texts("label")))
    if flags.on("no-unpack"):
        return
    for name, descriptor in named:
        display.write(f"unpacking {name} ({descriptor.digest})...")
        for one in [matcher] if not flags.on("all-platforms") else _each(client, descriptor):
            unpack.unpack(client, descriptor, session.snapshotter(call), one, sync_fs=flags.on("sync-fs"))
        display.write("done\n")


def _plain(descriptor: oci.Descriptor) -> oci.Descriptor:
    return oci.Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _each(client: Client, descriptor: oci.Descriptor) -> Iterator[platforms.Matcher]:
    for platform in images.platforms_of(client, descriptor):
        yield platforms.only(platform)


def _names(call: Call, descriptor: oci.Descriptor) -> Iterator[str]:
    """The image's own full name, or its tag below --base-name; with --digests a name by digest too."""
    flags = call.flags
    base = flags.text("base-name")
    prefix = base or f"import-{time.strftime('%Y-%m-%d')}"
    full = descriptor.annotations.get(NAME_ANNOTATION, "")
    tag = descriptor.annotations.get(REF_ANNOTATION, "")
    name = ""
    if full:
        name = full
    elif tag:
        name = _from_tag(prefix, tag)
    if name:
        yield name
    if flags.on("digests") and not (name and flags.on("skip-digest-for-named")):
        yield f"{prefix}@{descriptor.digest}"


def _from_tag(prefix: str, tag: str) -> str:
    if reference.is_tag(tag):
        return f"{prefix}:{tag}"
    return str(reference.normalize_tagged(tag))


def _index(client: Client, descriptors: list[oci.Descriptor]) -> oci.Descriptor:
    import json

    from pycontainerd.client import pull

    document = {"schemaVersion": 2, "manifests": [descriptor.to_json() for descriptor in descriptors]}
    data = json.dumps(document, separators=(",", ":")).encode()
    digest = digests.of(data)
    labels = pull.child_labels(descriptors)
    content.write_blob(client, f"index-{digest}", [data], size=len(data), digest=digest, labels=labels)
    if not descriptors:
        raise InvalidArgument("the archive holds no image")
    return oci.Descriptor(oci.INDEX, digest, len(data))
