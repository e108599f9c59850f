from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message
from pycontainerd.lib.api.light import wkt

__all__ = ['ActivationInfo', 'ActiveMount', 'Descriptor', 'Envelope', 'Metric', 'Mount', 'Platform', 'RuntimeInfo', 'RuntimeRequest', 'RuntimeVersion', 'Sandbox']

class ActivationInfo(Message):
    name: str
    active: list[ActiveMount]
    system: list[Mount]
    labels: dict[str, str]
    def __init__(self, *, name: str = ..., active: Sequence[ActiveMount] = ..., system: Sequence[Mount] = ..., labels: Mapping[str, str] = ...) -> None: ...

class ActiveMount(Message):
    mount: Mount
    mounted_at: wkt.Timestamp
    mount_point: str
    data: dict[str, str]
    def __init__(self, *, mount: Mount | None = ..., mounted_at: wkt.Timestamp | None = ..., mount_point: str = ..., data: Mapping[str, str] = ...) -> None: ...

class Mount(Message):
    type: str
    source: str
    target: str
    options: list[str]
    def __init__(self, *, type: str = ..., source: str = ..., target: str = ..., options: Sequence[str] = ...) -> None: ...

class Metric(Message):
    timestamp: wkt.Timestamp
    id: str
    data: wkt.Any
    def __init__(self, *, timestamp: wkt.Timestamp | None = ..., id: str = ..., data: wkt.Any | None = ...) -> None: ...

class Platform(Message):
    os: str
    architecture: str
    variant: str
    os_version: str
    os_features: list[str]
    def __init__(self, *, os: str = ..., architecture: str = ..., variant: str = ..., os_version: str = ..., os_features: Sequence[str] = ...) -> None: ...

class Descriptor(Message):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str]
    def __init__(self, *, media_type: str = ..., digest: str = ..., size: int = ..., annotations: Mapping[str, str] = ...) -> None: ...

class Envelope(Message):
    timestamp: wkt.Timestamp
    namespace: str
    topic: str
    event: wkt.Any
    def __init__(self, *, timestamp: wkt.Timestamp | None = ..., namespace: str = ..., topic: str = ..., event: wkt.Any | None = ...) -> None: ...

class Sandbox(Message):
    class Runtime(Message):
        name: str
        options: wkt.Any
        def __init__(self, *, name: str = ..., options: wkt.Any | None = ...) -> None: ...

    sandbox_id: str
    runtime: Sandbox.Runtime
    spec: wkt.Any
    labels: dict[str, str]
    created_at: wkt.Timestamp
    updated_at: wkt.Timestamp
    extensions: dict[str, wkt.Any]
    sandboxer: str
    def __init__(self, *, sandbox_id: str = ..., runtime: Sandbox.Runtime | None = ..., spec: wkt.Any | None = ..., labels: Mapping[str, str] = ..., created_at: wkt.Timestamp | None = ..., updated_at: wkt.Timestamp | None = ..., extensions: Mapping[str, wkt.Any] = ..., sandboxer: str = ...) -> None: ...

class RuntimeInfo(Message):
    name: str
    version: RuntimeVersion
    options: wkt.Any
    features: wkt.Any
    annotations: dict[str, str]
    def __init__(self, *, name: str = ..., version: RuntimeVersion | None = ..., options: wkt.Any | None = ..., features: wkt.Any | None = ..., annotations: Mapping[str, str] = ...) -> None: ...

class RuntimeRequest(Message):
    runtime_path: str
    options: wkt.Any
    def __init__(self, *, runtime_path: str = ..., options: wkt.Any | None = ...) -> None: ...

class RuntimeVersion(Message):
    version: str
    revision: str
    def __init__(self, *, version: str = ..., revision: str = ...) -> None: ...

