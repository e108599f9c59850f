from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import wkt

__all__ = ['AbortRequest', 'CONTENT', 'DeleteContentRequest', 'Info', 'InfoRequest', 'InfoResponse', 'ListContentRequest', 'ListContentResponse', 'ListStatusesRequest', 'ListStatusesResponse', 'ReadContentRequest', 'ReadContentResponse', 'Status', 'StatusRequest', 'StatusResponse', 'UpdateRequest', 'UpdateResponse', 'WriteAction', 'WriteContentRequest', 'WriteContentResponse']

class WriteAction:
    STAT = 0
    WRITE = 1
    COMMIT = 2

class AbortRequest(Message):
    ref: str
    def __init__(self, *, ref: str = ...) -> None: ...

class DeleteContentRequest(Message):
    digest: str
    def __init__(self, *, digest: str = ...) -> None: ...

class Info(Message):
    digest: str
    size: int
    created_at: wkt.Timestamp
    updated_at: wkt.Timestamp
    labels: dict[str, str]
    def __init__(self, *, digest: str = ..., size: int = ..., created_at: wkt.Timestamp | None = ..., updated_at: wkt.Timestamp | None = ..., labels: Mapping[str, str] = ...) -> None: ...

class InfoRequest(Message):
    digest: str
    def __init__(self, *, digest: str = ...) -> None: ...

class InfoResponse(Message):
    info: Info
    def __init__(self, *, info: Info | None = ...) -> None: ...

class ListContentRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

class ListContentResponse(Message):
    info: list[Info]
    def __init__(self, *, info: Sequence[Info] = ...) -> None: ...

class ListStatusesRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

class ListStatusesResponse(Message):
    statuses: list[Status]
    def __init__(self, *, statuses: Sequence[Status] = ...) -> None: ...

class ReadContentRequest(Message):
    digest: str
    offset: int
    size: int
    def __init__(self, *, digest: str = ..., offset: int = ..., size: int = ...) -> None: ...

class ReadContentResponse(Message):
    offset: int
    data: bytes
    def __init__(self, *, offset: int = ..., data: bytes = ...) -> None: ...

class Status(Message):
    started_at: wkt.Timestamp
    updated_at: wkt.Timestamp
    ref: str
    offset: int
    total: int
    expected: str
    def __init__(self, *, started_at: wkt.Timestamp | None = ..., updated_at: wkt.Timestamp | None = ..., ref: str = ..., offset: int = ..., total: int = ..., expected: str = ...) -> None: ...

class StatusRequest(Message):
    ref: str
    def __init__(self, *, ref: str = ...) -> None: ...

class StatusResponse(Message):
    status: Status
    def __init__(self, *, status: Status | None = ...) -> None: ...

class UpdateRequest(Message):
    info: Info
    update_mask: wkt.FieldMask
    def __init__(self, *, info: Info | None = ..., update_mask: wkt.FieldMask | None = ...) -> None: ...

class UpdateResponse(Message):
    info: Info
    def __init__(self, *, info: Info | None = ...) -> None: ...

class WriteContentRequest(Message):
    action: int
    ref: str
    total: int
    expected: str
    offset: int
    data: bytes
    labels: dict[str, str]
    def __init__(self, *, action: int = ..., ref: str = ..., total: int = ..., expected: str = ..., offset: int = ..., data: bytes = ..., labels: Mapping[str, str] = ...) -> None: ...

class WriteContentResponse(Message):
    action: int
    started_at: wkt.Timestamp
    updated_at: wkt.Timestamp
    offset: int
    total: int
    digest: str
    def __init__(self, *, action: int = ..., started_at: wkt.Timestamp | None = ..., updated_at: wkt.Timestamp | None = ..., offset: int = ..., total: int = ..., digest: str = ...) -> None: ...

CONTENT: Service
