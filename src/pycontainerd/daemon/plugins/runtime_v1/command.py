"""How a shim of runtime v1 is run: its bundle, its command line, its socket, and what is done once it has died.

    <state>/<namespace>/<id>/         config.json   rootfs/   address (of the socket)   shim.pid
    <root>/<namespace>/<id>/          shim.stdout.log, shim.stderr.log: FIFOs that the daemon reads

The daemon listens on the socket before the shim runs, and hands it over as fd 3.

Spec: containerd 1.6 runtime/v1
Man:  posix_spawn(3), unix(7)
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.core.tasks import Exit
from pycontainerd.daemon.plugins.runtime_v2.bundle import Bundle
from pycontainerd.lib import launcher, trace
from pycontainerd.lib.errdefs import AlreadyExists, DeadlineExceeded, Unknown
from pycontainerd.lib.linux import posix_spawn
from pycontainerd.lib.shim_place import join_cgroup, raise_oom_score
from pycontainerd.lib.ttrpc.address import shim_address, socket_path
from pycontainerd.lib.ttrpc.listener import listen_unless_served

if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

_SOCKETS: Final = "/run/containerd/s"
_LISTENER_FD: Final = 3
_KILLED: Final = 137  # 128 + SIGKILL: what a container is taken to have ended with when nobody saw it end
# posix_spawn(3) has no working directory.
_IN_BUNDLE: Final = 'cd "$0" && exec "$@"'


class LinuxBundle(Bundle):
    """A bundle without a link to its work folder."""

    def _link_work(self) -> None:
        pass

    @property
    def log_paths(self) -> tuple[str, str]:
        """The FIFOs of what the shim says."""
        return f"{self.work_path}/shim.stdout.log", f"{self.work_path}/shim.stderr.log"


@dataclass(frozen=True, slots=True)
class LinuxCommand:
    """What a shim and the clean-up after it are told. `runtime` is a program, "runc" for the daemon's own way."""

    binary: str
    bundle: LinuxBundle
    address: str
    publish_binary: str
    runtime: str = "runc"
    runtime_root: str = "/run/containerd/runc"
    criu: str = ""
    systemd_cgroup: bool = False
    debug: bool = False
    env: Sequence[str] = ()
    cgroup: str = ""  # of the shim, not of its container

    def argv(self) -> list[str]:
        """In containerd's order: tools read it from `ps`."""
        argv = [self.binary, "-namespace", self.bundle.namespace, "-workdir", self.bundle.work_path]
        argv += ["-address", self.address, "-containerd-binary", self.publish_binary]
        if self.criu:
            argv += ["-criu", self.criu]
        argv += ["-runtime-root", self.runtime_root]
        if self.systemd_cgroup:
            argv.append("-systemd-cgroup")
        return [*argv, "-debug"] if self.debug else argv

    def environment(self) -> dict[str, str]:
        """The daemon's own, and what shims expect in theirs."""
        env = dict(os.environ)
        env |= dict(item.partition("=")[::2] for item in self.env)
        return {**env, "GOMAXPROCS": "2", **trace.environment()}

    def socket_address(self) -> str:
        """Where it listens."""
        return shim_address(_SOCKETS, self.address, self.bundle.namespace, self.bundle.id)

    def start(self) -> int:
        """Runs the shim behind a socket that listens already; its pid. Blocking; the caller reaps it."""
        address = self.socket_address()
        with trace.span("shim.exec", id=self.bundle.id, binary=self.binary), _listen(address) as listener:
            error_fd = os.open(self.bundle.log_paths[1], os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            argv = ["/bin/sh", "-c", _IN_BUNDLE, self.bundle.path, *self.argv()]
            fds = {1: error_fd, 2: error_fd, _LISTENER_FD: listener.fileno()}
            try:
                if not os.access(self.binary, os.X_OK):
                    raise Unknown(f"exec: {self.binary!r}: no such executable file")
                pid = posix_spawn.start(argv, self.environment(), fds, own_group=True)
            except BaseException:
                self._remove_socket()
                raise
            finally:
                os.close(error_fd)
        try:
            if self.cgroup:
                join_cgroup(self.cgroup, pid)
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended already
                raise_oom_score(pid, os.getpid())
            self.bundle.write("address", address.encode(), 0o644)
            self.bundle.write("shim.pid", str(pid).encode(), 0o644)
        except BaseException:
            self.take_back(pid)
            os.waitpid(pid, 0)
            raise
        return pid

    def take_back(self, pid: int) -> None:
        """Ends a shim that nobody speaks to yet."""
        with suppress(ProcessLookupError):  # it has ended by itself, and was reaped
            os.kill(pid, signal.SIGKILL)
        self._remove_socket()

    def _end_shim(self) -> None:
        """One that is there but doesn't answer: nobody would ever speak to it again."""
        pid = self.bundle.read("shim.pid")
        if not (pid.isascii() and pid.isdigit()):
            return
        with suppress(FileNotFoundError, ProcessLookupError):
            pidfd = os.pidfd_open(int(pid))
            try:  # behind the pidfd: the number may have become another process's
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                if os.fsencode(self.bundle.work_path) in words:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)

    def _remove_socket(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(socket_path(self.socket_address()))

    def clean_up(self, timeout_s: float) -> tuple[Exit, str]:
        """As ShimCommand's: the container goes through its runtime, and the socket with it."""
        runtime = launcher.path("pyrunc") if self.runtime == "runc" else self.runtime
        root = f"{self.runtime_root}/{self.bundle.namespace}"
        argv = [runtime, "--root", root, "delete", "--force", self.bundle.id]
        with trace.span("shim.delete", id=self.bundle.id):
            try:
                done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
            except subprocess.TimeoutExpired as e:
                raise DeadlineExceeded(
                    f"{runtime} delete took longer than {timeout_s:g} seconds: context deadline exceeded"
                ) from e
        self._end_shim()
        self._remove_socket()
        if done.returncode:
            raise Unknown(f"{done.stderr.strip()}: exit status {done.returncode}")
        pid = self.bundle.read("init.pid")
        return Exit(int(pid) if pid.isascii() and pid.isdigit() else 0, _KILLED, now_nanos()), ""


def _listen(address: str) -> closing[_socket.socket]:
    listener = listen_unless_served(address)
    if listener is None:
        raise AlreadyExists(f"a shim answers on {socket_path(address)} already: already exists")
    return closing(listener)
