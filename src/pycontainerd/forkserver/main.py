"""pycontainerd-forkserver: preloads shim and runtime, freezes them, and forks shims from itself.

Started by exec with three descriptors and the control socket as fd 3 (lib/spawn.py); never by a fork of the daemon, which
would keep its sockets, its locks and its threads.

    preload -> warm up -> gc.freeze -> serve requests until the socket ends
"""

from __future__ import annotations

import _socket
import gc
import os

from pycontainerd.lib import spawn, trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_NAME: Final = "pycontainerd-forkserver"


def main(argv: list[str]) -> int:
    """Gives the exit code when the client has hung up."""
    from pycontainerd.lib.linux import interpreter, title
    from pycontainerd.lib.linux.fd import close_all_but

    # Before anything is made: containers will see this process's executable in /proc/self/exe.
    os.set_inheritable(spawn.CONTROL_FD, True)
    interpreter.require_protected(argv)
    os.set_inheritable(spawn.CONTROL_FD, False)
    # Whatever the daemon itself was started with and didn't know of ends here.
    close_all_but((0, 1, 2, spawn.CONTROL_FD))
    trace.start(os.environ)
    control = _socket.socket(fileno=spawn.CONTROL_FD)
    title.set_name(_NAME)
    _preload()
    _warm_up()
    gc.collect()
    gc.freeze()  # what is loaded stays shared: the collector never touches it, in no child
    from pycontainerd.forkserver.server import ForkServer

    return ForkServer(control).run()


def _warm_up() -> None:
    from pycontainerd.forkserver.warmup import warm_up

    warm_up()


def _preload() -> None:
    """Everything a shim may import later; a file removed by an upgrade can't be imported then."""
    import resource  # noqa: F401 - see above

    from pycontainerd.forkserver import child, server  # noqa: F401
    from pycontainerd.lib import cgroup_metrics, sha256  # noqa: F401
    from pycontainerd.lib.cgroups import hierarchy
    from pycontainerd.shim import delete, libcontainer  # noqa: F401
    from pycontainerd.shim.serve import serve  # noqa: F401

    libcontainer.preload()
    hierarchy.read_mounts()  # a shim then only looks whether they are still there
    child.remember_limits()
