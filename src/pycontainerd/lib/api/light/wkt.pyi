from collections.abc import Sequence

from pycontainerd.lib.api.codec import Message

__all__ = ['Any', 'Duration', 'Empty', 'FieldMask', 'Timestamp']

class Any(Message):
    type_url: str
    value: bytes
    def __init__(self, *, type_url: str = ..., value: bytes = ...) -> None: ...

class Timestamp(Message):
    seconds: int
    nanos: int
    def __init__(self, *, seconds: int = ..., nanos: int = ...) -> None: ...

class Empty(Message):
    def __init__(self) -> None: ...

class FieldMask(Message):
    paths: list[str]
    def __init__(self, *, paths: Sequence[str] = ...) -> None: ...

class Duration(Message):
    seconds: int
    nanos: int
    def __init__(self, *, seconds: int = ..., nanos: int = ...) -> None: ...

