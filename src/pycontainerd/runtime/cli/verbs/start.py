"""pyrunc start."""

from __future__ import annotations

from pycontainerd.runtime.cli.creation import host_socket
from pycontainerd.runtime.libcontainer.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """Lets a created container's init go on."""
    container = load(context.root, values.args[0])
    host = host_socket()
    if not host or container.status() != "created":
        container.start()
        return 0
    from pycontainerd.runtime.cli.notify import Proxy

    with Proxy(container, host) as proxy:
        container.start()
        proxy.connect()
        proxy.wait()
    return 0
