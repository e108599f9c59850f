"""`ctr deprecations`: what the daemon was asked for that a later containerd won't have."""

from __future__ import annotations

from pycontainerd.ctr import display
from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import STRING, Flag
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import introspection_v1


def _list(call: Call) -> int:
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import introspection_v1, wkt

    form = call.flags.text("format")
    if form not in {"", "default", "table", "json"}:
        raise InvalidArgument(f'unknown format "{form}"', hint="--format default, or --format json")
    with session.connect(call) as client:
        server = client.call(introspection_v1.INTROSPECTION, "Server", wkt.Empty())
    show(server, form)
    return 0


def show(server: introspection_v1.ServerResponse, form: str) -> None:
    """The warnings as a table or as JSON; nothing where there are none."""
    found = server.deprecations
    if not found:
        return
    if form == "json":
        display.write_json(
            [
                {
                    "id": one.id,
                    "message": one.message,
                    "lastOccurrence": display.rfc3339(one.last_occurrence.seconds, one.last_occurrence.nanos),
                }
                for one in found
            ]
        )
        return
    lines = [
        f"{one.id}\t{display.rfc3339(one.last_occurrence.seconds, one.last_occurrence.nanos)}\t{one.message}"
        for one in found
    ]
    display.table("ID\tLAST OCCURRENCE\tMESSAGE\t", lines, display.WIDE)


COMMANDS = (
    Command(
        "list",
        "print the daemon's deprecation warnings",
        _list,
        arguments="[flags]",
        flags=(Flag("format", STRING, 'how to print them: "default" or "json"'),),
        description="prints nothing where there is none, as of containerd before 1.7 and of pycontainerd",
    ),
)
