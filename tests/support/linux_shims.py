"""A shim of runtime v1 under test without a daemon: `containerd-shim`, Debian's or ours, and its calls by name."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from pycontainerd.lib import errdefs
from pycontainerd.lib.api.anys import PROCESS_URL, pack
from pycontainerd.lib.api.light import events, runctypes, shim_v1, wkt
from pycontainerd.lib.ttrpc.client import Client
from support import programs, shims

if TYPE_CHECKING:
    from pathlib import Path

_RECORDER = (
    '#!/bin/sh\nfile=$(mktemp {folder}/event.XXXXXX)\n{{ echo "$*"; cat; }} > $file\nmv $file $file.done\n'
)
_INHERIT = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"


def program(kind: str) -> str:
    """ "stock" or "ours"."""
    return programs.ours("containerd-shim-py") if kind == "ours" else programs.peer("containerd-shim")


class LinuxShim(shims.ShimUnderTest):
    """One shim of one container, on a socket of its own, with a program that writes down what is published."""

    def __init__(self, folder: Path, rootfs: Path, kind: str) -> None:
        super().__init__(folder, rootfs)
        self.program = program(kind)
        self.workdir = folder / "work"
        self.workdir.mkdir()
        self.recorder = folder / "containerd"
        self.recorder.write_text(_RECORDER.format(folder=folder))
        self.recorder.chmod(0o755)
        self._logs = {}
        for name in ("stdout", "stderr"):
            os.mkfifo(self.workdir / f"shim.{name}.log", 0o700)
            self._logs[name] = os.open(self.workdir / f"shim.{name}.log", os.O_RDWR | os.O_NONBLOCK)
        self._process: subprocess.Popen[bytes] | None = None

    def flags(self, *more: str) -> list[str]:
        """The daemon's command line."""
        return [
            *("-namespace", shims.NAMESPACE, "-workdir", str(self.workdir), "-address", self.grpc_address),
            *(
                "-containerd-binary",
                str(self.recorder),
                "-runtime-root",
                str(self.folder / "runc"),
                "-debug",
                *more,
            ),
        ]

    def start(self) -> None:
        """By exec, with a listener as fd 3, as the daemon does it."""
        self.address = str(self.folder / "shim.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            fd = listener.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-ISc", _INHERIT, str(fd), self.program, *self.flags()],
                cwd=self.bundle,
                env=programs.peer_environment(),
                pass_fds=[fd],
            )
        self.client = Client.connect(self.address)
        self.pid = self.call("ShimInfo").shim_pid

    def start_by_name(self) -> None:
        """By exec, with a socket that it makes itself."""
        self.address = str(self.folder / "named.sock")
        argv = [self.program, *self.flags("-socket", self.address)]
        self._process = subprocess.Popen(argv, cwd=self.bundle, env=programs.peer_environment())
        deadline = time.monotonic() + 10
        while not os.path.exists(self.address):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.client = Client.connect(self.address)
        self.pid = self.call("ShimInfo").shim_pid

    def kill(self) -> None:
        """Ends it as a daemon does, whatever it serves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def call(self, method: str, timeout_s: float = 30, **fields: Any) -> Any:
        """A method of the shim with its request's fields."""
        described = next(m for m in shim_v1.SHIM.methods if m.name == method)
        assert self.client is not None
        payload = described.request(**fields).SerializeToString()
        data = self.client.call(shim_v1.SHIM.name, method, payload, timeout_s=timeout_s)
        return described.response.FromString(data)

    def create(
        self, *args: str, terminal: bool = False, stdio: dict[str, Any] | None = None, **spec: Any
    ) -> shims.Fifos | None:
        """config.json, a shim, a created container; gives its streams."""
        options = spec.pop("create_options", runctypes.CreateOptions())
        runtime = spec.pop("runtime", "runc")
        self.write_spec(*args, terminal=terminal, **spec)
        self.start()
        streams = None
        if stdio is None:
            streams = self.fifos("init", terminal=terminal)
            stdio = streams.fields()
        self.call(
            "Create", id=self.id, bundle=str(self.bundle), runtime=runtime, options=pack(options), **stdio
        )
        return streams

    def add_exec(self, exec_id: str, *args: str, terminal: bool = False) -> shims.Fifos:
        """Added only."""
        streams = self.fifos(exec_id, terminal=terminal)
        value = json.dumps(shims.process_document(*args)).encode()
        self.call("Exec", id=exec_id, spec=wkt.Any(type_url=PROCESS_URL, value=value), **streams.fields())
        return streams

    def exec(self, exec_id: str, *args: str, terminal: bool = False) -> shims.Fifos:
        """Added and started."""
        streams = self.add_exec(exec_id, *args, terminal=terminal)
        self.call("Start", id=exec_id)
        return streams

    def status(self, exec_id: str = "") -> int:
        """As a number of containerd.v1.types.Status."""
        return int(self.call("State", id=exec_id or self.id).status)

    def published(self, count: int = 1, timeout_s: float = 10) -> list[tuple[str, events.TaskExit]]:
        """(arguments, event) of the first publications, once there are `count`."""
        deadline = time.monotonic() + timeout_s
        while len(found := sorted(self.folder.glob("event.*.done"), key=os.path.getmtime)) < count:
            assert time.monotonic() < deadline, f"{len(found)} events"
            time.sleep(0.01)
        rows = []
        for path in found:
            words, _, data = path.read_bytes().partition(b"\n")
            value = wkt.Any.FromString(data)
            assert re.fullmatch(r"containerd\.events\.TaskExit", value.type_url)
            rows.append((words.decode(), events.TaskExit.FromString(value.value)))
        return rows

    def wait_gone(self, timeout_s: float = 10) -> None:
        """The shim has ended; its status is known."""
        assert self._process is not None
        self._process.wait(timeout_s)

    def log(self) -> str:
        """What the shim has logged since the last call."""
        try:
            return os.read(self._logs["stdout"], 65536).decode()
        except BlockingIOError:
            return ""

    def _end_container(self) -> None:
        for method, fields in (
            ("Kill", {"signal": 9, "all": True}),
            ("Wait", {"id": self.id}),
            ("Delete", {}),
        ):
            with contextlib.suppress(errdefs.ContainerdError):  # the test went further than this
                self.call(method, timeout_s=10, **fields)
        self.kill()

    def close(self) -> None:
        """Whatever state a test left it in."""
        super().close()
        for fd in self._logs.values():
            os.close(fd)
        if self._process is not None and self._process.poll() is None:
            self.kill()
