"""A snapshot's mounts attached in this process's own mount namespace, for as long as a job looks at them.

Man:     unshare(2), mount(2)
Runs in: the layer worker only: it gives the process a mount namespace of its own
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

from pycontainerd.lib import errdefs
from pycontainerd.lib import mounts as lib_mounts
from pycontainerd.lib.api.light import types
from pycontainerd.lib.linux import mount as kernel
from pycontainerd.lib.linux import namespaces

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_own_namespace = False


def enter_own_mount_namespace() -> None:
    """Once per process: what is mounted from now on, nobody else sees and nothing is left behind."""
    global _own_namespace  # noqa: PLW0603 - a property of the process
    if not _own_namespace:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        kernel.mount("none", "/", "", flags=kernel.MS_PRIVATE | kernel.MS_REC)
        _own_namespace = True


@contextmanager
def mounted(mounts: list[dict[str, Any]]) -> Iterator[int]:
    """A directory descriptor of the mounted snapshot; an empty list is an empty directory."""
    enter_own_mount_namespace()
    target = os.path.realpath(tempfile.mkdtemp(prefix="pycontainerd-diff-"))
    try:
        lib_mounts.attach([_checked(mount) for mount in mounts], target)
        try:
            fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield fd
            finally:
                os.close(fd)
        finally:
            lib_mounts.unmount_recursive(target)
    finally:
        os.rmdir(target)


def _checked(mount: dict[str, Any]) -> types.Mount:
    kind = mount["type"]
    if kind not in ("bind", "overlay", "tmpfs"):
        raise errdefs.Unimplemented(f"diff: mounts of type {kind!r} are not supported")
    return types.Mount(type=kind, source=mount["source"], options=list(mount.get("options", ())))
