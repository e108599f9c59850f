from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import types, wkt

__all__ = ['EVENTS', 'ForwardRequest']

class ForwardRequest(Message):
    envelope: types.Envelope
    def __init__(self, *, envelope: types.Envelope | None = ...) -> None: ...

EVENTS: Service
