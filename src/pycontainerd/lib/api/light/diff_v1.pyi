from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import types, wkt

__all__ = ['ApplyRequest', 'ApplyResponse', 'DIFF', 'DiffRequest', 'DiffResponse']

class ApplyRequest(Message):
    diff: types.Descriptor
    mounts: list[types.Mount]
    payloads: dict[str, wkt.Any]
    sync_fs: bool
    def __init__(self, *, diff: types.Descriptor | None = ..., mounts: Sequence[types.Mount] = ..., payloads: Mapping[str, wkt.Any] = ..., sync_fs: bool = ...) -> None: ...

class ApplyResponse(Message):
    applied: types.Descriptor
    def __init__(self, *, applied: types.Descriptor | None = ...) -> None: ...

class DiffRequest(Message):
    left: list[types.Mount]
    right: list[types.Mount]
    media_type: str
    ref: str
    labels: dict[str, str]
    source_date_epoch: wkt.Timestamp
    def __init__(self, *, left: Sequence[types.Mount] = ..., right: Sequence[types.Mount] = ..., media_type: str = ..., ref: str = ..., labels: Mapping[str, str] = ..., source_date_epoch: wkt.Timestamp | None = ...) -> None: ...

class DiffResponse(Message):
    diff: types.Descriptor
    def __init__(self, *, diff: types.Descriptor | None = ...) -> None: ...

DIFF: Service
