"""Events: what happens in the daemon, as it happens."""

from __future__ import annotations

from pycontainerd.lib.api.light import events, events_v1, images_v1, version_v1, wkt

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Self

    from pycontainerd.client.client import Client
    from pycontainerd.lib.api.light import types


class Event:
    """`topic` is one such as /tasks/exit; `message` the event's own (TaskExit), None for a type nobody here knows.

    `type` is the full name of its type and `value` the message as it came.
    """

    __slots__ = ("message", "namespace", "seconds", "topic", "type", "value")

    def __init__(self, envelope: types.Envelope) -> None:
        self.topic = envelope.topic
        self.namespace = envelope.namespace
        self.seconds = envelope.timestamp.seconds + envelope.timestamp.nanos / 1e9
        self.type = envelope.event.type_url.rpartition("/")[2]
        self.value = bytes(envelope.event.value)
        self.message: Any = decode(envelope.event)

    def __repr__(self) -> str:
        return f"Event({self.topic!r}, {self.message!r})"


class Events:
    """An endless iterator of events on a connection of its own. A context manager: leaving it ends the subscription."""

    def __init__(self, client: Client, filters: tuple[str, ...]) -> None:
        """Subscribes: what happens from now on is seen. Owns the client."""
        self._client = client
        request = events_v1.SubscribeRequest(filters=list(filters))
        try:
            self._stream = client.stream(events_v1.EVENTS, "Subscribe", request)
            # A subscription isn't answered before its first event: the answer to what was asked after it says that it was read.
            client.call(version_v1.VERSION, "Version", wkt.Empty())
        except BaseException:
            client.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return Event(next(self._stream))

    def close(self) -> None:
        """Ends the subscription."""
        self._stream.close()
        self._client.close()


def decode(event: Any) -> Any:
    """The message in an Any of one of containerd's events; None for another type."""
    full_name = event.type_url.rpartition("/")[2]
    name = full_name.rpartition(".")[2]
    # The image events live in the images service's package, all others in containerd.events.
    kind = getattr(events, name, None) or getattr(images_v1, name, None)
    if kind is None or full_name != getattr(kind, "FULL_NAME", ""):
        return None
    return kind.FromString(event.value)
