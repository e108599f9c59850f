"""`ctr version`: both ends of the connection."""

from __future__ import annotations

import sys

from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import STRING, Flag
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call


def _version(call: Call) -> int:
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import introspection_v1, version_v1, wkt
    from pycontainerd.version import __version__

    python = sys.version.partition(" ")[0]
    form = call.flags.text("format")
    if form not in {"text", "json"}:
        raise InvalidArgument("format must be text or json")
    if form == "json":
        return _as_json(call, {"version": __version__, "python": python})
    sys.stdout.write(f"Client:\n  Version:  {__version__}\n  Revision: \n  Python version: {python}\n\n")
    sys.stdout.flush()
    with session.connect(call) as client:
        version = client.call(version_v1.VERSION, "Version", wkt.Empty())
        server = client.call(introspection_v1.INTROSPECTION, "Server", wkt.Empty())
    sys.stdout.write(
        f"Server:\n  Version:  {version.version}\n  Revision: {version.revision}\n  UUID: {server.uuid}\n"
    )
    sys.stdout.flush()
    if version.version != __version__:
        sys.stderr.write("WARNING: version mismatch\n")
    return 0


def _as_json(call: Call, client_side: dict[str, str]) -> int:
    from pycontainerd.ctr import display, session
    from pycontainerd.lib.api.light import introspection_v1, version_v1, wkt

    with session.connect(call) as client:
        version = client.call(version_v1.VERSION, "Version", wkt.Empty())
        server = client.call(introspection_v1.INTROSPECTION, "Server", wkt.Empty())
    server_side = {"version": version.version, "revision": version.revision, "uuid": server.uuid}
    display.write_json({"client": client_side, "server": server_side}, 2)
    return 0


COMMAND = Command(
    "version",
    "print the versions of client and daemon",
    _version,
    arguments="[flags]",
    flags=(Flag("format", STRING, 'how to print them: "text" or "json"', default="text"),),
    description="warns on stderr where the two differ",
)
