"""A real dockerd in a machine of its own, on a containerd of either kind, and the docker command line on it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from support.machine import RUNTIMES, Machine, remove_cgroups
from support.podman import docker_archive
from support.programs import ours

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

_HOST = "unix:///run/docker-under-test.sock"
# /opt/containerd, which it would make otherwise, is this machine's.
_REAL_CONFIG = """version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[plugins."io.containerd.internal.v1.opt"]
path = "{state}/opt"
"""
_OUR_CONFIG = 'version = 2\n[plugins."io.containerd.shim.v1.manager".runtime_paths]\n"io.containerd.runc.v2" = "{shim}"\n'
_OUR_SHIMS = {
    "containerd-shim": "containerd-shim-py",
    "containerd-shim-runc-v1": "containerd-shim-pyrunc-v1",
    "containerd-shim-runc-v2": "containerd-shim-pyrunc-v2",
}
_STOCK_SHIM = "/usr/bin/containerd-shim-runc-v2"


class Docker:
    """dockerd with a busybox image. Runtimes by `--runtime`: `runc` (what the shim takes for it), `pyrunc` and `stock`."""

    def __init__(self, folder: Path, *, containerd: str = "", shim: str = "real") -> None:
        """containerd: "ours", "real", or "" for the one that dockerd starts itself; shim: "ours" or "real"."""
        self.machine = Machine(folder)
        self.shim = shim
        self._cgroup = folder.name
        self._names = folder / "names"
        self._names.mkdir()
        if shim == "ours":
            for name, program in _OUR_SHIMS.items():
                (self._names / name).symlink_to(ours(program))
        self._flags: list[str] = []
        self._containerd_argv: list[str] = []
        try:
            self._start(folder, containerd)
        except BaseException:
            self.machine.close()
            remove_cgroups(self._cgroup)
            raise

    def _start(self, folder: Path, containerd: str) -> None:
        if containerd:
            self._containerd_argv = self._containerd_command(folder, containerd)
            self._flags = ["--containerd", "/run/c/c.sock"]
            self.start_containerd()
        self._dockerd = self._start_dockerd()
        self.ok("load", "-i", str(docker_archive(folder, "busybox:latest")))

    def _containerd_command(self, folder: Path, kind: str) -> list[str]:
        config = folder / "containerd.toml"
        where = ["--root", f"{self.machine.state}/c", "--state", "/run/c", "--address", "/run/c/c.sock"]
        if kind == "real":
            config.write_text(_REAL_CONFIG.format(state=self.machine.state))
            return ["containerd", "--config", str(config), *where]
        config.write_text("version = 2\n" if self.shim == "ours" else _OUR_CONFIG.format(shim=_STOCK_SHIM))
        return [ours("pycontainerd"), "--config", str(config), *where]

    def start_containerd(self) -> None:
        """The daemon that --containerd names, and waits for its socket."""
        self._containerd = self.machine.start(
            *self._containerd_argv, log=self.machine.folder / "containerd.log", env=self._path()
        )
        self._wait("containerd.log", lambda: self.machine("test", "-S", "/run/c/c.sock").returncode == 0)

    def _start_dockerd(self) -> subprocess.Popen[Any]:
        state = self.machine.state
        started = self.machine.start(
            *("dockerd", "--host", _HOST, "--data-root", f"{state}/docker", "--exec-root", "/run/dk"),
            *("--pidfile", "/run/dk.pid", "--iptables=false", "--ip6tables=false", "--bridge=none"),
            # Absolute: a relative one is made below runc's own cgroup, wherever this machine has put it.
            *("--cgroup-parent", f"/{self._cgroup}"),
            # More than the machine's own limit can't be given to a container without CAP_SYS_RESOURCE.
            *("--default-ulimit", "nofile=1024:1024", "--debug", *self._flags),
            *("--add-runtime", f"pyrunc={RUNTIMES['pyrunc']}", "--add-runtime", f"stock={RUNTIMES['runc']}"),
            log=self.machine.folder / "dockerd.log",
            env=self._path(),
        )
        self._wait("dockerd.log", lambda: self("version").returncode == 0)
        return started

    def _path(self) -> dict[str, str]:
        return {"PATH": f"{self._names}:{self.machine.environment()['PATH']}"}

    def _wait(self, log: str, condition: Any) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, (self.machine.folder / log).read_text()[-3000:]
            time.sleep(0.1)

    @property
    def environment(self) -> dict[str, str]:
        """For `argv`."""
        return self.machine.environment()

    def argv(self, *words: str) -> list[str]:
        """docker's command line, to be run outside the machine."""
        return self.machine.argv("docker", "--host", _HOST, *words)

    def __call__(self, *words: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return self.machine("docker", "--host", _HOST, *words, stdin=stdin, timeout=timeout)

    def ok(self, *words: str, stdin: str = "") -> str:
        """Output of a command that must succeed."""
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, (done, self.log()[-2000:])
        return done.stdout

    def state(self, name: str) -> dict[str, Any]:
        """`State` of inspect."""
        found: dict[str, Any] = json.loads(self.ok("inspect", "--format", "{{json .State}}", name))
        return found

    def log(self) -> str:
        """What the daemons have logged."""
        logs = (self.machine.folder / name for name in ("containerd.log", "dockerd.log"))
        return "".join(path.read_text(errors="replace") for path in logs if path.exists())

    def clean(self) -> None:
        """Removes every container."""
        for name in self.ok("ps", "-aq").split():
            self("rm", "-f", name)

    def close(self) -> None:
        """Ends every container and the machine."""
        try:
            self.clean()
        finally:
            self.machine.close()
            remove_cgroups(self._cgroup)
