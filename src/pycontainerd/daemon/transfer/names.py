"""What a transferred image is called: the store's name, complete references, and prefixes for an archive's own names.

Spec: containerd core/transfer/image (Store), core/images/archive (AddRefPrefix, FilterRefPrefix)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pycontainerd.client.archive import NAME_ANNOTATION, REF_ANNOTATION
from pycontainerd.lib.errdefs import Unimplemented

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.lib.oci import image as oci


@dataclass(frozen=True, slots=True)
class Reference:
    """A further name, or a prefix of names."""

    name: str
    is_prefix: bool = False
    allow_overwrite: bool = False
    add_digest: bool = False
    skip_named_digest: bool = False


def of_image(name: str, references: Sequence[Reference], target: oci.Descriptor | None) -> list[str]:
    """The names of one whole image. Without a target, for knowing whether there are any."""
    found = [name] if name else []
    for reference in references:
        if not reference.is_prefix:
            digest = f"@{target.digest}" if reference.add_digest and target is not None else ""
            found.append(f"{reference.name}{digest}")
    return found


def of_archive(references: Sequence[Reference], descriptor: oci.Descriptor) -> list[str]:
    """The names of one image of an archive, by its annotations and the prefixes."""
    found: list[str] = []
    for reference in references:
        if not reference.is_prefix:
            continue
        name = _own_name(descriptor, reference)
        by_digest = f"{reference.name}@{descriptor.digest}"
        if name:
            found.append(name)
        if reference.add_digest and not (name and reference.skip_named_digest):
            found.append(by_digest)
    return found


def for_lookup(name: str, references: Sequence[Reference]) -> list[str]:
    """The names to export."""
    for reference in references:
        if reference.is_prefix:
            raise Unimplemented("prefix lookup on export not implemented: not implemented")
    return [*([name] if name else []), *(reference.name for reference in references)]


def _own_name(descriptor: oci.Descriptor, reference: Reference) -> str:
    full = descriptor.annotations.get(NAME_ANNOTATION, "")
    if full:
        # A complete name is taken as it is, or not at all.
        return full if _translated(full, reference) == full else ""
    tag = descriptor.annotations.get(REF_ANNOTATION, "")
    return _translated(tag, reference) if tag else ""


def _translated(name: str, reference: Reference) -> str:
    prefix = reference.name
    if not any(mark in name for mark in "/:@"):
        return f"{prefix}:{name}"
    if reference.allow_overwrite:
        return name
    return name if name == prefix or name.startswith((f"{prefix}/", f"{prefix}:", f"{prefix}@")) else ""
