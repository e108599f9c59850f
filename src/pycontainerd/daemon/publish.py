"""`pycontainerd publish`: hands one event to a running daemon; what shims call when they cannot use ttrpc.

Imports nothing of the daemon and works in an empty environment: it runs once per event.

Spec: containerd docs/runtime-v2.md#events (the -publish-binary contract: Any on stdin, --topic, --namespace)
"""

from __future__ import annotations

import sys
import time

from pycontainerd.lib.api.light import events_ttrpc_v1, types, wkt
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.ttrpc.client import Client

_MAX_EVENT_BYTES = 4 << 20
_TIMEOUT_S = 5


def publish(address: str, topic: str, namespace: str) -> None:
    """Reads an Any from stdin and forwards it. Raises errdefs: a bad topic, no daemon."""
    payload = sys.stdin.buffer.read(_MAX_EVENT_BYTES + 1)
    if len(payload) > _MAX_EVENT_BYTES:
        raise InvalidArgument("event on stdin is larger than 4 MiB")
    event = wkt.Any.FromString(payload)
    now = time.time_ns()
    stamp = wkt.Timestamp(seconds=now // 1_000_000_000, nanos=now % 1_000_000_000)
    envelope = types.Envelope(timestamp=stamp, namespace=namespace, topic=topic, event=event)
    request = events_ttrpc_v1.ForwardRequest(envelope=envelope)
    client = Client.connect(address.removeprefix("unix://") + ".ttrpc", timeout_s=_TIMEOUT_S)
    try:
        client.call(
            "containerd.services.events.ttrpc.v1.Events",
            "Forward",
            request.SerializeToString(),
            {"containerd-namespace-ttrpc": namespace},
            timeout_s=_TIMEOUT_S,
        )
    finally:
        client.close()
