"""Small pieces of every message: times, maps, typed values, mounts, descriptors, field masks, events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core.images import Descriptor
from pycontainerd.daemon.core.snapshots import Mount
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.full import events, images_v1, types, wkt

if TYPE_CHECKING:
    from collections.abc import Sequence

EMPTY: Final = wkt.Empty()
# Image events live in the images package, an accident that clients rely on.
_EVENT_PACKAGES: Final = {"containerd.events": events, "containerd.services.images.v1": images_v1}


def timestamp(nanos: int) -> wkt.Timestamp:
    """Nanoseconds since 1970 as a Timestamp."""
    seconds, fraction = divmod(nanos, 1_000_000_000)
    return wkt.Timestamp(seconds=seconds, nanos=fraction)


def nanos(message: wkt.Timestamp) -> int:
    """The inverse of `timestamp`."""
    return message.seconds * 1_000_000_000 + message.nanos


def zero_time() -> wkt.Timestamp:
    """Go's zero time, as the stock daemon sends times that were never set: the year 1, not 1970."""
    return wkt.Timestamp(seconds=-62135596800)


def typed(message: Any, field: str) -> TypedValue | None:
    """An Any field as a core value; None when unset."""
    if not message.HasField(field):
        return None
    value = getattr(message, field)
    return TypedValue(value.type_url, value.value)


def any_of(value: TypedValue | None) -> wkt.Any | None:
    """A core value as an Any; None stays unset."""
    return None if value is None else wkt.Any(type_url=value.type_url, value=value.value)


def mask_paths(request: Any) -> Sequence[str]:
    """The paths of a request's update mask."""
    return list(request.update_mask.paths)


def mounts(values: Sequence[Mount]) -> list[types.Mount]:
    """Core mounts on the wire."""
    return [
        types.Mount(type=m.type, source=m.source, target=m.target, options=list(m.options)) for m in values
    ]


def core_mounts(messages: Sequence[types.Mount]) -> list[Mount]:
    """The inverse of `mounts`."""
    return [Mount(m.type, m.source, tuple(m.options), m.target) for m in messages]


def descriptor(value: Descriptor) -> types.Descriptor:
    """A core descriptor on the wire."""
    return types.Descriptor(
        media_type=value.media_type,
        digest=value.digest,
        size=value.size_bytes,
        annotations=dict(value.annotations),
    )


def core_descriptor(message: types.Descriptor) -> Descriptor:
    """The inverse of `descriptor`."""
    return Descriptor(message.media_type, message.digest, message.size, dict(message.annotations))


def event(message: Any) -> TypedValue:
    """An event message as the exchange carries it: the type URL is the bare full name."""
    return TypedValue(anys.full_name(message), message.SerializeToString())


def read_event_field(value: TypedValue, path: Sequence[str]) -> str | None:
    """`event.<path>` of containerd's own events for subscription filters: strings, booleans, maps of strings.

    Spec: containerd's fieldpath generator
    """
    package, _, name = value.type_url.rpartition("/")[2].rpartition(".")
    cls = getattr(_EVENT_PACKAGES.get(package), name, None)
    if cls is None:
        return None
    current: Any = cls.FromString(value.value)
    for index, part in enumerate(path):
        fields = getattr(getattr(current, "DESCRIPTOR", None), "fields_by_name", None)
        if fields is None or part not in fields:
            return None
        current = getattr(current, part)
        if part == "labels":
            return dict(current).get(".".join(path[index + 1 :]))
    if isinstance(current, bool):
        return "true" if current else "false"
    return current if isinstance(current, str) and current else None


def packed(message: Any) -> wkt.Any:
    """An Any of a message, with the bare full name for its type."""
    return wkt.Any(type_url=anys.full_name(message), value=message.SerializeToString())
