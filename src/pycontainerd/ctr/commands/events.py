"""`ctr events`: what happens in the daemon, one line each, until interrupted."""

from __future__ import annotations

from pycontainerd.ctr import display
from pycontainerd.ctr.command import Command

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import types


def _events(call: Call) -> int:
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import events_v1

    with session.connect(call) as client:
        request = events_v1.SubscribeRequest(filters=call.arguments)
        with client.stream(events_v1.EVENTS, "Subscribe", request) as stream:
            for envelope in stream:
                display.write(_line(envelope))
    return 0


def _line(envelope: types.Envelope) -> str:
    stamp = display.go_time(envelope.timestamp.seconds, envelope.timestamp.nanos)
    return f"{stamp} {envelope.namespace} {envelope.topic} {_body(envelope.event)}\n"


def _body(event: Any) -> str:
    """The event's message as JSON; nothing of one that nobody here knows."""
    from pycontainerd.client.objects.events import decode
    from pycontainerd.ctr.metrics_view import as_json

    message = decode(event)
    return "" if message is None else display.go_json(_with_times(as_json(message)))


def _with_times(document: dict[str, Any]) -> dict[str, Any]:
    """Go prints a timestamp as text and an Any by its own fields."""
    for key, value in document.items():
        if key.endswith("_at") and isinstance(value, dict):
            document[key] = display.rfc3339(value.get("seconds", 0), value.get("nanos", 0))
        elif isinstance(value, dict):
            _with_times(value)
        elif isinstance(value, bytes):
            import base64

            document[key] = base64.b64encode(value).decode()
    return document


COMMAND = Command("events, event", "print what happens in the daemon, as it happens", _events)
