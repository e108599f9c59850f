"""`pyctr images referrers`: what a registry has that refers to an image: signatures, attestations and the like."""

from __future__ import annotations

from pycontainerd.ctr import display, text
from pycontainerd.ctr.registry_flags import registry_options
from pycontainerd.lib import digest as digests
from pycontainerd.lib import platforms
from pycontainerd.lib.errdefs import DataLoss, InvalidArgument
from pycontainerd.lib.oci import image as oci
from pycontainerd.lib.registry.referrers import Referrers
from pycontainerd.lib.registry.resolver import Resolver

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.ctr.command import Call


def run(call: Call) -> int:
    """The command: no daemon is asked."""
    ref = call.argument(0)
    if not ref:
        raise InvalidArgument("please provide an image reference", hint="images referrers REGISTRY/NAME:TAG")
    options = registry_options(call)
    resolver = Resolver(ref, options, text.inform)
    try:
        subjects = [resolver.resolve()]
        if oci.is_index(subjects[0].media_type):
            subjects += _of_this_platform(_document(resolver, subjects[0]))
    finally:
        resolver.close()
    repository = Referrers(ref, options, text.inform)
    try:
        rows = [
            _row(subject, found)
            for subject in subjects
            for found in repository.find(subject.digest, call.flags.texts("artifact-type"))
        ]
    finally:
        repository.close()
    display.print_rows(rows, call.flags.text("format"), table)
    return 0


def _document(resolver: Resolver, descriptor: oci.Descriptor) -> bytes:
    if descriptor.size > oci.MAX_DOCUMENT_BYTES:
        raise InvalidArgument(f"{descriptor.digest} is larger than {oci.MAX_DOCUMENT_BYTES} bytes")
    data = b"".join(resolver.fetch(descriptor))
    if digests.of(data) != descriptor.digest:
        raise DataLoss(f"got {digests.of(data)}, expected {descriptor.digest}", hint="the registry lies")
    return data


def _of_this_platform(data: bytes) -> list[oci.Descriptor]:
    """Most of what refers to something refers to a manifest, not to the index above it."""
    found = oci.parse_index(data).manifests
    places = platforms.best([one.platform for one in found], platforms.default_matcher())
    return [found[place] for place in places[:1]]


def _row(subject: oci.Descriptor, found: oci.Descriptor) -> dict[str, Any]:
    return {
        "subject": str(subject.digest),
        "digest": str(found.digest),
        "artifactType": found.artifact_type,
        "mediaType": found.media_type,
        "size": found.size,
        "annotations": found.annotations,
    }


def table(rows: Sequence[dict[str, Any]]) -> None:
    """DIGEST, TYPE, SIZE, SUBJECT."""
    lines = [
        f"{row['digest']}\t{row['artifactType'] or row['mediaType']}\t{display.binary_size(row['size'])}\t"
        f"{row['subject']}\t"
        for row in rows
    ]
    display.table("DIGEST\tTYPE\tSIZE\tSUBJECT\t", lines, display.SPACES)
