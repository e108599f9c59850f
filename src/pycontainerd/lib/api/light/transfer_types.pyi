from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message
from pycontainerd.lib.api.light import types, wkt

__all__ = ['AuthRequest', 'AuthResponse', 'AuthType', 'ContainerPath', 'Data', 'HTTPDebug', 'ImageExportStream', 'ImageImportStream', 'ImageReference', 'ImageStore', 'OCIRegistry', 'Progress', 'ReadStream', 'RegistryResolver', 'UnpackConfiguration', 'WindowUpdate', 'WriteStream']

class AuthType:
    NONE = 0
    CREDENTIALS = 1
    REFRESH = 2
    HEADER = 3

class HTTPDebug:
    DISABLED = 0
    DEBUG = 1
    TRACE = 2
    BOTH = 3

class ContainerPath(Message):
    container_id: str
    path: str
    no_walk: bool
    preserve_ownership: bool
    def __init__(self, *, container_id: str = ..., path: str = ..., no_walk: bool = ..., preserve_ownership: bool = ...) -> None: ...

class ImageReference(Message):
    name: str
    is_prefix: bool
    allow_overwrite: bool
    add_digest: bool
    skip_named_digest: bool
    def __init__(self, *, name: str = ..., is_prefix: bool = ..., allow_overwrite: bool = ..., add_digest: bool = ..., skip_named_digest: bool = ...) -> None: ...

class ImageStore(Message):
    name: str
    labels: dict[str, str]
    platforms: list[types.Platform]
    all_metadata: bool
    manifest_limit: int
    extra_references: list[ImageReference]
    unpacks: list[UnpackConfiguration]
    def __init__(self, *, name: str = ..., labels: Mapping[str, str] = ..., platforms: Sequence[types.Platform] = ..., all_metadata: bool = ..., manifest_limit: int = ..., extra_references: Sequence[ImageReference] = ..., unpacks: Sequence[UnpackConfiguration] = ...) -> None: ...

class UnpackConfiguration(Message):
    platform: types.Platform
    snapshotter: str
    def __init__(self, *, platform: types.Platform | None = ..., snapshotter: str = ...) -> None: ...

class ImageExportStream(Message):
    stream: str
    media_type: str
    platforms: list[types.Platform]
    all_platforms: bool
    skip_compatibility_manifest: bool
    skip_non_distributable: bool
    def __init__(self, *, stream: str = ..., media_type: str = ..., platforms: Sequence[types.Platform] = ..., all_platforms: bool = ..., skip_compatibility_manifest: bool = ..., skip_non_distributable: bool = ...) -> None: ...

class ImageImportStream(Message):
    stream: str
    media_type: str
    force_compress: bool
    def __init__(self, *, stream: str = ..., media_type: str = ..., force_compress: bool = ...) -> None: ...

class Progress(Message):
    event: str
    name: str
    parents: list[str]
    progress: int
    total: int
    desc: types.Descriptor
    def __init__(self, *, event: str = ..., name: str = ..., parents: Sequence[str] = ..., progress: int = ..., total: int = ..., desc: types.Descriptor | None = ...) -> None: ...

class AuthRequest(Message):
    host: str
    reference: str
    wwwauthenticate: list[str]
    def __init__(self, *, host: str = ..., reference: str = ..., wwwauthenticate: Sequence[str] = ...) -> None: ...

class AuthResponse(Message):
    authType: int
    secret: str
    username: str
    expire_at: wkt.Timestamp
    def __init__(self, *, authType: int = ..., secret: str = ..., username: str = ..., expire_at: wkt.Timestamp | None = ...) -> None: ...

class OCIRegistry(Message):
    reference: str
    resolver: RegistryResolver
    def __init__(self, *, reference: str = ..., resolver: RegistryResolver | None = ...) -> None: ...

class RegistryResolver(Message):
    auth_stream: str
    headers: dict[str, str]
    host_dir: str
    default_scheme: str
    http_debug: int
    logs_stream: str
    def __init__(self, *, auth_stream: str = ..., headers: Mapping[str, str] = ..., host_dir: str = ..., default_scheme: str = ..., http_debug: int = ..., logs_stream: str = ...) -> None: ...

class Data(Message):
    data: bytes
    def __init__(self, *, data: bytes = ...) -> None: ...

class ReadStream(Message):
    stream: str
    media_type: str
    def __init__(self, *, stream: str = ..., media_type: str = ...) -> None: ...

class WindowUpdate(Message):
    update: int
    def __init__(self, *, update: int = ...) -> None: ...

class WriteStream(Message):
    stream: str
    media_type: str
    def __init__(self, *, stream: str = ..., media_type: str = ...) -> None: ...

