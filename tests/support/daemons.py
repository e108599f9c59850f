"""A daemon of ours or the real one, started under a folder of the test's own, and clients for both."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from support.programs import containerd_since_1_7, ours, peer, peer_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REAL_CONFIG = """version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{folder}/c.sock"
[debug]
  level = "{level}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
"""
OUR_CONFIG = """version = 2
[plugins."io.containerd.shim.v1.manager"]
  starter = "{starter}"
{extra}
"""
STOCK_SHIM = 'runtime_paths = {{"io.containerd.runc.v2" = "{path}"}}'


class Daemon:
    """A running daemon: `folder` holds root, state, sockets and log."""

    def __init__(
        self,
        folder: Path,
        *,
        real: bool,
        config_extra: str = "",
        level: str = "info",
        starter: str = "exec",
        config: str = "",
    ) -> None:
        """`config` is a whole config.toml for both kinds, `{folder}` in it the folder; its paths must be like REAL_CONFIG's."""
        self.folder = folder
        self.real = real
        self.address = f"{folder}/c.sock"
        self.log_path = folder / "log"
        self._level = level
        self._config_extra = config_extra
        self._config = config
        self._starter = starter
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *arguments: str) -> Daemon:
        """Starts it and waits until it serves."""
        config = self.folder / "config.toml"
        if self._config:
            text = self._config.replace("{folder}", str(self.folder))
        elif self.real:
            text = REAL_CONFIG.format(folder=self.folder, level=self._level)
        else:
            text = OUR_CONFIG.format(extra=self._config_extra, starter=self._starter)
        config.write_text(text)
        log = self.log_path.open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self._argv(config), *arguments],
                stdout=log,
                stderr=log,
                env=peer_environment(**self.environment),
            )
        self._wait_until_serving()
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the daemon; its exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(20)

    def wait(self, timeout_s: float) -> int:
        """Waits until it leaves by itself."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def ctr(
        self, *arguments: str, stdin: bytes | Path = b"", timeout_s: float = 30
    ) -> subprocess.CompletedProcess[bytes]:
        """Debian's ctr on this daemon; stdin is bytes through a pipe, or a file it can seek in."""
        command = [peer("ctr"), "--address", self.address, *arguments]
        given: dict[str, Any] = {"input": stdin}
        with contextlib.ExitStack() as stack:
            if isinstance(stdin, Path):
                given = {"stdin": stack.enter_context(stdin.open("rb"))}
            return subprocess.run(
                command, capture_output=True, env=peer_environment(), timeout=timeout_s, check=False, **given
            )

    def log(self) -> str:
        """Everything it has logged."""
        return self.log_path.read_text(errors="replace")

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A grpcio channel to its socket."""
        options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
        with grpc.insecure_channel(f"unix://{self.address}", options=options) as channel:
            yield channel

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    def _argv(self, config: Path) -> Sequence[str]:
        if self.real:
            return [peer("containerd"), "--config", str(config)]
        folder = self.folder
        return [
            *(ours("pycontainerd"), "--config", str(config), "--root", f"{folder}/root"),
            *("--state", f"{folder}/state", "--address", self.address, "--log-level", self._level),
        ]

    def _wait_until_serving(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"daemon left with {self._process.returncode}: {self.log()}")
            with socket.socket(socket.AF_UNIX) as probe:
                with contextlib.suppress(OSError):
                    probe.connect(self.address)
                    return
            time.sleep(0.02)
        raise AssertionError(f"daemon does not serve: {self.log()}")


def call(
    channel: grpc.Channel,
    service: Any,
    method_name: str,
    request: Any,
    *,
    namespace: str | None = "default",
    lease: str = "",
) -> tuple[str, str, Any]:
    """One call: (status name, details, response or list of responses). `request` is a list for client streams."""
    method = next(m for m in service.methods if m.name == method_name)
    path = f"/{service.name}/{method_name}"
    metadata = [("containerd-namespace", namespace)] if namespace is not None else []
    if lease:
        metadata.append(("containerd-lease", lease))
    streaming = (method.client_streaming, method.server_streaming)
    factory = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }[streaming]
    stub = factory(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=method.response.FromString,
    )
    try:
        answer = stub(iter(request) if method.client_streaming else request, metadata=metadata, timeout=20)
        return "OK", "", list(answer) if method.server_streaming else answer
    except grpc.RpcError as error:
        return error.code().name, error.details(), None


# How long a label is, and the whole of its key, is what 1.7 says more.
LABEL_SINCE_1_7 = re.compile(
    r"label key and value length \(\d+ bytes\) greater than maximum size \((\d+) bytes\), key: (.{1,10}).*?: "
)


NEEDED_SINCE_1_7 = ("container", "diff", "envelope", "image", "info", "namespace", "resource", "target")


def can_be_compared(service: Any, method: str, request: Any) -> bool:
    """Whether the real daemon here answers a call as every version means to.

    1.7.24 ends with a nil pointer where a request leaves its subject out, and takes a container without a spec.
    """
    if not containerd_since_1_7():
        return True
    if service.name == "containerd.services.containers.v1.Containers" and method in ("Create", "Update"):
        paths = request.update_mask.paths if method == "Update" else []
        return bool(request.container.HasField("spec") or (paths and "spec" not in paths))
    return all(map(_is_whole, request if isinstance(request, list) else [request]))


def _is_whole(message: Any) -> bool:
    """Whether what 1.7 takes for granted is there."""
    return all(
        message.HasField(field.name) and _is_whole(getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if field.name in NEEDED_SINCE_1_7 and field.message_type is not None
    )


def masked_answer(daemon: Daemon, answer: tuple[object, ...]) -> str:
    """An answer of `call` without what differs from daemon to daemon: folders, times, numbers of snapshots."""
    if isinstance(answer[2], list) and len(answer[2]) > 1 and answer[2][-1] == answer[2][-2]:
        answer = (*answer[:2], answer[2][:-1])  # 1.6 sends the answer to a COMMIT twice
    text = str(answer).replace(str(daemon.folder), "/D")
    text = re.sub(r"(seconds|nanos): -?\d+\n?", "", text)  # also the year 1, with which 1.6 says unset
    text = re.sub(r"\n\s*", "\n", text)
    text = LABEL_SINCE_1_7.sub(r"label key and value greater than maximum size (\1 bytes), key: \2: ", text)
    text = re.sub(r"(?<=failed to commit snapshot) \S+(?=: snapshot)", "", text)  # 1.7 says its key twice
    text = text.replace("namespace {\n}\n", "")  # 1.6's answer to an update has an empty one
    text = re.sub(r"(created_at|updated_at|started_at|timestamp|exited_at) \{\s*\}\s*", "", text)
    text = re.sub(r"snapshots/\d+/", "snapshots/N/", text)
    text = re.sub(r"(default|other)/\d+/", r"\1/N/", text)
    text = re.sub(r'requires: "[^"]*"\n', "", text)
    text = re.sub(r'capabilities: "[^"]*"\n', "", text)  # since containerd 2.0
    return re.sub(r"requires|exports \{[^}]*\}\n?", "", text)


def make_rootfs(folder: Path) -> Path:
    """A root filesystem of one static busybox."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    (binaries / "busybox").write_bytes(Path(peer("busybox")).read_bytes())
    (binaries / "busybox").chmod(0o755)
    for name in ("sh", "echo", "sleep", "cat", "true", "false", "ls", "id"):
        (binaries / name).symlink_to("busybox")
    for name in ("proc", "sys", "dev", "tmp", "run", "etc"):
        (folder / name).mkdir()
    return folder


def process_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def kill(pid: int) -> None:
    """SIGKILL of a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
