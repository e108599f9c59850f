from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import task_types, types, wkt

__all__ = ['CheckpointTaskRequest', 'CloseIORequest', 'ConnectRequest', 'ConnectResponse', 'CreateTaskRequest', 'CreateTaskResponse', 'DeleteRequest', 'DeleteResponse', 'ExecProcessRequest', 'ExecProcessResponse', 'KillRequest', 'PauseRequest', 'PidsRequest', 'PidsResponse', 'ResizePtyRequest', 'ResumeRequest', 'ShutdownRequest', 'StartRequest', 'StartResponse', 'StateRequest', 'StateResponse', 'StatsRequest', 'StatsResponse', 'TASK', 'UpdateTaskRequest', 'WaitRequest', 'WaitResponse']

class CheckpointTaskRequest(Message):
    id: str
    path: str
    options: wkt.Any
    def __init__(self, *, id: str = ..., path: str = ..., options: wkt.Any | None = ...) -> None: ...

class CloseIORequest(Message):
    id: str
    exec_id: str
    stdin: bool
    def __init__(self, *, id: str = ..., exec_id: str = ..., stdin: bool = ...) -> None: ...

class ConnectRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class ConnectResponse(Message):
    shim_pid: int
    task_pid: int
    version: str
    def __init__(self, *, shim_pid: int = ..., task_pid: int = ..., version: str = ...) -> None: ...

class CreateTaskRequest(Message):
    id: str
    bundle: str
    rootfs: list[types.Mount]
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    checkpoint: str
    parent_checkpoint: str
    options: wkt.Any
    def __init__(self, *, id: str = ..., bundle: str = ..., rootfs: Sequence[types.Mount] = ..., terminal: bool = ..., stdin: str = ..., stdout: str = ..., stderr: str = ..., checkpoint: str = ..., parent_checkpoint: str = ..., options: wkt.Any | None = ...) -> None: ...

class CreateTaskResponse(Message):
    pid: int
    def __init__(self, *, pid: int = ...) -> None: ...

class DeleteRequest(Message):
    id: str
    exec_id: str
    def __init__(self, *, id: str = ..., exec_id: str = ...) -> None: ...

class DeleteResponse(Message):
    pid: int
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, pid: int = ..., exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

class ExecProcessRequest(Message):
    id: str
    exec_id: str
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    spec: wkt.Any
    def __init__(self, *, id: str = ..., exec_id: str = ..., terminal: bool = ..., stdin: str = ..., stdout: str = ..., stderr: str = ..., spec: wkt.Any | None = ...) -> None: ...

class ExecProcessResponse(Message):
    def __init__(self) -> None: ...

class KillRequest(Message):
    id: str
    exec_id: str
    signal: int
    all: bool
    def __init__(self, *, id: str = ..., exec_id: str = ..., signal: int = ..., all: bool = ...) -> None: ...

class PauseRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class PidsRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class PidsResponse(Message):
    processes: list[task_types.ProcessInfo]
    def __init__(self, *, processes: Sequence[task_types.ProcessInfo] = ...) -> None: ...

class ResizePtyRequest(Message):
    id: str
    exec_id: str
    width: int
    height: int
    def __init__(self, *, id: str = ..., exec_id: str = ..., width: int = ..., height: int = ...) -> None: ...

class ResumeRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class ShutdownRequest(Message):
    id: str
    now: bool
    def __init__(self, *, id: str = ..., now: bool = ...) -> None: ...

class StartRequest(Message):
    id: str
    exec_id: str
    def __init__(self, *, id: str = ..., exec_id: str = ...) -> None: ...

class StartResponse(Message):
    pid: int
    def __init__(self, *, pid: int = ...) -> None: ...

class StateRequest(Message):
    id: str
    exec_id: str
    def __init__(self, *, id: str = ..., exec_id: str = ...) -> None: ...

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
    exec_id: str
    def __init__(self, *, id: str = ..., bundle: str = ..., pid: int = ..., status: int = ..., stdin: str = ..., stdout: str = ..., stderr: str = ..., terminal: bool = ..., exit_status: int = ..., exited_at: wkt.Timestamp | None = ..., exec_id: str = ...) -> None: ...

class StatsRequest(Message):
    id: str
    def __init__(self, *, id: str = ...) -> None: ...

class StatsResponse(Message):
    stats: wkt.Any
    def __init__(self, *, stats: wkt.Any | None = ...) -> None: ...

class UpdateTaskRequest(Message):
    id: str
    resources: wkt.Any
    annotations: dict[str, str]
    def __init__(self, *, id: str = ..., resources: wkt.Any | None = ..., annotations: Mapping[str, str] = ...) -> None: ...

class WaitRequest(Message):
    id: str
    exec_id: str
    def __init__(self, *, id: str = ..., exec_id: str = ...) -> None: ...

class WaitResponse(Message):
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

TASK: Service
