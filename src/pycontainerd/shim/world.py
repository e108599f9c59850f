"""What every part of a serving shim is given: loop, reaper, log, and whose shim it is."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.lib.log import Logger
    from pycontainerd.shim.loop import Loop
    from pycontainerd.shim.reaper import Reaper


class World:
    """Handed down from `serve`; nothing here is reached by import."""

    __slots__ = ("address", "log", "loop", "namespace", "reaper", "shim_pid")

    def __init__(
        self, loop: Loop, reaper: Reaper, log: Logger, namespace: str, address: str, shim_pid: int = 0
    ) -> None:
        self.loop = loop
        self.reaper = reaper
        self.log = log
        self.namespace = namespace
        self.address = address
        # Another process's where this one only attends to a shim: what it makes for good are children of that one.
        self.shim_pid = shim_pid or os.getpid()
