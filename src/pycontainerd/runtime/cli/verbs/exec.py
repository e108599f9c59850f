"""pyrunc exec."""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci.runtime import PROCESS, parse
from pycontainerd.runtime.cli.creation import connect_console
from pycontainerd.runtime.libcontainer.config import load_spec
from pycontainerd.runtime.libcontainer.container import load
from pycontainerd.runtime.libcontainer.options import ExecOptions
from pycontainerd.runtime.libcontainer.user import parse_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values
    from pycontainerd.runtime.libcontainer.container import Container

PREFIX = "exec failed: "
FAILURE = 255


def run(context: Context, values: Values) -> int:
    """Starts the process; its exit status unless detached."""
    if len(values.args) == 1 and not values.text("process"):
        raise InvalidArgument("process args cannot be empty")
    container = load(os.path.abspath(context.root), values.args[0])
    process = _process(container, values)
    terminal, detach = bool(process.get("terminal")), values.on("detach")
    pid_file = values.text("pid-file")
    options = ExecOptions(
        process,
        pidfd_socket_fd=connect_console(values.text("pidfd-socket")),
        pid_file=os.path.abspath(pid_file) if pid_file else "",
        preserve_fds=values.number("preserve-fds"),  # as runc, none of the service manager's
        ignore_paused=values.on("ignore-paused"),
        cgroups=values.words("cgroup"),
    )
    socket_path = values.text("console-socket")
    if socket_path and not (detach and terminal):
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")
    if detach:
        options.console_socket_fd = connect_console(socket_path)
        container.exec(options)
        return 0
    from pycontainerd.runtime.cli.foreground import Foreground

    with Foreground(terminal) as front:
        options.console_socket_fd, options.stdio = front.console_fd, front.stdio
        pid = container.exec(options)
        front.attached()
        return front.wait(pid)


def _process(container: Container, values: Values) -> dict[str, Any]:
    path = values.text("process")
    if path:
        with open(path, "rb") as file:
            return parse(file.read(16 << 20), PROCESS)
    process: dict[str, Any] = dict(load_spec(container.record.label("bundle")).get("process", {}))
    process["args"] = values.args[1:]
    process["terminal"] = values.on("tty")
    process["env"] = process.get("env", []) + values.words("env")
    for flag, key in (("cwd", "cwd"), ("apparmor", "apparmorProfile"), ("process-label", "selinuxLabel")):
        if values.text(flag):
            process[key] = values.text(flag)
    if "no-new-privs" in values.given:
        process["noNewPrivileges"] = values.on("no-new-privs")
    user = dict(process.get("user", {}))
    if values.text("user"):
        user.update(parse_user(values.text("user")))
    if values.words("additional-gids"):
        user["additionalGids"] = user.get("additionalGids", []) + [
            _id(word, "additional gid") for word in values.words("additional-gids")
        ]
    process["user"] = user
    if values.words("cap"):
        capabilities = {name: list(caps) for name, caps in process.get("capabilities", {}).items()}
        for name in ("bounding", "effective", "permitted"):
            capabilities[name] = capabilities.get(name, []) + values.words("cap")
        process["capabilities"] = capabilities
    return process


def _id(text: str, what: str) -> int:
    number = parse_id(os.fsencode(text))
    if number < 0:
        raise InvalidArgument(f"parsing {text} as int for {what} failed: invalid syntax")
    return number


def parse_user(text: str) -> dict[str, int]:
    """`uid[:gid]`, digits only: a name would have to be looked up in somebody's files."""
    uid, colon, gid = text.partition(":")
    found = {"uid": _id(uid, "uid")}
    if colon:
        found["gid"] = _id(gid, "gid")
    return found
