from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import wkt

__all__ = ['TRANSFER', 'TransferOptions', 'TransferRequest']

class TransferOptions(Message):
    progress_stream: str
    def __init__(self, *, progress_stream: str = ...) -> None: ...

class TransferRequest(Message):
    source: wkt.Any
    destination: wkt.Any
    options: TransferOptions
    def __init__(self, *, source: wkt.Any | None = ..., destination: wkt.Any | None = ..., options: TransferOptions | None = ...) -> None: ...

TRANSFER: Service
