"""Image records: a name that points at a descriptor.

Spec: containerd images/v1
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from pycontainerd.daemon.core import filters
from pycontainerd.daemon.core import labels as label
from pycontainerd.lib import digest
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.scope import Scope


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What the stores keep of an OCI descriptor. Spec: image-spec descriptor.md"""

    media_type: str = ""
    digest: str = ""
    size_bytes: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """A named image. Times are nanoseconds since 1970."""

    name: str
    target: Descriptor = field(default_factory=Descriptor)
    labels: Mapping[str, str] = field(default_factory=dict)
    created_nanos: int = 0
    updated_nanos: int = 0


class ImageStore(Protocol):
    """Blocking; raises errdefs."""

    def get(self, scope: Scope, name: str) -> Image:
        """NotFound."""
        ...

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Image]:
        """By name; InvalidArgument for a bad filter."""
        ...

    def create(self, scope: Scope, image: Image) -> Image:
        """AlreadyExists, InvalidArgument."""
        ...

    def update(self, scope: Scope, image: Image, paths: Sequence[str]) -> Image:
        """NotFound, InvalidArgument."""
        ...

    def delete(self, scope: Scope, name: str, target: Descriptor | None = None) -> None:
        """NotFound; NotFound too when `target` is given and the image points elsewhere."""
        ...


def require_valid(image: Image) -> None:
    """Raises InvalidArgument for a record that could not be resolved."""
    if not image.name:
        raise InvalidArgument("image name must not be empty: invalid argument")
    label.require_valid(image.labels, "image.Labels")
    target = image.target
    try:
        digest.parse(target.digest)
    except InvalidArgument as e:
        reason = str(e).removesuffix(": invalid argument")
        raise InvalidArgument(
            f"Target.Digest {quoted(target.digest)} invalid: {reason}: invalid argument"
        ) from e
    if target.size_bytes <= 0:
        raise InvalidArgument("Target.Size must be greater than zero: invalid argument")
    if not target.media_type:
        raise InvalidArgument("Target.MediaType must be set: invalid argument")


def updated(current: Image, wanted: Image, paths: Sequence[str]) -> Image:
    """`current` with the masked fields of `wanted`; without a mask, `wanted` with the old creation time."""
    if not paths:
        return replace(wanted, created_nanos=current.created_nanos)
    result = current
    for path in paths:
        result = _with_path(result, wanted, path)
    return result


def _with_path(current: Image, wanted: Image, path: str) -> Image:
    head, _, key = path.partition(".")
    match head, bool(key):
        case "labels", True:
            return replace(current, labels=label.with_path(current.labels, wanted.labels, path))
        case "annotations", True:
            annotations = label.with_path(current.target.annotations, wanted.target.annotations, path)
            return replace(current, target=replace(current.target, annotations=annotations))
        case "labels", False:
            return replace(current, labels=label.stored(wanted.labels))
        case "target", False:
            return replace(current, target=wanted.target)
        case "annotations", False:
            annotations = dict(wanted.target.annotations)
            return replace(current, target=replace(current.target, annotations=annotations))
        case _:
            raise InvalidArgument(
                f"cannot update {quoted(path)} field on image {quoted(current.name)}: invalid argument"
            )


def adaptor(image: Image) -> filters.Adaptor:
    """The fields a filter can name."""

    def field_value(path: Sequence[str]) -> str | None:
        match tuple(path):
            case ("name",):
                return image.name or None
            case ("target", "digest"):
                return image.target.digest or None
            case ("target", "mediatype"):
                return image.target.media_type or None
            case ("labels", *rest):
                return filters.map_field(rest, image.labels)
            case ("annotations", *rest):
                return filters.map_field(rest, image.target.annotations)
            case _:
                return None

    return field_value
