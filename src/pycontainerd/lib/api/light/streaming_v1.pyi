from pycontainerd.lib.api.codec import Message, Service

__all__ = ['STREAMING', 'StreamInit']

class StreamInit(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

STREAMING: Service
