"""A snapshot's mounts attached in this process's own mount namespace, for as long as a job looks at them.

Man:     unshare(2), mount(2)
Runs in: the layer worker only: it gives the process a mount namespace of its own
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

from pycontainerd.lib import errdefs
from pycontainerd.lib.linux import mount as kernel
from pycontainerd.lib.linux import namespaces

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

_FLAGS: Final = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "bind": 4096, "rbind": 4096 | 16384, "rw": 0}
_PRIVATE_RECURSIVE: Final = (1 << 18) | 16384
_REMOUNT_BIND_RO: Final = 32 | 4096 | 1
_own_namespace = False


def enter_own_mount_namespace() -> None:
    """Once per process: what is mounted from now on, nobody else sees and nothing is left behind."""
    global _own_namespace  # noqa: PLW0603 - a property of the process
    if not _own_namespace:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        kernel.mount("none", "/", "", flags=_PRIVATE_RECURSIVE)
        _own_namespace = True


@contextmanager
def mounted(mounts: list[dict[str, Any]]) -> Iterator[int]:
    """A directory descriptor of the mounted snapshot; an empty list is an empty directory."""
    enter_own_mount_namespace()
    target = tempfile.mkdtemp(prefix="pycontainerd-diff-")
    done = 0
    try:
        for mount in mounts:
            _mount(mount, target)
            done += 1
        fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        for _ in range(done):
            kernel.umount2(target, flags=2)
        os.rmdir(target)


def _mount(mount: dict[str, Any], target: str) -> None:
    flags, data = 0, []
    for option in mount.get("options", ()):
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            data.append(option)
    kind = mount["type"]
    if kind not in ("bind", "overlay", "tmpfs"):
        raise errdefs.Unimplemented(f"diff: mounts of type {kind!r} are not supported")
    text = ",".join(data)
    if len(text) >= 4096:
        raise errdefs.ResourceExhausted(
            "diff: the overlay has more layers than one page of mount options holds"
        )
    kernel.mount(mount["source"], target, "" if kind == "bind" else kind, flags=flags, data=text)
    if kind == "bind" and flags & 1:
        kernel.mount("none", target, "", flags=_REMOUNT_BIND_RO)
