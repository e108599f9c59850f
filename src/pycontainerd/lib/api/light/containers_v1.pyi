from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import wkt

__all__ = ['CONTAINERS', 'Container', 'CreateContainerRequest', 'CreateContainerResponse', 'DeleteContainerRequest', 'GetContainerRequest', 'GetContainerResponse', 'ListContainerMessage', 'ListContainersRequest', 'ListContainersResponse', 'UpdateContainerRequest', 'UpdateContainerResponse']

class Container(Message):
    class Runtime(Message):
        name: str
        options: wkt.Any
        def __init__(self, *, name: str = ..., options: wkt.Any | None = ...) -> None: ...

    id: str
    labels: dict[str, str]
    image: str
    runtime: Container.Runtime
    spec: wkt.Any
    snapshotter: str
    snapshot_key: str
    created_at: wkt.Timestamp
    updated_at: wkt.Timestamp
    extensions: dict[str, wkt.Any]
    sandbox: str
    def __init__(self, *, id: str = ..., labels: Mapping[str, str] = ..., image: str = ..., runtime: Container.Runtime | None = ..., spec: wkt.Any | None = ..., snapshotter: str = ..., snapshot_key: str = ..., created_at: wkt.Timestamp | None = ..., updated_at: wkt.Timestamp | None = ..., extensions: Mapping[str, wkt.Any] = ..., sandbox: str = ...) -> None: ...

class CreateContainerRequest(Message):
    container: Container
    def __init__(self, *, container: Container | None = ...) -> None: ...

class CreateContainerResponse(Message):
    container: Container
    def __init__(self, *, container: Container | None = ...) -> None: ...

class DeleteContainerRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class GetContainerRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class GetContainerResponse(Message):
    container: Container
    def __init__(self, *, container: Container | None = ...) -> None: ...

class ListContainerMessage(Message):
    container: Container
    def __init__(self, *, container: Container | None = ...) -> None: ...

class ListContainersRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

class ListContainersResponse(Message):
    containers: list[Container]
    def __init__(self, *, containers: Sequence[Container] = ...) -> None: ...

class UpdateContainerRequest(Message):
    container: Container
    update_mask: wkt.FieldMask
    def __init__(self, *, container: Container | None = ..., update_mask: wkt.FieldMask | None = ...) -> None: ...

class UpdateContainerResponse(Message):
    container: Container
    def __init__(self, *, container: Container | None = ...) -> None: ...

CONTAINERS: Service
