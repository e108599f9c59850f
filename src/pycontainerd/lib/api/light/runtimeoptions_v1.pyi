from pycontainerd.lib.api.codec import Message

__all__ = ['Options']

class Options(Message):
    type_url: str
    config_path: str
    config_body: bytes
    def __init__(self, *, type_url: str = ..., config_path: str = ..., config_body: bytes = ...) -> None: ...

