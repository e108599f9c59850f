from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import types, wkt

__all__ = ['CreateSandboxRequest', 'CreateSandboxResponse', 'PingRequest', 'PingResponse', 'PlatformRequest', 'PlatformResponse', 'SANDBOX', 'SandboxMetricsRequest', 'SandboxMetricsResponse', 'SandboxStatusRequest', 'SandboxStatusResponse', 'ShutdownSandboxRequest', 'ShutdownSandboxResponse', 'StartSandboxRequest', 'StartSandboxResponse', 'StopSandboxRequest', 'StopSandboxResponse', 'UpdateSandboxRequest', 'UpdateSandboxResponse', 'WaitSandboxRequest', 'WaitSandboxResponse']

class CreateSandboxRequest(Message):
    sandbox_id: str
    bundle_path: str
    rootfs: list[types.Mount]
    options: wkt.Any
    netns_path: str
    annotations: dict[str, str]
    def __init__(self, *, sandbox_id: str = ..., bundle_path: str = ..., rootfs: Sequence[types.Mount] = ..., options: wkt.Any | None = ..., netns_path: str = ..., annotations: Mapping[str, str] = ...) -> None: ...

class CreateSandboxResponse(Message):
    def __init__(self) -> None: ...

class PingRequest(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class PingResponse(Message):
    def __init__(self) -> None: ...

class PlatformRequest(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class PlatformResponse(Message):
    platform: types.Platform
    def __init__(self, *, platform: types.Platform | None = ...) -> None: ...

class SandboxMetricsRequest(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class SandboxMetricsResponse(Message):
    metrics: types.Metric
    def __init__(self, *, metrics: types.Metric | None = ...) -> None: ...

class SandboxStatusRequest(Message):
    sandbox_id: str
    verbose: bool
    def __init__(self, *, sandbox_id: str = ..., verbose: bool = ...) -> None: ...

class SandboxStatusResponse(Message):
    sandbox_id: str
    pid: int
    state: str
    info: dict[str, str]
    created_at: wkt.Timestamp
    exited_at: wkt.Timestamp
    extra: wkt.Any
    def __init__(self, *, sandbox_id: str = ..., pid: int = ..., state: str = ..., info: Mapping[str, str] = ..., created_at: wkt.Timestamp | None = ..., exited_at: wkt.Timestamp | None = ..., extra: wkt.Any | None = ...) -> None: ...

class ShutdownSandboxRequest(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class ShutdownSandboxResponse(Message):
    def __init__(self) -> None: ...

class StartSandboxRequest(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class StartSandboxResponse(Message):
    pid: int
    created_at: wkt.Timestamp
    spec: wkt.Any
    def __init__(self, *, pid: int = ..., created_at: wkt.Timestamp | None = ..., spec: wkt.Any | None = ...) -> None: ...

class StopSandboxRequest(Message):
    sandbox_id: str
    timeout_secs: int
    def __init__(self, *, sandbox_id: str = ..., timeout_secs: int = ...) -> None: ...

class StopSandboxResponse(Message):
    def __init__(self) -> None: ...

class UpdateSandboxRequest(Message):
    sandbox_id: str
    resources: wkt.Any
    annotations: dict[str, str]
    def __init__(self, *, sandbox_id: str = ..., resources: wkt.Any | None = ..., annotations: Mapping[str, str] = ...) -> None: ...

class UpdateSandboxResponse(Message):
    def __init__(self) -> None: ...

class WaitSandboxRequest(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class WaitSandboxResponse(Message):
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

SANDBOX: Service
