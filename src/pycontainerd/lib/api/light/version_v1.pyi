from pycontainerd.lib.api.codec import Message, Service

__all__ = ['VERSION', 'VersionResponse']

class VersionResponse(Message):
    version: str
    revision: str
    def __init__(self, *, version: str = ..., revision: str = ...) -> None: ...

VERSION: Service
