from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import wkt

__all__ = ['CreateNamespaceRequest', 'CreateNamespaceResponse', 'DeleteNamespaceRequest', 'GetNamespaceRequest', 'GetNamespaceResponse', 'ListNamespacesRequest', 'ListNamespacesResponse', 'NAMESPACES', 'Namespace', 'UpdateNamespaceRequest', 'UpdateNamespaceResponse']

class CreateNamespaceRequest(Message):
    namespace: Namespace
    def __init__(self, *, namespace: Namespace | None = ...) -> None: ...

class CreateNamespaceResponse(Message):
    namespace: Namespace
    def __init__(self, *, namespace: Namespace | None = ...) -> None: ...

class DeleteNamespaceRequest(Message):
    name: str
    def __init__(self, *, name: str = ...) -> None: ...

class GetNamespaceRequest(Message):
    name: str
    def __init__(self, *, name: str = ...) -> None: ...

class GetNamespaceResponse(Message):
    namespace: Namespace
    def __init__(self, *, namespace: Namespace | None = ...) -> None: ...

class ListNamespacesRequest(Message):
    filter: str
    def __init__(self, *, filter: str = ...) -> None: ...

class ListNamespacesResponse(Message):
    namespaces: list[Namespace]
    def __init__(self, *, namespaces: Sequence[Namespace] = ...) -> None: ...

class Namespace(Message):
    name: str
    labels: dict[str, str]
    def __init__(self, *, name: str = ..., labels: Mapping[str, str] = ...) -> None: ...

class UpdateNamespaceRequest(Message):
    namespace: Namespace
    update_mask: wkt.FieldMask
    def __init__(self, *, namespace: Namespace | None = ..., update_mask: wkt.FieldMask | None = ...) -> None: ...

class UpdateNamespaceResponse(Message):
    namespace: Namespace
    def __init__(self, *, namespace: Namespace | None = ...) -> None: ...

NAMESPACES: Service
