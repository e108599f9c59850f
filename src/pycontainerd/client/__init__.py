"""Client of the containerd API: `Containerd` for scripts (docs/python-client.md); the modules beside it for ctr and dockerd."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.client.objects.containerd import Containerd as Containerd

__all__ = ["Containerd"]


def __getattr__(name: str) -> Any:
    """Containerd, loaded when it is asked for: ctr's commands don't."""
    if name == "Containerd":
        from pycontainerd.client.objects.containerd import Containerd

        return Containerd
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
