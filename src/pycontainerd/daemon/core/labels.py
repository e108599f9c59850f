"""Labels: their size limit, and updates of one or of all of them by field mask.

Spec: containerd labels (key and value together at most 4096 bytes), google.protobuf.FieldMask
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pycontainerd.lib.errdefs import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SIZE_BYTES: Final = 4096


def require_valid(labels: Mapping[str, str], owner: str) -> None:
    """Raises InvalidArgument, naming the owner field (`info.Labels`), when a label is too large."""
    for key, value in labels.items():
        if len(key.encode()) + len(value.encode()) > MAX_SIZE_BYTES:
            shown = key.encode()[:10].decode("utf-8", "replace")
            raise InvalidArgument(
                f"{owner}: label key and value greater than maximum size ({MAX_SIZE_BYTES} bytes), "
                f"key: {shown}: invalid argument"
            )


def with_path(current: Mapping[str, str], update: Mapping[str, str], path: str) -> dict[str, str]:
    """`current` after applying one mask path `labels.KEY` of `update`; a missing key becomes the empty label."""
    key = path.partition(".")[2]
    return stored({**current, key: update.get(key, "")})


def stored(labels: Mapping[str, str]) -> dict[str, str]:
    """What a store keeps of labels: an empty value removes the label."""
    return {key: value for key, value in labels.items() if value != ""}


def inherited(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels a snapshotter backend gets to see. Spec: containerd snapshots (containerd.io/snapshot/ and .ref)."""
    return {
        key: value
        for key, value in labels.items()
        if key == "containerd.io/snapshot.ref" or key.startswith("containerd.io/snapshot/")
    }
