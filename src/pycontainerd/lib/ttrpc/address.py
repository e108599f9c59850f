"""Addresses of unix sockets as containerd writes them: `unix:///path`, a bare path, `unix://\\x00abstract`.

Man: unix(7)
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SUN_PATH_MAX: Final = 107  # bytes of sun_path less its NUL


def socket_path(address: str) -> str:
    """What bind(2) and connect(2) take. Raises InvalidArgument for another scheme or a path too long for the kernel."""
    path = address.removeprefix("unix://")
    if "://" in path:
        raise InvalidArgument(f"address {address!r} is not a unix socket")
    if not path:
        raise InvalidArgument("address of a unix socket is empty")
    if len(path.encode()) > SUN_PATH_MAX:
        raise InvalidArgument(f"unix socket path {path!r} is too long (> {SUN_PATH_MAX} bytes)")
    return path


def shim_address(directory: str, daemon_address: str, namespace: str, container_id: str) -> str:
    """Where the shim of a container listens: found again by anyone who knows the three."""
    import os

    from pycontainerd.lib.sha256 import hexdigest

    joined = os.path.normpath("/".join(part for part in (daemon_address, namespace, container_id) if part))
    return f"unix://{directory}/{hexdigest(joined.encode())}"
