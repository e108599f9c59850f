from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import wkt

__all__ = ['AddResourceRequest', 'CreateRequest', 'CreateResponse', 'DeleteRequest', 'DeleteResourceRequest', 'LEASES', 'Lease', 'ListRequest', 'ListResourcesRequest', 'ListResourcesResponse', 'ListResponse', 'Resource']

class AddResourceRequest(Message):
    id: str
    resource: Resource
    def __init__(self, *, id: str = ..., resource: Resource | None = ...) -> None: ...

class CreateRequest(Message):
    id: str
    labels: dict[str, str]
    def __init__(self, *, id: str = ..., labels: Mapping[str, str] = ...) -> None: ...

class CreateResponse(Message):
    lease: Lease
    def __init__(self, *, lease: Lease | None = ...) -> None: ...

class DeleteRequest(Message):
    id: str
    sync: bool
    def __init__(self, *, id: str = ..., sync: bool = ...) -> None: ...

class DeleteResourceRequest(Message):
    id: str
    resource: Resource
    def __init__(self, *, id: str = ..., resource: Resource | None = ...) -> None: ...

class Lease(Message):
    id: str
    created_at: wkt.Timestamp
    labels: dict[str, str]
    def __init__(self, *, id: str = ..., created_at: wkt.Timestamp | None = ..., labels: Mapping[str, str] = ...) -> None: ...

class ListRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

class ListResourcesRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class ListResourcesResponse(Message):
    resources: list[Resource]
    def __init__(self, *, resources: Sequence[Resource] = ...) -> None: ...

class ListResponse(Message):
    leases: list[Lease]
    def __init__(self, *, leases: Sequence[Lease] = ...) -> None: ...

class Resource(Message):
    id: str
    type: str
    def __init__(self, *, id: str = ..., type: str = ...) -> None: ...

LEASES: Service
