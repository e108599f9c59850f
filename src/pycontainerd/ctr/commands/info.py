"""`ctr info`: who the daemon is, as JSON."""

from __future__ import annotations

from pycontainerd.ctr.command import Command

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call


def _info(call: Call) -> int:
    from pycontainerd.ctr import display, session
    from pycontainerd.ctr.metrics_view import as_json
    from pycontainerd.lib.api.light import introspection_v1, wkt

    with session.connect(call) as client:
        server = client.call(introspection_v1.INTROSPECTION, "Server", wkt.Empty())
    display.write_json({"server": as_json(server)})
    return 0


COMMAND = Command(
    "info",
    "print who the daemon is, as JSON",
    _info,
    description="its uuid, and of containerd 1.7 and later its pid, pid namespace and deprecation warnings",
)
