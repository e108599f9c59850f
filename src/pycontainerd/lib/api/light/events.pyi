from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message
from pycontainerd.lib.api.light import types, wkt

__all__ = ['ContainerCreate', 'ContainerDelete', 'ContainerUpdate', 'ContentCreate', 'ContentDelete', 'NamespaceCreate', 'NamespaceDelete', 'NamespaceUpdate', 'SandboxCreate', 'SandboxExit', 'SandboxStart', 'SnapshotCommit', 'SnapshotPrepare', 'SnapshotRemove', 'TaskCheckpointed', 'TaskCreate', 'TaskDelete', 'TaskExecAdded', 'TaskExecStarted', 'TaskExit', 'TaskIO', 'TaskOOM', 'TaskPaused', 'TaskResumed', 'TaskStart']

class ContainerCreate(Message):
    class Runtime(Message):
        name: str
        options: wkt.Any
        def __init__(self, *, name: str = ..., options: wkt.Any | None = ...) -> None: ...

    id: str
    image: str
    runtime: ContainerCreate.Runtime
    def __init__(self, *, id: str = ..., image: str = ..., runtime: ContainerCreate.Runtime | None = ...) -> None: ...

class ContainerDelete(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class ContainerUpdate(Message):
    id: str
    image: str
    labels: dict[str, str]
    snapshot_key: str
    def __init__(self, *, id: str = ..., image: str = ..., labels: Mapping[str, str] = ..., snapshot_key: str = ...) -> None: ...

class ContentCreate(Message):
    digest: str
    size: int
    mediaType: str
    def __init__(self, *, digest: str = ..., size: int = ..., mediaType: str = ...) -> None: ...

class ContentDelete(Message):
    digest: str
    def __init__(self, *, digest: str = ...) -> None: ...

class NamespaceCreate(Message):
    name: str
    labels: dict[str, str]
    def __init__(self, *, name: str = ..., labels: Mapping[str, str] = ...) -> None: ...

class NamespaceDelete(Message):
    name: str
    def __init__(self, *, name: str = ...) -> None: ...

class NamespaceUpdate(Message):
    name: str
    labels: dict[str, str]
    def __init__(self, *, name: str = ..., labels: Mapping[str, str] = ...) -> None: ...

class SandboxCreate(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class SandboxExit(Message):
    sandbox_id: str
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, sandbox_id: str = ..., exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

class SandboxStart(Message):
    sandbox_id: str
    def __init__(self, *, sandbox_id: str = ...) -> None: ...

class SnapshotCommit(Message):
    key: str
    name: str
    snapshotter: str
    def __init__(self, *, key: str = ..., name: str = ..., snapshotter: str = ...) -> None: ...

class SnapshotPrepare(Message):
    key: str
    parent: str
    snapshotter: str
    def __init__(self, *, key: str = ..., parent: str = ..., snapshotter: str = ...) -> None: ...

class SnapshotRemove(Message):
    key: str
    snapshotter: str
    def __init__(self, *, key: str = ..., snapshotter: str = ...) -> None: ...

class TaskCheckpointed(Message):
    container_id: str
    checkpoint: str
    def __init__(self, *, container_id: str = ..., checkpoint: str = ...) -> None: ...

class TaskCreate(Message):
    container_id: str
    bundle: str
    rootfs: list[types.Mount]
    io: TaskIO
    checkpoint: str
    pid: int
    def __init__(self, *, container_id: str = ..., bundle: str = ..., rootfs: Sequence[types.Mount] = ..., io: TaskIO | None = ..., checkpoint: str = ..., pid: int = ...) -> None: ...

class TaskDelete(Message):
    container_id: str
    pid: int
    exit_status: int
    exited_at: wkt.Timestamp
    id: str
    def __init__(self, *, container_id: str = ..., pid: int = ..., exit_status: int = ..., exited_at: wkt.Timestamp | None = ..., id: str = ...) -> None: ...

class TaskExecAdded(Message):
    container_id: str
    exec_id: str
    def __init__(self, *, container_id: str = ..., exec_id: str = ...) -> None: ...

class TaskExecStarted(Message):
    container_id: str
    exec_id: str
    pid: int
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., pid: int = ...) -> None: ...

class TaskExit(Message):
    container_id: str
    id: str
    pid: int
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, container_id: str = ..., id: str = ..., pid: int = ..., exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

class TaskIO(Message):
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    def __init__(self, *, stdin: str = ..., stdout: str = ..., stderr: str = ..., terminal: bool = ...) -> None: ...

class TaskOOM(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

class TaskPaused(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

class TaskResumed(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

class TaskStart(Message):
    container_id: str
    pid: int
    def __init__(self, *, container_id: str = ..., pid: int = ...) -> None: ...

