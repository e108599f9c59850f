"""containerd-shim-py: the shim of containerd 1.x's io.containerd.runtime.v1.linux, as containerd-shim is called.

    -namespace NS -workdir DIR -address A -containerd-binary C [-runtime-root R] [-criu P] [-systemd-cgroup] [-debug]

The daemon listens first and hands the socket over as fd 3, in the bundle as working directory; it also makes the FIFOs
shim.stdout.log and shim.stderr.log in the work folder when it wants to hear of anything. Exits are told by
`C --address A publish`.

Spec: containerd 1.6 runtime/v1
"""

from __future__ import annotations

import os
import sys

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.api.light import shim_v1
from pycontainerd.lib.linux import interpreter, prctl, title
from pycontainerd.shim import bootstrap
from pycontainerd.shim import flags as command_line
from pycontainerd.shim.fifo_log import FifoLog
from pycontainerd.shim.linux_service import LinuxService
from pycontainerd.shim.publisher import Publisher
from pycontainerd.shim.serve import Shim, choose_runtime, listener_of, log_level, open_log
from pycontainerd.shim.server import Server, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from pycontainerd.shim.options import Options
    from pycontainerd.shim.process.init import Runtime
    from pycontainerd.shim.service import Service
    from pycontainerd.shim.world import World


def main(argv: list[str]) -> int:
    """Gives the exit code. argv[0] is the launcher's path, which ps will show."""
    flags = command_line.parse_or_explain(argv, command_line.LINUX)
    if isinstance(flags, int):
        return flags
    try:
        # Containers see this process's executable in /proc/self/exe. The listener is inherited once more.
        interpreter.require_protected(argv)
        trace.start(os.environ)
        prctl.set_child_subreaper(True)
        title.show_as(os.path.basename(argv[0]), argv)
        log = FifoLog(open_log(f"{flags.workdir}/shim.stdout.log"), log_level(flags))
        shim = LinuxShim(argv[0], flags, log, listener_of(flags))
        shim.announce()
        # The daemon's pipes end with it; nothing that runs here may come to hold them.
        bootstrap.redirect_to_null()
        shim.run(0)
    except (errdefs.ContainerdError, OSError) as e:
        sys.stderr.write(f"containerd-shim: {e}\n")
        return 1
    return 0


class LinuxShim(Shim):
    """The same parts, behind the older service."""

    serving = "serving api on unix socket"

    def runtime_name(self, program: str) -> str:
        """The one runtime that starts it, under whatever name."""
        return "io.containerd.runtime.v1.linux"

    def make_publisher(self) -> Publisher:
        """Exits only: of the rest the daemon knows without being told."""
        return _ExitPublisher(self.world, "", self.flags.containerd_binary)

    def make_server(self, listener: _socket.socket, tasks: Service) -> Server:
        """The older service."""
        service = LinuxService(tasks, self.flags)
        return Server(self.loop, self.log, listener, service, table(shim_v1.SHIM))

    def make_runtime(self, world: World, bundle: str, options: Options, *, is_first: bool = False) -> Runtime:
        """With the state folder of -runtime-root. It has one container, and no keeper: who is first makes no difference."""
        return choose_runtime(world, bundle, options, f"{self.flags.runtime_root}/{world.namespace}")


class _ExitPublisher(Publisher):
    def publish(self, topic: str, event: object) -> None:
        if topic == "/tasks/exit":
            super().publish(topic, event)
