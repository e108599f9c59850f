"""Runs containers by the libcontainer of this project, in process: the one seam of the shim that knows the runtime."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.lib.log import Logger


def is_available() -> bool:
    """Whether this installation has it."""
    return False


def delete_now(root: str, id: str, log: Logger) -> None:
    """Removes a container by force, waiting for it."""
    raise NotImplementedError
