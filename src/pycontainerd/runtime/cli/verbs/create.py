"""pyrunc create."""

from __future__ import annotations

from pycontainerd.runtime.cli.creation import connect_console, host_socket, options_from
from pycontainerd.runtime.libcontainer.config import load_spec
from pycontainerd.runtime.libcontainer.container import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values

PREFIX = "runc create failed: "


def run(context: Context, values: Values) -> int:
    """Makes the container and leaves its init waiting."""
    options = options_from(context, values)
    if host_socket():
        from pycontainerd.runtime.cli.notify import add_to

        add_to(options, options.spec or load_spec(options.bundle))
    options.console_socket_fd = connect_console(values.text("console-socket"))
    create(options)
    return 0
