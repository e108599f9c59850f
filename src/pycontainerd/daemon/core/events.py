"""The event exchange: publish, forward, subscribe with filters; nobody slow can hold it up.

Events are published from worker threads and from the event loop alike. Each subscriber has a bounded queue; one that
falls further behind is ended with an error instead of growing the daemon.

Spec: containerd events (envelope, topic rules), docs/events
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pycontainerd.daemon.core import filters
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.lib import identifiers
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, ResourceExhausted, Unknown
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontainerd.daemon.core.typed import TypedValue

QUEUE_LIMIT: Final = 65536


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event on its way. `timestamp_nanos` since 1970."""

    timestamp_nanos: int
    namespace: str
    topic: str
    event: TypedValue


class FieldReader(Protocol):
    """Reads `event.<path>` out of a typed event for filters; None when the event has no such field."""

    def __call__(self, value: TypedValue, path: Sequence[str]) -> str | None: ...


class Subscription:
    """Iterate with `async for`; always `close()` it (or use it as a context manager)."""

    def __init__(self, exchange: Exchange, matches: filters.Filter) -> None:
        self._exchange = exchange
        self._matches = matches
        self._queue: deque[Envelope] = deque()
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._overflowed = False

    def offer(self, envelope: Envelope, field_value: filters.Adaptor) -> None:
        """Called by the exchange from any thread."""
        if not self._matches(field_value):
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._overflowed = True
        else:
            self._queue.append(envelope)
        self._loop.call_soon_threadsafe(self._wakeup.set)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Envelope:
        while not self._queue:
            if self._overflowed:
                raise ResourceExhausted(
                    f"subscriber is more than {QUEUE_LIMIT} events behind: resource exhausted",
                    hint="read events faster, or subscribe with a filter",
                )
            self._wakeup.clear()
            await self._wakeup.wait()
        return self._queue.popleft()

    def close(self) -> None:
        """No more events are queued."""
        self._exchange.unsubscribe(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Exchange:
    """One per daemon."""

    def __init__(self, read_field: FieldReader, log: Callable[..., None]) -> None:
        self._read_field = read_field
        self._log = log
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._gates: list[Callable[[Envelope], bool]] = []
        self._listened = asyncio.Event()

    def add_gate(self, admits: Callable[[Envelope], bool]) -> None:
        """Asked about every event before it goes out; False drops it. Added while the daemon starts."""
        self._gates.append(admits)

    async def first_listener(self) -> None:
        """Returns once somebody has subscribed."""
        await self._listened.wait()

    @property
    def was_listened_to(self) -> bool:
        """Whether somebody has subscribed since the start."""
        return self._listened.is_set()

    @property
    def subscriber_count(self) -> int:
        """Open subscriptions; an embedded daemon stays while there is one."""
        return len(self._subscriptions)

    def publish(self, namespace: str, topic: str, event: TypedValue) -> None:
        """Stamps and distributes an event of this daemon."""
        try:
            require_topic(topic)
        except ContainerdError as e:
            raise type(e)(f"envelope topic {quoted(topic)}: {e}") from e
        self._distribute(Envelope(now_nanos(), namespace, topic, event), "event published")

    def forward(self, envelope: Envelope) -> None:
        """Distributes somebody else's event as it is; InvalidArgument for a malformed envelope."""
        try:
            identifiers.require_valid(envelope.namespace)
        except ContainerdError as e:
            raise type(e)(f"event envelope has invalid namespace: {e}") from e
        try:
            require_topic(envelope.topic)
        except ContainerdError as e:
            raise type(e)(f"envelope topic {quoted(envelope.topic)}: {e}") from e
        if not envelope.timestamp_nanos:
            raise InvalidArgument("timestamp must be set on forwarded event: invalid argument")
        self._distribute(envelope, "event forwarded")

    def subscribe(self, filter_texts: Sequence[str]) -> Subscription:
        """Events from now on that match any of the filters. Call on the event loop."""
        try:
            matches = filters.parse_all(filter_texts)
        except InvalidArgument as e:
            # containerd wraps this error without keeping its class.
            raise Unknown(f"subscription error: failed parsing subscription filters: {e}") from e
        subscription = Subscription(self, matches)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        self._listened.set()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Idempotent."""
        with self._lock:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)

    def _distribute(self, envelope: Envelope, message: str) -> None:
        if not all(admits(envelope) for admits in self._gates):
            self._log("event dropped as reported before", ns=envelope.namespace, topic=envelope.topic)
            return
        # Copy-on-write tuple: distribution holds no lock while filters run.
        field_value = self._adaptor(envelope)
        for subscription in self._subscriptions:
            subscription.offer(envelope, field_value)
        self._log(message, ns=envelope.namespace, topic=envelope.topic, type=envelope.event.type_url)

    def _adaptor(self, envelope: Envelope) -> filters.Adaptor:
        def field_value(path: Sequence[str]) -> str | None:
            match tuple(path):
                case ("namespace",):
                    return envelope.namespace or None
                case ("topic",):
                    return envelope.topic or None
                case ("event", *rest):
                    return self._read_field(envelope.event, rest)
                case _:
                    return None

        return field_value


def require_topic(topic: str) -> None:
    """Raises InvalidArgument unless the topic is /component[/component...]."""
    if not topic:
        raise InvalidArgument("must not be empty: invalid argument")
    if not topic.startswith("/"):
        raise InvalidArgument("must start with '/': invalid argument")
    if topic == "/":
        raise InvalidArgument("must have at least one component: invalid argument")
    for component in topic[1:].split("/"):
        try:
            identifiers.require_valid(component)
        except ContainerdError as e:
            raise type(e)(f"failed validation on component {quoted(component)}: {e}") from e
