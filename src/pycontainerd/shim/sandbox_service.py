"""The sandbox service of a shim: a sandbox without a process of its own, whose containers this shim serves.

    created --Start--> ready --Stop--> not ready --Shutdown--> the shim leaves

Namespaces are the client's to make and to name in the specs of its containers, as with containerd's own runc shim.
Unlike there, Wait waits for Stop, Stop leaves the shim to Shutdown, and Shutdown refuses to leave containers behind.

Spec: containerd.runtime.sandbox.v1.Sandbox
"""

from __future__ import annotations

from time import time_ns

from pycontainerd.lib import errdefs
from pycontainerd.lib.api.light import runtime_sandbox_v1 as api
from pycontainerd.lib.api.light import types
from pycontainerd.shim.future import Future
from pycontainerd.shim.service import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainerd.shim.service import Service

READY, NOT_READY = "SANDBOX_READY", "SANDBOX_NOTREADY"


class SandboxService:
    """The methods are named as on the wire. One shim has one sandbox."""

    def __init__(self, tasks: Service, leave: Callable[[], None], shim_pid: int) -> None:
        self._tasks = tasks
        self._shim_pid = shim_pid
        self._leave = leave
        self._id = ""
        self._netns_path = ""
        self._created_at_nanos = 0
        self._exited_at_nanos = 0
        self._waiters: list[Future[None]] = []

    @property
    def _is_ready(self) -> bool:
        return bool(self._created_at_nanos) and not self._exited_at_nanos

    @property
    def is_there(self) -> bool:
        """Whether the shim has a sandbox, which the end of a container must not end."""
        return bool(self._id)

    def pack(self) -> dict[str, Any]:
        """For `unpack`; who waits for its end asks again there."""
        return {
            "id": self._id,
            "netns_path": self._netns_path,
            "created_at_nanos": self._created_at_nanos,
            "exited_at_nanos": self._exited_at_nanos,
        }

    def unpack(self, packed: dict[str, Any]) -> None:
        """Goes on with the sandbox of the service before."""
        self._id = packed["id"]
        self._netns_path = packed["netns_path"]
        self._created_at_nanos = packed["created_at_nanos"]
        self._exited_at_nanos = packed["exited_at_nanos"]

    async def CreateSandbox(self, request: api.CreateSandboxRequest) -> api.CreateSandboxResponse:  # noqa: N802 - wire name
        if self._id:
            raise errdefs.AlreadyExists(f"sandbox {self._id}: already exists")
        if request.rootfs:
            raise errdefs.Unimplemented(
                "a root file system of the sandbox itself is not supported by this shim"
            )
        self._id = request.sandbox_id
        self._netns_path = request.netns_path
        return api.CreateSandboxResponse()

    async def StartSandbox(self, request: api.StartSandboxRequest) -> api.StartSandboxResponse:  # noqa: N802
        self._require(request.sandbox_id)
        if self._created_at_nanos:
            raise errdefs.FailedPrecondition(f"sandbox {self._id} was started before: failed precondition")
        self._created_at_nanos = time_ns()
        return api.StartSandboxResponse(pid=self._shim_pid, created_at=timestamp(self._created_at_nanos))

    async def Platform(self, request: api.PlatformRequest) -> api.PlatformResponse:  # noqa: N802
        from pycontainerd.lib import platforms

        here = platforms.default()
        platform = types.Platform(os=here.os, architecture=here.architecture, variant=here.variant)
        return api.PlatformResponse(platform=platform)

    async def StopSandbox(self, request: api.StopSandboxRequest) -> api.StopSandboxResponse:  # noqa: N802
        self._require(request.sandbox_id)
        self._stop()
        return api.StopSandboxResponse()

    async def WaitSandbox(self, request: api.WaitSandboxRequest) -> api.WaitSandboxResponse:  # noqa: N802
        self._require(request.sandbox_id)
        if not self._exited_at_nanos:
            waiter: Future[None] = Future()
            self._waiters.append(waiter)
            await waiter
        return api.WaitSandboxResponse(exit_status=0, exited_at=timestamp(self._exited_at_nanos))

    async def SandboxStatus(self, request: api.SandboxStatusRequest) -> api.SandboxStatusResponse:  # noqa: N802
        self._require(request.sandbox_id)
        info = {"netns": self._netns_path} if request.verbose and self._netns_path else {}
        answer = api.SandboxStatusResponse(
            sandbox_id=self._id,
            pid=self._shim_pid,
            state=READY if self._is_ready else NOT_READY,
            info=info,
        )
        if self._created_at_nanos:
            answer.created_at = timestamp(self._created_at_nanos)
        if self._exited_at_nanos:
            answer.exited_at = timestamp(self._exited_at_nanos)
        return answer

    async def PingSandbox(self, request: api.PingRequest) -> api.PingResponse:  # noqa: N802
        return api.PingResponse()

    async def ShutdownSandbox(self, request: api.ShutdownSandboxRequest) -> api.ShutdownSandboxResponse:  # noqa: N802
        self._require(request.sandbox_id)
        if self._tasks.summary():
            raise errdefs.FailedPrecondition(
                f"sandbox {self._id} has containers, delete them first: failed precondition"
            )
        self._stop()
        self._leave()
        return api.ShutdownSandboxResponse()

    async def SandboxMetrics(self, request: api.SandboxMetricsRequest) -> api.SandboxMetricsResponse:  # noqa: N802
        # Without a process there is nothing to count: what its containers use, their own metrics say.
        self._require(request.sandbox_id)
        return api.SandboxMetricsResponse()

    def _require(self, id: str) -> None:
        if not self._id or id != self._id:
            raise errdefs.NotFound(f"sandbox {id}: not found")

    def _stop(self) -> None:
        if not self._exited_at_nanos:
            self._exited_at_nanos = time_ns()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.set(None)
