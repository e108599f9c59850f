from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import types, wkt

__all__ = ['CONTROLLER', 'ControllerCreateRequest', 'ControllerCreateResponse', 'ControllerMetricsRequest', 'ControllerMetricsResponse', 'ControllerPlatformRequest', 'ControllerPlatformResponse', 'ControllerShutdownRequest', 'ControllerShutdownResponse', 'ControllerStartRequest', 'ControllerStartResponse', 'ControllerStatusRequest', 'ControllerStatusResponse', 'ControllerStopRequest', 'ControllerStopResponse', 'ControllerUpdateRequest', 'ControllerUpdateResponse', 'ControllerWaitRequest', 'ControllerWaitResponse', 'STORE', 'StoreCreateRequest', 'StoreCreateResponse', 'StoreDeleteRequest', 'StoreDeleteResponse', 'StoreGetRequest', 'StoreGetResponse', 'StoreListRequest', 'StoreListResponse', 'StoreUpdateRequest', 'StoreUpdateResponse']

class ControllerCreateRequest(Message):
    sandbox_id: str
    rootfs: list[types.Mount]
    options: wkt.Any
    netns_path: str
    annotations: dict[str, str]
    sandbox: types.Sandbox
    sandboxer: str
    def __init__(self, *, sandbox_id: str = ..., rootfs: Sequence[types.Mount] = ..., options: wkt.Any | None = ..., netns_path: str = ..., annotations: Mapping[str, str] = ..., sandbox: types.Sandbox | None = ..., sandboxer: str = ...) -> None: ...

class ControllerCreateResponse(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class ControllerMetricsRequest(Message):
    sandbox_id: str
    sandboxer: str
    def __init__(self, *, sandbox_id: str = ..., sandboxer: str = ...) -> None: ...

class ControllerMetricsResponse(Message):
    metrics: types.Metric
    def __init__(self, *, metrics: types.Metric | None = ...) -> None: ...

class ControllerPlatformRequest(Message):
    sandbox_id: str
    sandboxer: str
    def __init__(self, *, sandbox_id: str = ..., sandboxer: str = ...) -> None: ...

class ControllerPlatformResponse(Message):
    platform: types.Platform
    def __init__(self, *, platform: types.Platform | None = ...) -> None: ...

class ControllerShutdownRequest(Message):
    sandbox_id: str
    sandboxer: str
    def __init__(self, *, sandbox_id: str = ..., sandboxer: str = ...) -> None: ...

class ControllerShutdownResponse(Message):
    def __init__(self) -> None: ...

class ControllerStartRequest(Message):
    sandbox_id: str
    sandboxer: str
    def __init__(self, *, sandbox_id: str = ..., sandboxer: str = ...) -> None: ...

class ControllerStartResponse(Message):
    sandbox_id: str
    pid: int
    created_at: wkt.Timestamp
    labels: dict[str, str]
    address: str
    version: int
    spec: wkt.Any
    def __init__(self, *, sandbox_id: str = ..., pid: int = ..., created_at: wkt.Timestamp | None = ..., labels: Mapping[str, str] = ..., address: str = ..., version: int = ..., spec: wkt.Any | None = ...) -> None: ...

class ControllerStatusRequest(Message):
    sandbox_id: str
    verbose: bool
    sandboxer: str
    def __init__(self, *, sandbox_id: str = ..., verbose: bool = ..., sandboxer: str = ...) -> None: ...

class ControllerStatusResponse(Message):
    sandbox_id: str
    pid: int
    state: str
    info: dict[str, str]
    created_at: wkt.Timestamp
    exited_at: wkt.Timestamp
    extra: wkt.Any
    address: str
    version: int
    def __init__(self, *, sandbox_id: str = ..., pid: int = ..., state: str = ..., info: Mapping[str, str] = ..., created_at: wkt.Timestamp | None = ..., exited_at: wkt.Timestamp | None = ..., extra: wkt.Any | None = ..., address: str = ..., version: int = ...) -> None: ...

class ControllerStopRequest(Message):
    sandbox_id: str
    timeout_secs: int
    sandboxer: str
    def __init__(self, *, sandbox_id: str = ..., timeout_secs: int = ..., sandboxer: str = ...) -> None: ...

class ControllerStopResponse(Message):
    def __init__(self) -> None: ...

class ControllerUpdateRequest(Message):
    sandbox_id: str
    sandboxer: str
    sandbox: types.Sandbox
    fields: list[str]
    def __init__(self, *, sandbox_id: str = ..., sandboxer: str = ..., sandbox: types.Sandbox | None = ..., fields: Sequence[str] = ...) -> None: ...

class ControllerUpdateResponse(Message):
    def __init__(self) -> None: ...

class ControllerWaitRequest(Message):
    sandbox_id: str
    sandboxer: str
    def __init__(self, *, sandbox_id: str = ..., sandboxer: str = ...) -> None: ...

class ControllerWaitResponse(Message):
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

class StoreCreateRequest(Message):
    sandbox: types.Sandbox
    def __init__(self, *, sandbox: types.Sandbox | None = ...) -> None: ...

class StoreCreateResponse(Message):
    sandbox: types.Sandbox
    def __init__(self, *, sandbox: types.Sandbox | None = ...) -> None: ...

class StoreDeleteRequest(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class StoreDeleteResponse(Message):
    def __init__(self) -> None: ...

class StoreGetRequest(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class StoreGetResponse(Message):
    sandbox: types.Sandbox
    def __init__(self, *, sandbox: types.Sandbox | None = ...) -> None: ...

class StoreListRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

class StoreListResponse(Message):
    list: list[types.Sandbox]
    def __init__(self, *, list: Sequence[types.Sandbox] = ...) -> None: ...

class StoreUpdateRequest(Message):
    sandbox: types.Sandbox
    fields: list[str]
    def __init__(self, *, sandbox: types.Sandbox | None = ..., fields: Sequence[str] = ...) -> None: ...

class StoreUpdateResponse(Message):
    sandbox: types.Sandbox
    def __init__(self, *, sandbox: types.Sandbox | None = ...) -> None: ...

CONTROLLER: Service
STORE: Service
