"""Mounts a container's root filesystem from the mounts of a Create request, and takes it away again.

Spec: containerd.types.Mount
"""

from __future__ import annotations

import os

from pycontainerd.lib import errdefs, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.lib.api.light import types

unmount_recursive = mounts.unmount_recursive


def mount_all(wanted: Sequence[types.Mount], rootfs: str) -> None:
    """Mounts each in order on `rootfs` or on its target below it; undoes all of it when one fails.

    Raises Unknown with the stock shim's words.
    """
    try:
        mounts.attach(wanted, rootfs)
    except OSError as e:
        text = os.strerror(e.errno or 0).lower()
        raise errdefs.Unknown(
            f"failed to mount rootfs component: {text}", errno=e.errno or 0, call="mount", step="mount rootfs"
        ) from e
