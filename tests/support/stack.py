"""A daemon of either kind under a folder of the test's own, with its ctr: the same test runs on ours and on the real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from pycontainerd.client import Containerd
from pycontainerd.embedded import Daemon
from support import leaks
from support.patience import seconds
from support.programs import BIN, ours, peer, peer_environment

START_TIMEOUT_S = 20


class Stack:
    """One running daemon and the command line that talks to it."""

    def __init__(
        self,
        root: Path,
        *,
        kind: str,
        shim: str = "",
        env: dict[str, str] | None = None,
        extra: str = "",
        level: str = "debug",
    ) -> None:
        """kind: "ours" or "real"; shim: the program that answers io.containerd.runc.v2, "" for the daemon's own.

        extra: more of the configuration.
        """
        self.extra = extra
        self.level = level
        self.root = root
        self.kind = kind
        self.address = str(root / "c.sock")
        self.log = root / "daemon.log"
        self.environment = peer_environment(**(env or {}))
        self.environment["PATH"] = f"{BIN}:{self.environment['PATH']}"
        self.shim = shim
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def program(self) -> str:
        """The daemon's path."""
        return ours("pycontainerd") if self.kind == "ours" else peer("containerd")

    def start(self) -> Stack:
        """Starts the daemon and waits until it answers."""
        self.launch()
        self._wait_for_answer()
        return self

    def launch(self) -> None:
        """Starts the daemon, which need not answer yet."""
        self.root.mkdir(parents=True, exist_ok=True)
        config = self.root / "config.toml"
        config.write_text(self._config() + self.extra)
        args = ["--config", config, "--root", self.root / "r", "--state", self.root / "s"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, *map(str, args), "--address", self.address, "--log-level", self.level],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.environment,
            )
        leaks.DAEMONS.add(self.process.pid)

    def _wait_for_answer(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + seconds(START_TIMEOUT_S)
        while self.ctr("version", check=False).returncode != 0:
            assert self.process.poll() is None, f"{self.kind} daemon ended:\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, (
                f"{self.kind} daemon does not answer:\n{self.log.read_text()[-3000:]}"
            )
            time.sleep(0.05)

    def _config(self) -> str:
        """The daemon's configuration; the chosen shim is in it (ours) or first on PATH (the real one)."""
        if self.kind == "ours":
            paths = f'[plugins."io.containerd.shim.v1.manager".runtime_paths]\n"io.containerd.runc.v2" = "{self.shim}"\n'
            return "version = 2\n" + (paths if self.shim else "")
        if self.shim:
            links = self.root / "bin"
            links.mkdir(exist_ok=True)
            if not (links / "containerd-shim-runc-v2").is_symlink():
                (links / "containerd-shim-runc-v2").symlink_to(self.shim)
            self.environment["PATH"] = f"{links}:{self.environment['PATH']}"
        opt = f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{self.root}/opt"\n'
        # What tests make by hand has no lease: a collection after so many changes would take it at a random step.
        # Collections that somebody asks for (--sync) still happen.
        gc = '[plugins."io.containerd.gc.v1.scheduler"]\n  mutation_threshold = 1000000\n'
        return 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' + opt + gc

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends the daemon; its containers stay."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(timeout=15)
        leaks.DAEMONS.discard(self.process.pid)
        self.process = None

    def pid(self) -> int:
        """The daemon's process id."""
        assert self.process is not None
        return self.process.pid

    def command(self, program: str, *args: str) -> list[str]:
        """The argv of `ctr` (Debian's) or `pyctr` on this daemon."""
        path = peer("ctr") if program == "ctr" else ours(program)
        return [path, "--address", self.address, "--connect-timeout", "5s", *args]

    def run(
        self, program: str, *args: str, check: bool = True, timeout: float = 60, **options: object
    ) -> subprocess.CompletedProcess[str]:
        """Runs a client to its end."""
        done = subprocess.run(
            self.command(program, *args),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
            check=False,
            **options,  # type: ignore[call-overload]
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{program} {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done  # type: ignore[no-any-return]

    def ctr(self, *args: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Debian's ctr on this daemon."""
        return self.run("ctr", *args, check=check, timeout=timeout)

    def pyctr(self, *args: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Our ctr on this daemon."""
        return self.run("pyctr", *args, check=check, timeout=timeout)

    def client(self) -> Containerd:
        """The Python client on this daemon."""
        return Containerd(self.address)

    def shims(self) -> dict[int, str]:
        """pid -> command line of the shims that belong to this daemon."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if f"-address {self.address}" in line and "containerd-shim" in line:
                found[int(name)] = line
        return found

    def clean(self) -> None:
        """Removes every task, container and shim of this daemon, then ends it."""
        if self.process is None:
            self.start()
        for namespace in self.ctr("namespaces", "ls", "-q").stdout.split():
            scope = ("-n", namespace)
            for task in self.ctr(*scope, "tasks", "ls", "-q").stdout.split():
                self.ctr(*scope, "tasks", "rm", "-f", task, check=False)
            for container in self.ctr(*scope, "containers", "ls", "-q").stdout.split():
                self.ctr(*scope, "containers", "rm", container, check=False)
        for pid in self.shims():
            os.kill(pid, signal.SIGKILL)
        self.stop()


def has_what_came_with_1_7(stack: Stack) -> bool:
    """Whether a daemon has transfers and sandboxes: Debian 12's doesn't, Debian 13's does. Both tell by `info`."""
    server = json.loads(stack.pyctr("info").stdout)["server"]
    return "pid" in server


class InsideStack(Stack):
    """Our daemon inside this process, which serves the same socket beside."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, kind="inside")
        self.daemon: Daemon | None = None

    def start(self) -> InsideStack:
        self.daemon = Daemon(f"{self.root}/r", f"{self.root}/s", address=self.address)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (forkserver := [pid for pid in leaks.children() if leaks.title(pid) == "pycontainerd-fo"]):
            assert time.monotonic() < deadline, "no forkserver"
            time.sleep(0.01)
        leaks.DAEMONS.update(forkserver)
        return self

    def client(self) -> Containerd:
        assert self.daemon is not None
        return self.daemon.containerd()

    def clean(self) -> None:
        assert self.daemon is not None
        self.daemon.close()
        self.daemon = None
