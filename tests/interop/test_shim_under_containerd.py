"""Debian's containerd and ctr on our shim, under its own name and as containerd-shim-runc-v2."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import parity, programs, shims

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{folder}/c.sock"
[debug]
  level = "debug"
"""


class Stack:
    """A real daemon whose PATH finds our shim under both names."""

    def __init__(self, folder: Path, rootfs: Path) -> None:
        self.folder = folder
        self.rootfs = rootfs
        names = folder / "bin"
        names.mkdir()
        for name in ("containerd-shim-pyrunc-v2", "containerd-shim-runc-v2"):
            (names / name).symlink_to(programs.ours("containerd-shim-pyrunc-v2"))
        environment = programs.peer_environment()
        self.namespace = f"shim{os.urandom(4).hex()}"
        # A namespace of its own: cgroups are named after it, and the machine has only one tree of them.
        self.environment = {
            **environment,
            "CONTAINERD_NAMESPACE": self.namespace,
            "PATH": f"{names}:{environment['PATH']}",
        }
        # The runtimes leave a namespace's own cgroup; made here, it is removed with the stack.
        hierarchies = [
            path for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir() and not path.is_symlink()
        ]
        self._cgroups = [path / self.namespace for path in hierarchies]
        for path in self._cgroups:
            path.mkdir()
        (folder / "config.toml").write_text(CONFIG.format(folder=folder))
        self._start()

    def _start(self) -> None:
        folder = self.folder
        self._log = open(folder / "log", "ab")  # noqa: SIM115
        self._daemon = subprocess.Popen(
            [programs.peer("containerd"), "--config", str(folder / "config.toml")],
            env=self.environment,
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + 15
        while self.ctr("version", check=False).returncode and time.monotonic() < deadline:
            time.sleep(0.05)

    def kill_and_start_again(self) -> None:
        """The daemon dies without a word and comes back."""
        self._daemon.kill()
        self._daemon.wait()
        self._log.close()
        self._start()

    def ctr(self, *args: str, check: bool = True, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = [programs.peer("ctr"), "--address", str(self.folder / "c.sock"), *args]
        return subprocess.run(
            argv, env=self.environment, capture_output=True, check=check, input=stdin, timeout=60
        )

    def run(
        self, name: str, *args: str, runtime: str = "io.containerd.pyrunc.v2", more: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        return self.ctr(
            "run", "--runtime", runtime, *more, "--rootfs", str(self.rootfs), name, *args, check=False
        )

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def close(self) -> None:
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(15)
        for path in self._cgroups:
            path.rmdir()
        self._log.close()


@contextlib.contextmanager
def new_stack(tmp_path_factory) -> Iterator[Stack]:
    rootfs = shims.make_rootfs(tmp_path_factory.mktemp("rootfs"))
    with tempfile.TemporaryDirectory(prefix="ct", dir="/tmp") as path:
        made = Stack(Path(path), rootfs)
        yield made
        made.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with new_stack(tmp_path_factory) as made:
        yield made


@pytest.fixture
def own_stack(tmp_path_factory):
    """For a test that hurts it."""
    with new_stack(tmp_path_factory) as made:
        yield made


@pytest.mark.parametrize("runtime", ["io.containerd.pyrunc.v2", "io.containerd.runc.v2"])
def test_run_prints_and_exits(stack, runtime) -> None:
    done = stack.run("r1", "/bin/sh", "-c", "echo hi; exit 42", runtime=runtime, more=("--rm",))
    assert (done.stdout, done.returncode, done.stderr) == (b"hi\n", 42, b"")


def test_run_with_real_runc_by_path(stack) -> None:
    more = ("--rm", "--runc-binary", programs.peer("runc"))
    done = stack.run("r2", "/bin/sh", "-c", "echo hi; exit 3", runtime="io.containerd.runc.v2", more=more)
    assert (done.stdout, done.returncode) == (b"hi\n", 3)


def test_missing_program_gets_the_stock_sentence(stack) -> None:
    done = stack.run("r3", "/nope", more=("--rm",))
    assert done.returncode == 1
    assert done.stderr.decode().strip() == (
        "ctr: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
        'process: exec: "/nope": stat /nope: no such file or directory: unknown'
    )


def test_life_of_a_detached_container(stack) -> None:
    stack.run("d1", "/bin/sleep", "100", more=("-d",))
    try:
        assert b"RUNNING" in stack.ctr("task", "ls").stdout
        assert (
            stack.ctr("task", "exec", "--exec-id", "e", "d1", "/bin/cat", stdin=b"through").stdout
            == b"through"
        )
        assert b"memory.usage_in_bytes" in stack.ctr("task", "metrics", "d1").stdout
        state = parity.shown_by_ctr(stack.ctr("shim", "--id", "d1", "state").stdout.decode())
        assert re.search(r'"status": 2,\n.*"stdin": ".*-stdin"', state, re.DOTALL)
        assert '"exited_at": "0001-01-01T00:00:00Z"' in state
    finally:
        stack.ctr("task", "kill", "-s", "KILL", "d1")
        deadline = time.monotonic() + 5
        while b"STOPPED" not in stack.ctr("task", "ls").stdout and time.monotonic() < deadline:
            time.sleep(0.02)
        stack.ctr("task", "rm", "d1", check=False)
        stack.ctr("container", "rm", "d1")


def test_s072_log_lines_in_order(stack) -> None:
    stack.run("l1", "/bin/true", more=("--rm",))
    log = stack.log()
    wanted = [
        "msg=setupDumpStacks", "msg=newServer", 'msg="registering ttrpc server"', "msg=serve",
        'msg="serving api on socket" socket="[inherited from parent]"', "msg=handleSignals", 'msg="starting signal loop"',
        "msg=Create", "msg=CreateTaskRequest", "msg=rootfs", 'msg="calling p.create"', "msg=Start", "msg=Delete",
    ]  # fmt: skip
    at = [log.index(text) for text in wanted]
    assert at == sorted(at)
    assert re.search(r'^time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)" level=info msg="starting signal loop" namespace=shim\w+ path=\S+ pid=\d+ runtime=io\.containerd\.\w+\.v2$', log, re.MULTILINE)  # fmt: skip


def test_killed_shim_is_cleaned_up(stack) -> None:
    stack.run("k1", "/bin/sleep", "100", more=("-d",))
    pid = next(
        int(row.split()[1])
        for row in stack.ctr("task", "ls").stdout.decode().splitlines()
        if row.startswith("k1")
    )
    shim_pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim_pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    stack.ctr("task", "rm", "--force", "k1", check=False)
    stack.ctr("container", "rm", "k1")


def test_s059_s060_container_survives_the_daemon(own_stack) -> None:
    stack = own_stack
    # It ends after the daemon's start: since 1.7 that collects shims whose processes have ended.
    stack.run("s1", "/bin/sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done", more=("-d",))
    stack.run("s2", "/bin/sleep", "100", more=("-d",))
    stack.kill_and_start_again()
    try:
        rows = stack.ctr("task", "ls").stdout.decode()
        assert re.search(r"s2 +\d+ +RUNNING", rows)
        assert stack.ctr("task", "exec", "--exec-id", "e", "s2", "/bin/echo", "still").stdout == b"still\n"
        stack.ctr("task", "kill", "s1")
        deadline = time.monotonic() + 5
        while not re.search(r"s1 +\d+ +STOPPED", stack.ctr("task", "ls").stdout.decode()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert b"exit code 9" in stack.ctr("task", "rm", "s1", check=False).stderr
    finally:
        stack.ctr("task", "rm", "--force", "s2", check=False)
        for name in ("s1", "s2"):
            stack.ctr("container", "rm", name, check=False)
