"""`ctr version`: both ends of the connection."""

from __future__ import annotations

import sys

from pycontainerd.ctr.command import Command

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call


def _version(call: Call) -> int:
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import introspection_v1, version_v1, wkt
    from pycontainerd.version import __version__

    python = sys.version.partition(" ")[0]
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


COMMAND = Command("version", "print the versions of client and daemon", _version)
