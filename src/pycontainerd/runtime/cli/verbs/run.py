"""pyrunc run: create, start, wait, delete."""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.runtime.cli.creation import connect_console, options_from
from pycontainerd.runtime.cli.foreground import Foreground
from pycontainerd.runtime.libcontainer.config import load_spec
from pycontainerd.runtime.libcontainer.container import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values

PREFIX = "runc run failed: "


def run(context: Context, values: Values) -> int:
    """Runs the container; its exit status unless detached."""
    options = options_from(context, values)
    options.spec = load_spec(os.getcwd())
    terminal = bool(options.spec.get("process", {}).get("terminal"))
    detach, socket_path = values.on("detach"), values.text("console-socket")
    if socket_path and not (detach and terminal):
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")
    if detach:
        options.console_socket_fd = connect_console(socket_path)
        create(options).start()
        return 0
    if not values.on("no-subreaper"):
        from pycontainerd.lib.linux.prctl import set_child_subreaper

        set_child_subreaper(True)
    with Foreground(terminal) as front:
        options.console_socket_fd = front.console_fd
        options.stdio = front.stdio
        container = create(options)
        try:
            front.attached()
            container.start()
            code = front.wait(container.pid)
        except BaseException:
            container.delete(force=True)
            raise
    if not values.on("keep"):
        container.destroy()
    return code
