from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import wkt

__all__ = ['VERSION', 'VersionResponse']

class VersionResponse(Message):
    version: str
    revision: str
    def __init__(self, *, version: str = ..., revision: str = ...) -> None: ...

VERSION: Service
