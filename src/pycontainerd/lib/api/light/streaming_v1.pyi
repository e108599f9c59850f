from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import wkt

__all__ = ['STREAMING', 'StreamInit']

class StreamInit(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

STREAMING: Service
