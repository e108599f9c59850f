from collections.abc import Sequence

from pycontainerd.lib.api.codec import Message
from pycontainerd.lib.api.light import wkt

__all__ = ['Status']

class Status(Message):
    code: int
    message: str
    details: list[wkt.Any]
    def __init__(self, *, code: int = ..., message: str = ..., details: Sequence[wkt.Any] = ...) -> None: ...

