from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import types, wkt

__all__ = ['ActivateRequest', 'ActivateResponse', 'DeactivateRequest', 'InfoRequest', 'InfoResponse', 'ListMessage', 'ListRequest', 'MOUNTS', 'UpdateRequest', 'UpdateResponse']

class ActivateRequest(Message):
    name: str
    mounts: list[types.Mount]
    labels: dict[str, str]
    temporary: bool
    def __init__(self, *, name: str = ..., mounts: Sequence[types.Mount] = ..., labels: Mapping[str, str] = ..., temporary: bool = ...) -> None: ...

class ActivateResponse(Message):
    info: types.ActivationInfo
    def __init__(self, *, info: types.ActivationInfo | None = ...) -> None: ...

class DeactivateRequest(Message):
    name: str
    def __init__(self, *, name: str = ...) -> None: ...

class InfoRequest(Message):
    name: str
    def __init__(self, *, name: str = ...) -> None: ...

class InfoResponse(Message):
    info: types.ActivationInfo
    def __init__(self, *, info: types.ActivationInfo | None = ...) -> None: ...

class ListMessage(Message):
    info: types.ActivationInfo
    def __init__(self, *, info: types.ActivationInfo | None = ...) -> None: ...

class ListRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

class UpdateRequest(Message):
    info: types.ActivationInfo
    update_mask: wkt.FieldMask
    def __init__(self, *, info: types.ActivationInfo | None = ..., update_mask: wkt.FieldMask | None = ...) -> None: ...

class UpdateResponse(Message):
    info: types.ActivationInfo
    def __init__(self, *, info: types.ActivationInfo | None = ...) -> None: ...

MOUNTS: Service
