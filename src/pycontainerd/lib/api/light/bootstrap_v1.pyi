from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message
from pycontainerd.lib.api.light import wkt

__all__ = ['BootstrapParams', 'BootstrapResult', 'Capability', 'Extension', 'LogLevel']

class Capability:
    CAPABILITY_UNSPECIFIED = 0

class LogLevel:
    LOG_LEVEL_INFO = 0
    LOG_LEVEL_TRACE = -8
    LOG_LEVEL_DEBUG = -4
    LOG_LEVEL_WARN = 4
    LOG_LEVEL_ERROR = 8
    LOG_LEVEL_FATAL = 10
    LOG_LEVEL_PANIC = 12

class BootstrapParams(Message):
    instance_id: str
    namespace: str
    log_level: int
    containerd_version: str
    containerd_ttrpc_address: str
    containerd_grpc_address: str
    containerd_binary: str
    extensions: list[Extension]
    socket_dir: str
    def __init__(self, *, instance_id: str = ..., namespace: str = ..., log_level: int = ..., containerd_version: str = ..., containerd_ttrpc_address: str = ..., containerd_grpc_address: str = ..., containerd_binary: str = ..., extensions: Sequence[Extension] = ..., socket_dir: str | None = ...) -> None: ...

class BootstrapResult(Message):
    version: int
    address: str
    protocol: str
    capabilities: list[int]
    metadata: dict[str, str]
    def __init__(self, *, version: int = ..., address: str = ..., protocol: str = ..., capabilities: Sequence[int] = ..., metadata: Mapping[str, str] = ...) -> None: ...

class Extension(Message):
    value: wkt.Any
    def __init__(self, *, value: wkt.Any | None = ...) -> None: ...

