from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import rpc, types, wkt

__all__ = ['DeprecationWarning', 'INTROSPECTION', 'Plugin', 'PluginInfoRequest', 'PluginInfoResponse', 'PluginsRequest', 'PluginsResponse', 'ServerResponse']

class DeprecationWarning(Message):
    id: str
    message: str
    last_occurrence: wkt.Timestamp
    def __init__(self, *, id: str = ..., message: str = ..., last_occurrence: wkt.Timestamp | None = ...) -> None: ...

class Plugin(Message):
    type: str
    id: str
    requires: list[str]
    platforms: list[types.Platform]
    exports: dict[str, str]
    capabilities: list[str]
    init_err: rpc.Status
    def __init__(self, *, type: str = ..., id: str = ..., requires: Sequence[str] = ..., platforms: Sequence[types.Platform] = ..., exports: Mapping[str, str] = ..., capabilities: Sequence[str] = ..., init_err: rpc.Status | None = ...) -> None: ...

class PluginInfoRequest(Message):
    type: str
    id: str
    options: wkt.Any
    def __init__(self, *, type: str = ..., id: str = ..., options: wkt.Any | None = ...) -> None: ...

class PluginInfoResponse(Message):
    plugin: Plugin
    extra: wkt.Any
    def __init__(self, *, plugin: Plugin | None = ..., extra: wkt.Any | None = ...) -> None: ...

class PluginsRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

class PluginsResponse(Message):
    plugins: list[Plugin]
    def __init__(self, *, plugins: Sequence[Plugin] = ...) -> None: ...

class ServerResponse(Message):
    uuid: str
    pid: int
    pidns: int
    deprecations: list[DeprecationWarning]
    def __init__(self, *, uuid: str = ..., pid: int = ..., pidns: int = ..., deprecations: Sequence[DeprecationWarning] = ...) -> None: ...

INTROSPECTION: Service
