"""Differ: from layers to filesystems and back.

Spec: containerd diff/v1, image-spec layer.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainerd.daemon.core.images import Descriptor
    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.snapshots import Mount
    from pycontainerd.daemon.core.typed import TypedValue


class Differ(Protocol):
    """Blocking; raises errdefs."""

    def apply(
        self,
        scope: Scope,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        payloads: Mapping[str, TypedValue],
        *,
        sync_fs: bool = False,
    ) -> Descriptor:
        """Unpacks a layer of the content store onto the mounts; the descriptor of the uncompressed stream."""
        ...

    def diff(
        self,
        scope: Scope,
        left: Sequence[Mount],
        right: Sequence[Mount],
        media_type: str,
        ref: str,
        labels: Mapping[str, str],
        *,
        latest_nanos: int | None = None,
    ) -> Descriptor:
        """Writes what changed from left to right into the content store as a layer, with no time after `latest_nanos`."""
        ...
