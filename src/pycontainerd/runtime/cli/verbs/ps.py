"""pyrunc ps."""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import InvalidArgument, Unknown
from pycontainerd.lib.oci.document import dumps
from pycontainerd.runtime.cli.main import write_out
from pycontainerd.runtime.libcontainer.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """The container's processes: pids as JSON, or the host's ps, its rows for these pids."""
    container = load(context.root, values.args[0])
    pids = container.processes()
    form = values.text("format")
    if form == "json":
        write_out(dumps(pids) + "\n" if pids else "null\n")
        return 0
    if form != "table":
        raise InvalidArgument("invalid format option")
    write_out(select_rows(_host_ps(values.args[1:] or ["-ef"]), pids))
    return 0


def select_rows(output: str, pids: list[int]) -> str:
    """The header and the rows of ps whose PID column is one of these."""
    lines = output.splitlines()
    header = lines[0].split() if lines else []
    if "PID" not in header:
        raise InvalidArgument("couldn't find PID field in ps output")
    column = header.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = [line for line in lines[1:] if len(line.split()) > column and line.split()[column] in wanted]
    return "".join(line + "\n" for line in [lines[0], *kept])


def _host_ps(arguments: list[str]) -> str:
    read_fd, write_fd = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, write_fd, 1), (os.POSIX_SPAWN_DUP2, write_fd, 2)]
        pid = os.posix_spawnp("ps", ["ps", *arguments], os.environ, file_actions=actions)
    except FileNotFoundError:
        raise Unknown('exec: "ps": executable file not found in $PATH', hint="use --format json") from None
    finally:
        os.close(write_fd)
    with open(read_fd, encoding="utf-8", errors="surrogateescape") as file:
        output = file.read()
    _pid, status = os.waitpid(pid, 0)
    if status:
        raise Unknown(f"exit status {os.waitstatus_to_exitcode(status)}: {output}")
    return output
