"""-debug-socket of our shim: what stands at Go's paths, for the same user only. Its stock counterpart speaks Go's own formats."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from support import shims
from support.walkthrough import wait_until

pytestmark = [pytest.mark.requires("root", "cgroup_v1"), pytest.mark.timeout(60)]


class Debugged:
    """Started as a daemon would, with one flag more."""

    def start_argv(self, action: str = "start", *more: str) -> list[str]:
        return super().start_argv(action, *more, "-debug-socket", str(self.folder / "debug.sock"))


class DebuggedShim(Debugged, shims.InProcessShim):
    """Exec'ed."""


class RestingDebuggedShim(Debugged, shims.RestingShim):
    """Forked, and at rest before every question."""


@pytest.fixture(params=[DebuggedShim, RestingDebuggedShim])
def shim(request, forkserver, tmp_path_factory):
    rootfs = shims.make_rootfs(tmp_path_factory.mktemp("rootfs"))
    with tempfile.TemporaryDirectory(prefix="sd", dir="/tmp") as folder:
        made = request.param(Path(folder), rootfs)
        made.forkserver = forkserver
        made.create("/bin/sleep", "100")
        made.call("Start", id=made.id)  # one that waits for its start keeps an attendant
        yield made
        made.close()


def ask(shim: DebuggedShim, request: bytes) -> tuple[int, str, bytes]:
    """(status, content type, body)."""
    if isinstance(shim, shims.RestingShim):
        wait_until(lambda: not shims.attendant_of(shim.pid))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(shim.folder / "debug.sock"))
        client.sendall(request)
        data = b""
        while piece := client.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:])
    assert int(fields["Content-Length"]) == len(body) or request.startswith(b"HEAD")
    return int(lines[0].split(" ")[1]), fields["Content-Type"], body


def get(shim: DebuggedShim, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    return ask(shim, f"{method} {path} HTTP/1.1\r\nHost: shim\r\n\r\n".encode())


def test_the_stack_and_the_containers(shim):
    shim.exec("e1", "/bin/sleep", "100")
    status, kind, body = get(shim, "/debug/pprof/goroutine?debug=2")
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    text = body.decode()
    assert "/shim/loop.py:" in text
    pid = shim.call("State", id=shim.id).pid
    exec_pid = shim.call("State", id=shim.id, exec_id="e1").pid
    assert f"containers:\n{shim.id} running pid={pid}\n  e1 running pid={exec_pid}\n" in text


def test_command_line_and_numbers(shim):
    argv = Path(f"/proc/{shim.pid}/cmdline").read_bytes().rstrip(b"\0")
    assert get(shim, "/debug/pprof/cmdline")[2] == argv
    status, kind, body = get(shim, "/debug/vars")
    numbers = json.loads(body)
    assert (status, kind) == (200, "application/json; charset=utf-8")
    # The process whose numbers these are: of a forked shim its attendant.
    assert (numbers["pid"] == shim.pid) is (type(shim) is DebuggedShim)
    assert numbers["cmdline"] == argv.decode().split("\0")
    assert numbers["open_fds"] in range(5, 100)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /debug/pprof/heap HTTP/1.1", 501),
        ("GET /nope HTTP/1.1", 404),
        ("POST /debug/vars HTTP/1.1", 405),
        ("HEAD /debug/vars HTTP/1.0", 200),
        ("GET /debug/pprof/ HTTP/1.1", 200),
        ("no request at all", 400),
        ("GET /" + "x" * 20000 + " HTTP/1.1", 400),
    ],
)
def test_statuses(shim, request_line, status):
    got, _, body = ask(shim, f"{request_line}\r\n\r\n".encode())
    assert got == status
    assert bool(body) == (not request_line.startswith("HEAD"))


def test_only_the_same_user_is_answered(shim):
    path = shim.folder / "debug.sock"
    assert os.stat(path).st_mode & 0o777 == 0o600
    path.chmod(0o666)
    shim.folder.chmod(0o755)
    words = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "python3", "-c"]
    script = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); s.sendall(b'GET /debug/vars HTTP/1.1\\r\\n\\r\\n'); print(s.recv(9))"
    done = subprocess.run([*words, script, path], capture_output=True, text=True, check=False)
    assert "200" not in done.stdout
    assert get(shim, "/debug/vars")[0] == 200


def test_it_goes_with_the_shim(shim):
    assert (shim.folder / "debug.sock").exists()
    shim.call("Kill", id=shim.id, signal=9)
    shim.call("Wait", id=shim.id)
    shim.call("Delete", id=shim.id)
    shim.call("Shutdown", id=shim.id)
    shim.wait_gone()
    assert not (shim.folder / "debug.sock").exists()
