"""What create and run share: options from flags, the console socket."""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.runtime.cli.parse import FALSE, TRUE
from pycontainerd.runtime.libcontainer.options import CreateOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def options_from(context: Context, values: Values) -> CreateOptions:
    """The library's options for a command line; changes into the bundle, as runc does."""
    bundle = values.text("bundle")
    pid_file = values.text("pid-file")
    if pid_file:
        pid_file = os.path.abspath(pid_file)
    if bundle:
        try:
            os.chdir(bundle)
        except OSError as error:
            raise InvalidArgument(f"chdir {bundle}: {go_error(error.errno or 0)}") from error
    return CreateOptions(
        values.args[0],
        os.getcwd(),
        os.path.abspath(context.root),
        pidfd_socket_fd=connect_console(values.text("pidfd-socket")),
        pid_file=pid_file,
        no_pivot=values.on("no-pivot"),
        no_new_keyring=values.on("no-new-keyring"),
        preserve_fds=values.number("preserve-fds") + listen_fds(),
        environment=listen_environment(),
        systemd_cgroup=context.globals.on("systemd-cgroup"),
        log=context.log,
        rootless=parse_rootless(context.globals.text("rootless")),
    )


def host_socket() -> str:
    """Where a service manager of the host listens for this service; empty without one."""
    return os.environ.get("NOTIFY_SOCKET", "")


def parse_rootless(text: str) -> bool | None:
    """--rootless: None is for the runtime to find out."""
    if text == "auto":
        return None
    if text not in TRUE | FALSE:
        raise InvalidArgument(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in TRUE


def listen_fds() -> int:
    """How many descriptors socket activation passed to this very process. Man: sd_listen_fds(3)"""
    text = os.environ.get("LISTEN_FDS", "")
    ours = os.environ.get("LISTEN_PID", "") == str(os.getpid())
    return int(text) if ours and text.isascii() and text.isdigit() else 0


def listen_environment() -> list[str]:
    """What tells the process of the descriptors: in its namespace it is process 1, or is taken for it."""
    count = listen_fds()
    return [f"LISTEN_FDS={count}", "LISTEN_PID=1"] if count else []


def connect_console(path: str) -> int:
    """A connection to the socket for a console (or a pidfd), the caller's; -1 without a path."""
    if not path:
        return -1
    from _socket import socket

    connection = socket(1, 1 | 0o2000000, 0)  # AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC
    try:
        connection.connect(path)
    except OSError as error:
        raise InvalidArgument(f"dial unix {path}: connect: {go_error(error.errno or 0)}") from error
    return connection.detach()
