"""What every part of a serving shim is given: loop, reaper, log, and whose shim it is."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.lib.log import Logger
    from pycontainerd.shim.loop import Loop
    from pycontainerd.shim.reaper import Reaper


class World:
    """Handed down from `serve`; nothing here is reached by import."""

    __slots__ = ("address", "log", "loop", "namespace", "reaper")

    def __init__(self, loop: Loop, reaper: Reaper, log: Logger, namespace: str, address: str) -> None:
        self.loop = loop
        self.reaper = reaper
        self.log = log
        self.namespace = namespace
        self.address = address
