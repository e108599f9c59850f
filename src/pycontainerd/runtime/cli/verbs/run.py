"""pyrunc run: create, start, wait, delete."""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument
from pycontainerd.runtime.cli.creation import connect_console, host_socket, options_from
from pycontainerd.runtime.cli.foreground import Foreground
from pycontainerd.runtime.libcontainer.config import load_spec
from pycontainerd.runtime.libcontainer.container import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values
    from pycontainerd.runtime.libcontainer.container import Container

PREFIX = "runc run failed: "


def run(context: Context, values: Values) -> int:
    """Runs the container; its exit status unless detached."""
    options = options_from(context, values)
    options.spec = options.spec or load_spec(os.getcwd())
    terminal = bool(options.spec.get("process", {}).get("terminal"))
    detach, socket_path = values.on("detach"), values.text("console-socket")
    if socket_path and not (detach and terminal):
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")
    host = host_socket()
    if host:
        from pycontainerd.runtime.cli.notify import add_to

        add_to(options, options.spec)
    if detach:
        options.console_socket_fd = connect_console(socket_path)
        container = create(options)
        if host:
            _start_and_tell(container, host)
        else:
            container.start()
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
            if host:
                _watch(front, container, host)
            container.start()
            code = front.wait(container.pid)
        except BaseException:
            container.delete(force=True)
            raise
    if not values.on("keep"):
        container.destroy()
    return code


def _start_and_tell(container: Container, host: str) -> None:
    from pycontainerd.runtime.cli.notify import Proxy

    with Proxy(container, host) as proxy:
        container.start()
        try:
            proxy.connect()
            proxy.wait()
        except (ContainerdError, OSError):
            return  # as runc: the container runs, whether or not somebody listens


def _watch(front: Foreground, container: Container, host: str) -> None:
    """The host is told while we wait for the container, and of ourselves: we are what it supervises."""
    from pycontainerd.runtime.cli.notify import Proxy

    proxy = Proxy(container, host)
    try:
        proxy.connect()
    except ContainerdError:
        proxy.close()
        return  # as runc: nobody listens, and the container runs all the same

    def heard() -> None:
        # Unlike runc, which reads until the first: who says more would wait for a full queue, and a reload ends with
        # a READY of its own.
        if proxy.ready():
            proxy.tell(os.getpid())

    front.watch(proxy, heard)
