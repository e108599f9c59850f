from collections.abc import Sequence

from pycontainerd.lib.api.codec import Message
from pycontainerd.lib.api.light import rpc

__all__ = ['KeyValue', 'Request', 'Response', 'StringList']

class KeyValue(Message):
    key: str
    value: str
    def __init__(self, *, key: str = ..., value: str = ...) -> None: ...

class Request(Message):
    service: str
    method: str
    payload: bytes
    timeout_nano: int
    metadata: list[KeyValue]
    def __init__(self, *, service: str = ..., method: str = ..., payload: bytes = ..., timeout_nano: int = ..., metadata: Sequence[KeyValue] = ...) -> None: ...

class Response(Message):
    status: rpc.Status
    payload: bytes
    def __init__(self, *, status: rpc.Status | None = ..., payload: bytes = ...) -> None: ...

class StringList(Message):
    list: list[str]
    def __init__(self, *, list: Sequence[str] = ...) -> None: ...

