"""The first process of a container, and with it the container's own life.

Spec: containerd docs/runtime-v2.md, runtime-spec runtime.md#lifecycle
"""

from __future__ import annotations

from pycontainerd.lib import errdefs
from pycontainerd.shim.process import state
from pycontainerd.shim.process.base import Process
from pycontainerd.shim.runc import RuntimeFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from pycontainerd.shim.io import Stdio
    from pycontainerd.shim.io_open import Owner
    from pycontainerd.shim.world import World

    class Runtime(Protocol):
        """What makes and keeps containers: a program (runc.py) or libcontainer in a worker (libcontainer.py)."""

        async def create(self, id: str, stdio: Sequence[int], console_socket: str) -> int:
            """Gives init's pid; init waits for `start`."""

        async def start(self, id: str) -> None:
            """Lets init run."""

        async def exec(
            self, id: str, exec_id: str, process: bytes, stdio: Sequence[int], console_socket: str
        ) -> int:
            """Gives the new process's pid."""

        async def kill(self, id: str, signal: int, everyone: bool) -> None:
            """Signals init or everyone."""

        async def delete(self, id: str, *, force: bool = False) -> None:
            """Removes what the kernel and the state folder hold."""

        async def pause(self, id: str) -> None:
            """Freezes."""

        async def resume(self, id: str) -> None:
            """Thaws."""

        async def update(self, id: str, resources: bytes) -> None:
            """New limits."""

        async def processes(self, id: str) -> list[int]:
            """Host pids."""


class Init(Process):
    """Init of one container."""

    forbids = state.INIT_FORBIDS

    def __init__(self, world: World, id: str, stdio: Stdio, owner: Owner, runtime: Runtime) -> None:
        super().__init__(world, id, stdio, owner)
        self.runtime = runtime
        self.is_pausing = False

    @property
    def status(self) -> str:
        """created, running, pausing, paused, stopped or deleted."""
        return "pausing" if self.is_pausing else self.state

    async def create(self) -> None:
        """Makes the container."""
        await self.run_with_streams(
            "OCI runtime create failed", lambda stdio, console: self.runtime.create(self.id, stdio, console)
        )

    async def start(self) -> None:
        """Runs the container's program."""
        async with self.lock:
            self.require("start")
            await self._ask(self.runtime.start(self.id), "OCI runtime start failed")
            self.move(state.RUNNING)

    async def delete(self) -> None:
        """Removes the container; its streams are copied to their end first."""
        async with self.lock:
            self.require("delete")
            never_started = self.state == state.CREATED
            if not never_started:
                await self.close_streams()
            try:
                await self.runtime.delete(self.id)
            except RuntimeFailed as e:
                # A runtime that has lost it already has done what was asked.
                if "does not exist" not in f"{e} {e.said}":
                    raise e.in_words("failed to delete task") from e
            if never_started:  # only now do its streams end
                await self.close_streams()
            self.state = state.DELETED

    async def kill(self, signal: int, everyone: bool) -> None:
        """Signals it. Takes no lock: a start that hangs must be killable."""
        self.require("kill")
        try:
            await self.runtime.kill(self.id, signal, everyone)
        except RuntimeFailed as e:
            raise kill_error(str(e)) from e

    async def pause(self) -> None:
        """Freezes the container."""
        async with self.lock:
            self.require("pause")
            self.is_pausing = True
            try:
                await self._ask(self.runtime.pause(self.id), "OCI runtime pause failed")
            finally:
                self.is_pausing = False
            self.move(state.PAUSED)

    async def resume(self) -> None:
        """Thaws it."""
        async with self.lock:
            self.require("resume")
            await self._ask(self.runtime.resume(self.id), "OCI runtime resume failed")
            self.move(state.RUNNING)

    async def update(self, resources: bytes) -> None:
        """Sets new limits."""
        async with self.lock:
            self.require("update")
            await self._ask(self.runtime.update(self.id, resources), "OCI runtime update failed")

    async def _ask(self, answer: object, prefix: str) -> None:
        try:
            await answer  # type: ignore[misc]  # a coroutine of Runtime
        except RuntimeFailed as e:
            raise e.in_words(prefix) from e


def require_resources(data: bytes) -> None:
    """Raises Unknown, in Go's words, for what is no LinuxResources document."""
    from pycontainerd.lib.oci import document

    try:
        found = document.loads(data)
    except document.DocumentError as e:
        text = "unexpected end of JSON input" if str(e) == "unexpected EOF" else str(e)
        raise errdefs.Unknown(text) from e
    if not isinstance(found, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(found), "number")
        raise errdefs.Unknown(f"json: cannot unmarshal {kind} into Go value of type specs.LinuxResources")


def kill_error(text: str) -> errdefs.ContainerdError:
    """What a failed kill is called: the process or the container may simply be gone."""
    lowered = text.lower()
    if any(s in lowered for s in ("process already finished", "container not running", "no such process")):
        return errdefs.NotFound("process already finished: not found")
    if "does not exist" in lowered:
        return errdefs.NotFound("no such container: not found")
    return errdefs.Unknown(f"unknown error after kill: {text}")
