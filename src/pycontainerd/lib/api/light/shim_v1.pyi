from collections.abc import Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import task_types, types, wkt

__all__ = ['CheckpointTaskRequest', 'CloseIORequest', 'CreateTaskRequest', 'CreateTaskResponse', 'DeleteProcessRequest', 'DeleteResponse', 'ExecProcessRequest', 'ExecProcessResponse', 'KillRequest', 'ListPidsRequest', 'ListPidsResponse', 'ResizePtyRequest', 'SHIM', 'ShimInfoResponse', 'StartRequest', 'StartResponse', 'StateRequest', 'StateResponse', 'UpdateTaskRequest', 'WaitRequest', 'WaitResponse']

class CheckpointTaskRequest(Message):
    path: str
    options: wkt.Any
    def __init__(self, *, path: str = ..., options: wkt.Any | None = ...) -> None: ...

class CloseIORequest(Message):
    id: str
    stdin: bool
    def __init__(self, *, id: str = ..., stdin: bool = ...) -> None: ...

class CreateTaskRequest(Message):
    id: str
    bundle: str
    runtime: str
    rootfs: list[types.Mount]
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    checkpoint: str
    parent_checkpoint: str
    options: wkt.Any
    def __init__(self, *, id: str = ..., bundle: str = ..., runtime: str = ..., rootfs: Sequence[types.Mount] = ..., terminal: bool = ..., stdin: str = ..., stdout: str = ..., stderr: str = ..., checkpoint: str = ..., parent_checkpoint: str = ..., options: wkt.Any | None = ...) -> None: ...

class CreateTaskResponse(Message):
    pid: int
    def __init__(self, *, pid: int = ...) -> None: ...

class DeleteProcessRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class DeleteResponse(Message):
    pid: int
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, pid: int = ..., exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

class ExecProcessRequest(Message):
    id: str
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    spec: wkt.Any
    def __init__(self, *, id: str = ..., terminal: bool = ..., stdin: str = ..., stdout: str = ..., stderr: str = ..., spec: wkt.Any | None = ...) -> None: ...

class ExecProcessResponse(Message):
    def __init__(self) -> None: ...

class KillRequest(Message):
    id: str
    signal: int
    all: bool
    def __init__(self, *, id: str = ..., signal: int = ..., all: bool = ...) -> None: ...

class ListPidsRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class ListPidsResponse(Message):
    processes: list[task_types.ProcessInfo]
    def __init__(self, *, processes: Sequence[task_types.ProcessInfo] = ...) -> None: ...

class ResizePtyRequest(Message):
    id: str
    width: int
    height: int
    def __init__(self, *, id: str = ..., width: int = ..., height: int = ...) -> None: ...

class ShimInfoResponse(Message):
    shim_pid: int
    def __init__(self, *, shim_pid: int = ...) -> None: ...

class StartRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class StartResponse(Message):
    id: str
    pid: int
    def __init__(self, *, id: str = ..., pid: int = ...) -> None: ...

class StateRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class StateResponse(Message):
    id: str
    bundle: str
    pid: int
    status: int
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, id: str = ..., bundle: str = ..., pid: int = ..., status: int = ..., stdin: str = ..., stdout: str = ..., stderr: str = ..., terminal: bool = ..., exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

class UpdateTaskRequest(Message):
    resources: wkt.Any
    def __init__(self, *, resources: wkt.Any | None = ...) -> None: ...

class WaitRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class WaitResponse(Message):
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

SHIM: Service
