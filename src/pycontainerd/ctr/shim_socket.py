"""Where the socket of a container's shim may be."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

_SOCKETS: Final = "/run/containerd/s"


def candidates(address: str, namespace: str, container_id: str) -> list[str]:
    """sha256(daemon's address / namespace / id) below the sockets' folder, and what the bundle says."""
    import hashlib

    name = os.path.normpath(f"{address}/{namespace}/{container_id}")
    found = [f"{_SOCKETS}/{hashlib.sha256(name.encode()).hexdigest()}"]
    # A shim that chose another socket wrote it into its bundle.
    file = f"{os.path.dirname(address)}/io.containerd.runtime.v2.task/{namespace}/{container_id}/address"
    if os.path.exists(file):
        with open(file, encoding="utf-8") as text:
            found.append(text.read().strip().removeprefix("unix://"))
    return found
