"""Another process in a running container.

Spec: containerd docs/runtime-v2.md#exec
"""

from __future__ import annotations

import os

from pycontainerd.lib import errdefs
from pycontainerd.shim.process import state
from pycontainerd.shim.process.base import Process
from pycontainerd.shim.process.init import kill_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.shim.attendant import Pack
    from pycontainerd.shim.io import Stdio
    from pycontainerd.shim.io_open import Owner
    from pycontainerd.shim.process.init import Init
    from pycontainerd.shim.world import World


class Exec(Process):
    """Added by Exec, run by Start."""

    forbids = state.EXEC_FORBIDS

    def __init__(
        self, world: World, id: str, stdio: Stdio, owner: Owner, parent: Init, process: bytes, bundle: str
    ) -> None:
        super().__init__(world, id, stdio, owner)
        self._parent = parent
        self._process = process
        self._bundle = bundle

    def pack(self, pack: Pack) -> dict[str, Any]:
        """With the description of a process that has yet to be started."""
        return {**super().pack(pack), "process": self._process.decode("utf-8", "surrogateescape")}

    @property
    def status(self) -> str:
        """Its own state, or its container's while that is frozen."""
        parents = self._parent.status
        return parents if parents in ("pausing", state.PAUSED) else self.state

    async def start(self) -> None:
        """Runs it."""
        async with self.lock:
            self.require("start")
            try:
                await self.run_with_streams(
                    "OCI runtime exec failed",
                    lambda stdio, console: self._parent.runtime.exec(
                        self._parent.id, self.id, self._process, stdio, console
                    ),
                )
            except errdefs.ContainerdError:
                self.release_waiters()
                raise
            self.move(state.RUNNING)

    async def delete(self) -> None:
        """Forgets it; its streams are copied to their end first."""
        async with self.lock:
            self.require("delete")
            await self.close_streams()
            self._remove_pid_file()
            self.state = state.DELETED

    def _remove_pid_file(self) -> None:
        try:
            os.unlink(f"{self._bundle}/{self.id}.pid")
        except FileNotFoundError:
            pass  # it was never started

    async def kill(self, signal: int, everyone: bool) -> None:
        """Signals this one process."""
        self.require("kill")
        if self.pid == 0:
            raise errdefs.FailedPrecondition("process not created: failed precondition")
        if self.state == state.STOPPED:
            raise errdefs.NotFound("process already finished: not found")
        try:
            os.kill(self.pid, signal)
        except ProcessLookupError as e:
            raise errdefs.NotFound("exec kill error: process already finished: not found") from e
        except OSError as e:
            raise kill_error(f"exec kill error: {e.strerror}") from e
