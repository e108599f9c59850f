from collections.abc import Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import types, wkt

__all__ = ['EVENTS', 'ForwardRequest', 'PublishRequest', 'SubscribeRequest']

class ForwardRequest(Message):
    envelope: types.Envelope
    def __init__(self, *, envelope: types.Envelope | None = ...) -> None: ...

class PublishRequest(Message):
    topic: str
    event: wkt.Any
    def __init__(self, *, topic: str = ..., event: wkt.Any | None = ...) -> None: ...

class SubscribeRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

EVENTS: Service
