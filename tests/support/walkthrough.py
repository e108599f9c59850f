"""A client with a daemon of its own kind, and a shim that only writes down how it was called."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pycontainerd.lib.api.light import ttrpc
from support import parity
from support.stack import Stack

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator


class Pair:
    """Debian's ctr with Debian's containerd, or ours with ours."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.is_real = stack.kind == "real"
        self.client = "ctr" if self.is_real else "pyctr"

    def __call__(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.stack.run(self.client, *args, check=check, timeout=30)

    def shows(self, *args: str) -> str:
        """What the client prints, as 1.6's shows it."""
        text = self(*args).stdout
        return parity.shown_by_ctr(text) if self.is_real else text

    def inside(self, script: str, id_: str = "w1", *, errors: bool = False) -> str:
        """What a shell in the container prints; with its errors where asked."""
        name = f"e{os.urandom(4).hex()}"
        done = self("task", "exec", "--exec-id", name, id_, "sh", "-c", script, check=False)
        return done.stdout + done.stderr if errors else done.stdout

    def pid(self, id_: str, namespace: str = "default") -> int:
        """The pid of a container's init on the host."""
        rows = self("-n", namespace, "task", "ls").stdout.splitlines()
        return next(int(row.split()[1]) for row in rows if row.split()[0] == id_)

    def shim(self, id_: str) -> int:
        """The pid of a container's shim."""
        return next(pid for pid, line in self.stack.shims().items() if f"-id {id_} " in line)

    def remove(self, id_: str) -> None:
        """Ends and removes a container, whatever its state."""
        self("task", "rm", "-f", id_, check=False)
        self("container", "rm", id_, check=False)


@contextlib.contextmanager
def open_pair(stack: Stack, image: str) -> Iterator[Pair]:
    """The pair of a running daemon, with the image pulled; removes every container of it at the end."""
    pair = Pair(stack)
    pair("image", "pull", "--plain-http", image)
    try:
        yield pair
    finally:
        for id_ in pair("container", "ls", "-q").stdout.split():
            pair.remove(id_)


@contextlib.contextmanager
def own_stack(kind: str, shim: str) -> Iterator[tuple[Stack, RecordingShim]]:
    """A daemon of either kind whose shim is a recorder in front of the program `shim`, or a recorder alone."""
    root = Path(tempfile.mkdtemp(prefix="pw", dir="/tmp"))
    recorder = RecordingShim(root / "recorder", shim)
    stack = Stack(root, kind=kind, shim=str(recorder.path)).start()
    try:
        yield stack, recorder
    finally:
        stack.clean()
        shutil.rmtree(root)  # noqa: TID251 - a folder of the test's own


def wait_until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Returns once the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition never held")
        time.sleep(0.05)


class RecordingShim:
    """A program that writes down each argv, then runs the real shim, or answers with the socket of the test."""

    def __init__(self, folder: Path, program: str) -> None:
        """program: what is run with the same arguments; "" to answer `start` with `self.socket`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.socket = f"{folder}/shim.sock"
        self.path = folder / "containerd-shim-runc-v2"
        rest = f'exec "{program}" "$@"' if program else f'printf "unix://{self.socket}"'
        self.path.write_text(
            "#!/bin/sh\n"
            f"record=$(mktemp {folder}/argv.XXXXXX)\n"
            'printf "%s\\n" "$@" > "$record"; mv "$record" "$record.done"\n'
            f"{rest}\n"
        )
        self.path.chmod(0o755)

    def calls(self, action: str) -> list[list[str]]:
        """The command lines that ended with the action."""
        texts = [path.read_text() for path in self._folder.glob("argv.*.done")]
        return [text.splitlines() for text in texts if text.splitlines()[-1:] == [action]]


class TaskCapture:
    """Listens as a shim would, keeps the first request of each method, and hangs up at Create."""

    def __init__(self, path: str) -> None:
        self.requests: dict[str, bytes] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the listener."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(EOFError, OSError):
                    self._read(connection)

    def _read(self, connection: socket.socket) -> None:
        while "Create" not in self.requests:
            size, _stream, kind, _flags = struct.unpack(">IIBB", self._exactly(connection, 10))
            data = self._exactly(connection, size)
            if kind == 1:
                request = ttrpc.Request.FromString(data)
                self.requests.setdefault(request.method, request.payload)

    @staticmethod
    def _exactly(connection: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = connection.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data
