"""Events, for clients (gRPC) and for shims (the ttrpc service of their publishers)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontainerd.daemon.core.events import Envelope, Exchange
from pycontainerd.daemon.core.scope import require_scope
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import events_ttrpc_v1, events_v1, types, wkt
from pycontainerd.lib.errdefs import ContainerdError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pycontainerd.daemon.core.call import Call


class EventsService:
    """containerd.services.events.v1.Events."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def publish(self, call: Call, request: events_v1.PublishRequest) -> wkt.Empty:
        try:
            namespace = require_scope(call.namespace).namespace
        except ContainerdError as e:
            raise type(e)(f"failed publishing event: {e}") from e
        event = TypedValue(request.event.type_url, request.event.value)
        self._exchange.publish(namespace, request.topic, event)
        return wire.EMPTY

    async def forward(
        self, call: Call, request: events_v1.ForwardRequest | events_ttrpc_v1.ForwardRequest
    ) -> wkt.Empty:
        del call
        self._exchange.forward(from_wire(request.envelope))
        return wire.EMPTY

    async def subscribe(
        self, call: Call, request: events_v1.SubscribeRequest
    ) -> AsyncIterator[types.Envelope]:
        del call
        with self._exchange.subscribe(request.filters) as subscription:
            async for envelope in subscription:
                yield _to_wire(envelope)


class ForwardingService:
    """containerd.services.events.ttrpc.v1.Events: what shims publish to."""

    def __init__(self, exchange: Exchange) -> None:
        self.forward = EventsService(exchange).forward


def from_wire(message: Any) -> Envelope:
    """An envelope of either service."""
    event = TypedValue(message.event.type_url, message.event.value)
    timestamp_nanos = wire.nanos(message.timestamp) if message.HasField("timestamp") else 0
    return Envelope(timestamp_nanos, message.namespace, message.topic, event)


def _to_wire(envelope: Envelope) -> types.Envelope:
    return types.Envelope(
        timestamp=wire.timestamp(envelope.timestamp_nanos),
        namespace=envelope.namespace,
        topic=envelope.topic,
        event=wire.any_of(envelope.event),
    )
