"""A shim of sandboxes for tests: serves containerd.runtime.sandbox.v1 and as much of the task API as a test looks at.

Run as a program by containerd's contract: `start` leaves a serving child behind and prints where it listens, `delete`
answers a DeleteResponse. Everything it is asked goes to `<bundle>/../calls`, one JSON line each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pycontainerd.lib.api.full import runtime_sandbox_v1, task_v2, task_v3, types, wkt
from pycontainerd.lib.errdefs import FailedPrecondition
from pycontainerd.lib.ttrpc import aio

START = wkt.Timestamp(seconds=1_700_000_000)


def script(path: Path) -> Path:
    """Writes the program that shims are named by."""
    source, tests = Path(__file__).parents[2] / "src", Path(__file__).parents[1]
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = [{str(source)!r}, {str(tests)!r}]\n"
        "from support.sandbox_shim import main\nmain(sys.argv)\n"
    )
    path.chmod(0o755)
    return path


def main(argv: list[str]) -> None:
    """One action."""
    flags = dict(zip(argv[1:-1:2], argv[2:-1:2], strict=False))
    action = argv[-1]
    if action == "start":
        address = f"{os.getcwd()}/s"
        child = subprocess.Popen(
            [*argv[:-1], "serve"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # a pipe of the daemon's, which it reads to its end
            start_new_session=True,
        )
        Path("pid").write_text(str(child.pid))
        while not os.path.exists(address):
            if child.poll() is not None:
                raise SystemExit(1)
            time.sleep(0.01)
        print(json.dumps({"version": 3, "address": f"unix://{address}", "protocol": "ttrpc"}), end="")
    elif action == "delete":
        _note(Path.cwd().parent / "calls", "delete", {"id": flags["-id"]})
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(Path("pid").read_text()), signal.SIGKILL)
        os.write(1, task_v2.DeleteResponse(exit_status=137).SerializeToString())
    else:
        asyncio.run(Shim().serve())


def _note(path: Path, method: str, request: dict[str, Any]) -> None:
    with path.open("a") as f:
        f.write(json.dumps([method, request]) + "\n")


class Shim:
    """The serving process."""

    def __init__(self) -> None:
        self._calls = Path.cwd().parent / "calls"
        self._ended = asyncio.Event()
        self._stopped = asyncio.Event()
        self._state = "SANDBOX_CREATED"

    async def serve(self) -> None:
        """Until ShutdownSandbox."""
        server = aio.Server()
        for name, service in (("sandbox", runtime_sandbox_v1.SANDBOX), ("task", task_v3.TASK)):
            for method in service.methods:
                handler = getattr(self, f"{name}_{method.name}".lower(), None)
                if handler is not None:
                    server.register(service.name, method.name, self._wrap(method, handler))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{os.getcwd()}/s")
        listener.listen()
        listener.setblocking(False)
        await server.listen(listener)
        await self._ended.wait()
        await asyncio.sleep(0.05)  # the answer goes out first
        await server.close()

    def _wrap(self, method: Any, handler: Any) -> Any:
        async def call(_: Any, payload: bytes) -> bytes:
            request = method.request.FromString(payload)
            fields = {f.name: str(getattr(request, f.name)) for f in request.DESCRIPTOR.fields}
            _note(self._calls, method.name, {key: value for key, value in fields.items() if value})
            answer: bytes = (await handler(request)).SerializeToString()
            return answer

        return call

    async def sandbox_createsandbox(self, request: Any) -> Any:
        if request.annotations.get("fail") == "create":
            raise FailedPrecondition("told to fail")
        return runtime_sandbox_v1.CreateSandboxResponse()

    async def sandbox_startsandbox(self, request: Any) -> Any:
        del request
        self._state = "SANDBOX_READY"
        return runtime_sandbox_v1.StartSandboxResponse(pid=os.getpid(), created_at=START)

    async def sandbox_platform(self, request: Any) -> Any:
        del request
        return runtime_sandbox_v1.PlatformResponse(
            platform=types.Platform(os="linux", architecture="riscv64")
        )

    async def sandbox_pingsandbox(self, request: Any) -> Any:
        del request
        return runtime_sandbox_v1.PingResponse()

    async def sandbox_sandboxstatus(self, request: Any) -> Any:
        info = {"more": "said"} if request.verbose else {}
        return runtime_sandbox_v1.SandboxStatusResponse(
            sandbox_id=request.sandbox_id, pid=os.getpid(), state=self._state, info=info, created_at=START
        )

    async def sandbox_sandboxmetrics(self, request: Any) -> Any:
        data = wkt.Any(type_url="x.Metrics", value=b"\x01")
        metric = types.Metric(timestamp=START, id=request.sandbox_id, data=data)
        return runtime_sandbox_v1.SandboxMetricsResponse(metrics=metric)

    async def sandbox_stopsandbox(self, request: Any) -> Any:
        del request
        self._state = "SANDBOX_NOTREADY"
        self._stopped.set()
        return runtime_sandbox_v1.StopSandboxResponse()

    async def sandbox_waitsandbox(self, request: Any) -> Any:
        del request
        await self._stopped.wait()
        return runtime_sandbox_v1.WaitSandboxResponse(exit_status=3, exited_at=START)

    async def sandbox_shutdownsandbox(self, request: Any) -> Any:
        del request
        self._ended.set()
        return runtime_sandbox_v1.ShutdownSandboxResponse()

    async def task_create(self, request: Any) -> Any:
        del request
        return task_v3.CreateTaskResponse(pid=os.getpid())

    async def task_delete(self, request: Any) -> Any:
        del request
        return task_v3.DeleteResponse(pid=os.getpid(), exit_status=0, exited_at=START)

    async def task_state(self, request: Any) -> Any:
        return task_v3.StateResponse(id=request.id, pid=os.getpid(), status=2)

    async def task_shutdown(self, request: Any) -> Any:
        del request
        self._ended.set()
        return wkt.Empty()
