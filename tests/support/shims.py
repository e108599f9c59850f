"""A shim under test without a daemon: a bundle, a starter, an events server, and task calls by name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycontainerd.lib import errdefs, spawn
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import events, events_ttrpc_v1, runc_v1, task_v2, wkt
from pycontainerd.lib.ttrpc import aio
from pycontainerd.lib.ttrpc.client import Client
from pycontainerd.shim import attendant
from support import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMESPACE = "suite"
SOCKETS = "/run/containerd/s"
APPLETS = [
    "sh",
    "cat",
    "echo",
    "sleep",
    "true",
    "ls",
    "ps",
    "kill",
    "stty",
    "seq",
    "head",
    "tail",
    "dd",
    "id",
    "env",
    "tty",
    "test",
    "yes",
    "touch",
]
EVENTS = {cls.FULL_NAME: cls for cls in (getattr(events, name) for name in events.__all__)}


def make_rootfs(path: Path) -> Path:
    """A root filesystem of static busybox."""
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "run"):
        (path / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(programs.peer("busybox"), path / "bin/busybox")
    for applet in APPLETS:
        (path / "bin" / applet).symlink_to("busybox")
    return path


def process_document(*args: str, terminal: bool = False) -> dict[str, Any]:
    """A Process of the runtime-spec."""
    capabilities = ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
    }


def spec_document(
    rootfs: Path, container_id: str, *args: str, terminal: bool = False, own_pids: bool = True
) -> dict[str, Any]:
    """A small config.json."""
    kinds = ["mount", "ipc", "uts", "network", *(["pid"] if own_pids else [])]
    return {
        "ociVersion": "1.0.2",
        "process": process_document(*args, terminal=terminal),
        "root": {"path": str(rootfs)},
        "hostname": "suite",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666"],
            },
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "cgroupsPath": f"/{NAMESPACE}/{container_id}",
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


class EventServer:
    """A daemon's ttrpc socket that only takes events, in a thread."""

    def __init__(self, path: str) -> None:
        self.address = path
        self.received: list[tuple[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(ready)))
        self._thread.start()
        ready.wait(10)

    async def _serve(self, ready: threading.Event) -> None:
        server = aio.Server()
        server.register(events_ttrpc_v1.EVENTS.name, "Forward", self._forward)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.address)
        await server.listen(listener)
        ready.set()
        await self._stop.wait()
        await server.close()

    async def _forward(self, call: aio.Call, payload: bytes) -> bytes:
        envelope = events_ttrpc_v1.ForwardRequest.FromString(payload).envelope
        assert envelope.namespace == NAMESPACE
        name = envelope.event.type_url
        self.received.append((envelope.topic, EVENTS[name].FromString(envelope.event.value)))
        return wkt.Empty().SerializeToString()

    def topics(self) -> list[str]:
        """In the order of arrival."""
        return [topic for topic, _ in self.received]

    def wait_for(self, topic: str, count: int = 1, timeout_s: float = 10) -> Any:
        """The last of `count` events of a topic."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = [event for seen, event in tuple(self.received) if seen == topic]
            if len(found) >= count:
                return found[count - 1]
            time.sleep(0.005)
        raise AssertionError(f"no {count} x {topic} among {self.topics()}")

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()


class Fifos:
    """The client's ends of a process's streams."""

    def __init__(self, folder: Path, name: str, *, terminal: bool = False) -> None:
        self.stdin, self.stdout, self.stderr = (
            str(folder / f"{name}-{end}") for end in ("stdin", "stdout", "stderr")
        )
        for path in (self.stdin, self.stdout, *([] if terminal else [self.stderr])):
            os.mkfifo(path)
        if terminal:
            self.stderr = ""
        self.terminal = terminal
        # The stock shim opens its ends one after another and waits for ours each time.
        self._out_fd = os.open(self.stdout, os.O_RDONLY | os.O_NONBLOCK)
        self._err_fd = os.open(self.stderr, os.O_RDONLY | os.O_NONBLOCK) if self.stderr else -1

    def fields(self) -> dict[str, Any]:
        return {"stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr, "terminal": self.terminal}

    def read_until(self, wanted: bytes, timeout_s: float = 10) -> bytes:
        """Output up to and including something."""
        deadline = time.monotonic() + timeout_s
        data = b""
        while wanted not in data:
            if time.monotonic() > deadline:
                raise AssertionError(f"{wanted!r} not in {data!r}")
            try:
                chunk = os.read(self._out_fd, 65536)
            except BlockingIOError:
                chunk = b""
            data += chunk
            if not chunk:
                time.sleep(0.005)
        return data

    def read_all(self, timeout_s: float = 20) -> bytes:
        """Output to its end; to be called when the container already writes or has ended."""
        deadline = time.monotonic() + timeout_s
        data = b""
        while True:
            try:
                chunk = os.read(self._out_fd, 1 << 20)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AssertionError(f"no end after {len(data)} bytes") from None
                time.sleep(0.002)
                continue
            if not chunk:
                return data
            data += chunk

    def write(self, data: bytes) -> None:
        fd = os.open(self.stdin, os.O_WRONLY)
        os.write(fd, data)
        os.close(fd)

    def close(self) -> None:
        for fd in (self._out_fd, self._err_fd):
            if fd >= 0:
                os.close(fd)
        self._out_fd = self._err_fd = -1


class ShimUnderTest:
    """One shim and its container. `start()` is what backends differ in."""

    program = programs.ours("containerd-shim-pyrunc-v2")
    orders_events = True
    copies_all = True

    def __init__(self, folder: Path, rootfs: Path, container_id: str = "c1") -> None:
        self.folder = folder
        self.rootfs = rootfs
        self.id = container_id
        self.bundle = folder / NAMESPACE / container_id
        self.bundle.mkdir(parents=True)
        self.events = EventServer(str(folder / "ev"))
        self.grpc_address = str(folder / "c.sock")
        self.client: Client | None = None
        self.address = ""
        self.pid = 0
        self._fifos: list[Fifos] = []
        os.mkfifo(self.bundle / "log", 0o700)
        self._log_fd = os.open(self.bundle / "log", os.O_RDONLY | os.O_NONBLOCK)

    # -- starting -----------------------------------------------------------------------------------------------------

    def write_spec(self, *args: str, **options: Any) -> None:
        """config.json; sandbox annotations go in by `annotations`."""
        annotations = options.pop("annotations", None)
        memory_limit = options.pop("memory_limit", 0)
        document = spec_document(self.rootfs, self.id, *args, **options)
        if annotations:
            document["annotations"] = annotations
        if memory_limit:
            document["linux"]["resources"]["memory"] = {"limit": memory_limit, "swap": memory_limit}
        (self.bundle / "config.json").write_text(json.dumps(document))

    @contextlib.contextmanager
    def second_bundle(self, container_id: str) -> Iterator[None]:
        """Another container's id and bundle for a while."""
        before = self.id, self.bundle
        self.id, self.bundle = container_id, self.folder / NAMESPACE / container_id
        self.bundle.mkdir()
        os.mkfifo(self.bundle / "log", 0o700)
        yield
        self.id, self.bundle = before

    def start_argv(self, action: str = "start", *more: str) -> list[str]:
        """The daemon's command line."""
        flags = [
            "-namespace",
            NAMESPACE,
            "-address",
            self.grpc_address,
            "-publish-binary",
            "/bin/false",
            "-id",
            self.id,
        ]
        return [self.program, *flags, *more, action]

    def environment(self) -> dict[str, str]:
        """What a daemon gives a shim."""
        return programs.peer_environment(
            TTRPC_ADDRESS=self.events.address, GRPC_ADDRESS=self.grpc_address, NAMESPACE=NAMESPACE
        )

    def start(self) -> None:
        """By exec."""
        done = subprocess.run(
            self.start_argv("start", "-debug"),
            cwd=self.bundle,
            env=self.environment(),
            input=b"",
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done
        assert done.stderr == b""
        self.connect(done.stdout.decode())

    def connect(self, address: str) -> None:
        """To a shim that listens."""
        self.address = address
        self.client = Client.connect(address)
        self.pid = self.call("Connect", id=self.id).shim_pid

    # -- calls --------------------------------------------------------------------------------------------------------

    def call(self, method: str, timeout_s: float = 30, **fields: Any) -> Any:
        """A task method with its request's fields."""
        described = next(m for m in task_v2.TASK.methods if m.name == method)
        assert self.client is not None
        data = self.client.call(
            task_v2.TASK.name, method, described.request(**fields).SerializeToString(), timeout_s=timeout_s
        )
        return described.response.FromString(data)

    def options(self) -> runc_v1.Options:
        """The runtime's options: real runc, and its state under the test's folder."""
        return runc_v1.Options(binary_name=programs.peer("runc"), root=str(self.folder / "runc"))

    def fifos(self, name: str, *, terminal: bool = False) -> Fifos:
        """New streams; closed with the shim."""
        made = Fifos(self.folder, name, terminal=terminal)
        self._fifos.append(made)
        return made

    def create(
        self, *args: str, terminal: bool = False, stdio: dict[str, Any] | None = None, **spec: Any
    ) -> Fifos | None:
        """config.json, a shim, a created container; gives its streams."""
        self.write_spec(*args, terminal=terminal, **spec)
        self.start()
        streams = None
        if stdio is None:
            streams = self.fifos("init", terminal=terminal)
            stdio = streams.fields()
        self.call("Create", id=self.id, bundle=str(self.bundle), options=anys.pack(self.options()), **stdio)
        return streams

    def run(self, *args: str, **more: Any) -> Fifos:
        """Created and started."""
        streams = self.create(*args, **more)
        self.call("Start", id=self.id)
        return streams  # type: ignore[return-value]

    def exec(self, exec_id: str, *args: str, terminal: bool = False) -> Fifos:
        """Added and started."""
        streams = self.add_exec(exec_id, *args, terminal=terminal)
        self.call("Start", id=self.id, exec_id=exec_id)
        return streams

    def add_exec(self, exec_id: str, *args: str, terminal: bool = False) -> Fifos:
        """Added only."""
        streams = self.fifos(exec_id, terminal=terminal)
        value = json.dumps(process_document(*args)).encode()
        spec = wkt.Any(type_url=anys.PROCESS_URL, value=value)
        self.call("Exec", id=self.id, exec_id=exec_id, spec=spec, **streams.fields())
        return streams

    def status(self, exec_id: str = "") -> int:
        """As a number of containerd.v1.types.Status."""
        return int(self.call("State", id=self.id, exec_id=exec_id).status)

    def log(self) -> str:
        """What the shim has logged since the last call."""
        data = b""
        while True:
            try:
                chunk = os.read(self._log_fd, 65536)
            except BlockingIOError:
                break
            if not chunk:
                break
            data += chunk
        return data.decode()

    # -- ending -------------------------------------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Whether the shim process runs."""
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def wait_gone(self, timeout_s: float = 10) -> None:
        """The shim has ended."""
        deadline = time.monotonic() + timeout_s
        while self.is_alive():
            assert time.monotonic() < deadline, "the shim is still there"
            time.sleep(0.01)

    def close(self) -> None:
        """Whatever state a test left it in: the container, the shim, the files."""
        if self.client is not None and not self.client.closed and self.is_alive():
            self._end_container()
        if self.client is not None:
            self.client.close()
        if self.pid and self.is_alive():
            os.kill(self.pid, signal.SIGKILL)
            self.wait_gone()
        subprocess.run(
            [
                programs.peer("runc"),
                "--root",
                str(self.folder / "runc" / NAMESPACE),
                "delete",
                "--force",
                self.id,
            ],
            capture_output=True,
            check=False,
        )
        if self.address:
            Path(self.address.removeprefix("unix://")).unlink(missing_ok=True)
        for streams in self._fifos:
            streams.close()
        os.close(self._log_fd)
        self.events.close()
        # Runtimes leave the parent of a container's cgroup.
        for parent in Path("/sys/fs/cgroup").glob(f"*/{NAMESPACE}"):
            if not any(
                child.is_dir() for child in parent.iterdir()
            ):  # another shim's container is still there
                parent.rmdir()

    def _end_container(self) -> None:
        calls: tuple[Callable[[], Any], ...] = (
            lambda: self.call("Kill", id=self.id, signal=9, all=True),
            lambda: self.call("Wait", id=self.id, timeout_s=10),
            lambda: self.call("Delete", id=self.id),
            lambda: self.call("Shutdown", id=self.id),
        )
        for call in calls:
            try:
                call()
            except errdefs.ContainerdError:
                continue  # the test went further than this
        try:
            self.wait_gone(2)
        except AssertionError:
            return


class StockShim(ShimUnderTest):
    """containerd's own, to judge the suite. Of two streams into one file it may lose what came last: seen once in a hundred."""

    copies_all = False

    @property
    def program(self) -> str:  # type: ignore[override]
        return programs.peer("containerd-shim-runc-v2")


class V1Shim(ShimUnderTest):
    """Ours for io.containerd.runc.v1: one for each container."""

    program = programs.ours("containerd-shim-pyrunc-v1")


class StockV1Shim(ShimUnderTest):
    """containerd 1.6's for io.containerd.runc.v1. A short process can end before its start is told: seen once in a hundred."""

    orders_events = False

    @property
    def program(self) -> str:  # type: ignore[override]
        return programs.peer("containerd-shim-runc-v1")


class InProcessShim(ShimUnderTest):
    """Ours, with libcontainer in process."""

    def let_rest(self) -> None:
        """It never does."""

    def options(self) -> runc_v1.Options:
        """No program is named."""
        return runc_v1.Options(root=str(self.folder / "runc"))


class ForkedShim(InProcessShim):
    """Ours, from a forkserver."""

    forkserver: spawn.SpawnClient

    def start(self) -> None:
        """By the forkserver's protocol."""
        request = spawn.ShimRequest(
            str(self.bundle), self.start_argv("start", "-debug"), self.environment(), str(self.bundle)
        )
        spawned = self.forkserver.spawn_shim(request)
        self.connect(spawned.output.decode())
        if spawned.pid:  # a group's shim that was there already is nobody's new process
            os.close(spawned.pidfd)
            assert self.pid == spawned.pid


def attendant_of(shim_pid: int) -> int:
    """The process that acts for a forked shim just now; 0 while it rests."""
    for task in os.listdir(f"/proc/{shim_pid}/task"):
        for pid in Path(f"/proc/{shim_pid}/task/{task}/children").read_text().split():
            with contextlib.suppress(OSError):
                if f": attends to {shim_pid}" in Path(f"/proc/{pid}/cmdline").read_text():
                    return int(pid)
    return 0


class RestingShim(ForkedShim):
    """Ours, from a forkserver, with a rest before every call that finds nothing under way."""

    QUIET_S = 0.01
    rests = 0

    def environment(self) -> dict[str, str]:
        return {**super().environment(), attendant.QUIET_ENV: str(self.QUIET_S)}

    def let_rest(self) -> None:
        """Waits until it rests, or goes on with something for longer than it takes to see that it doesn't."""
        deadline = time.monotonic() + 20 * self.QUIET_S
        while self.pid and time.monotonic() < deadline:
            if not attendant_of(self.pid):
                self.rests += 1
                break
            time.sleep(self.QUIET_S / 5)

    def call(self, method: str, timeout_s: float = 30, **fields: Any) -> Any:
        self.let_rest()
        return super().call(method, timeout_s, **fields)
