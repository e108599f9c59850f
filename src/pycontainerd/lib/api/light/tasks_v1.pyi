from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import task_types, types, wkt

__all__ = ['CheckpointTaskRequest', 'CheckpointTaskResponse', 'CloseIORequest', 'CreateTaskRequest', 'CreateTaskResponse', 'DeleteProcessRequest', 'DeleteResponse', 'DeleteTaskRequest', 'ExecProcessRequest', 'ExecProcessResponse', 'GetRequest', 'GetResponse', 'KillRequest', 'ListPidsRequest', 'ListPidsResponse', 'ListTasksRequest', 'ListTasksResponse', 'MetricsRequest', 'MetricsResponse', 'PauseTaskRequest', 'ResizePtyRequest', 'ResumeTaskRequest', 'StartRequest', 'StartResponse', 'TASKS', 'UpdateTaskRequest', 'WaitRequest', 'WaitResponse']

class CheckpointTaskRequest(Message):
    container_id: str
    parent_checkpoint: str
    options: wkt.Any
    def __init__(self, *, container_id: str = ..., parent_checkpoint: str = ..., options: wkt.Any | None = ...) -> None: ...

class CheckpointTaskResponse(Message):
    descriptors: list[types.Descriptor]
    def __init__(self, *, descriptors: Sequence[types.Descriptor] = ...) -> None: ...

class CloseIORequest(Message):
    container_id: str
    exec_id: str
    stdin: bool
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., stdin: bool = ...) -> None: ...

class CreateTaskRequest(Message):
    container_id: str
    rootfs: list[types.Mount]
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    checkpoint: types.Descriptor
    options: wkt.Any
    runtime_path: str
    task_api_address: str
    task_api_version: int
    def __init__(self, *, container_id: str = ..., rootfs: Sequence[types.Mount] = ..., stdin: str = ..., stdout: str = ..., stderr: str = ..., terminal: bool = ..., checkpoint: types.Descriptor | None = ..., options: wkt.Any | None = ..., runtime_path: str = ..., task_api_address: str = ..., task_api_version: int = ...) -> None: ...

class CreateTaskResponse(Message):
    container_id: str
    pid: int
    def __init__(self, *, container_id: str = ..., pid: int = ...) -> None: ...

class DeleteProcessRequest(Message):
    container_id: str
    exec_id: str
    def __init__(self, *, container_id: str = ..., exec_id: str = ...) -> None: ...

class DeleteResponse(Message):
    id: str
    pid: int
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, id: str = ..., pid: int = ..., exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

class DeleteTaskRequest(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

class ExecProcessRequest(Message):
    container_id: str
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    spec: wkt.Any
    exec_id: str
    def __init__(self, *, container_id: str = ..., stdin: str = ..., stdout: str = ..., stderr: str = ..., terminal: bool = ..., spec: wkt.Any | None = ..., exec_id: str = ...) -> None: ...

class ExecProcessResponse(Message):
    def __init__(self) -> None: ...

class GetRequest(Message):
    container_id: str
    exec_id: str
    def __init__(self, *, container_id: str = ..., exec_id: str = ...) -> None: ...

class GetResponse(Message):
    process: task_types.Process
    def __init__(self, *, process: task_types.Process | None = ...) -> None: ...

class KillRequest(Message):
    container_id: str
    exec_id: str
    signal: int
    all: bool
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., signal: int = ..., all: bool = ...) -> None: ...

class ListPidsRequest(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

class ListPidsResponse(Message):
    processes: list[task_types.ProcessInfo]
    def __init__(self, *, processes: Sequence[task_types.ProcessInfo] = ...) -> None: ...

class ListTasksRequest(Message):
    filter: str
    def __init__(self, *, filter: str = ...) -> None: ...

class ListTasksResponse(Message):
    tasks: list[task_types.Process]
    def __init__(self, *, tasks: Sequence[task_types.Process] = ...) -> None: ...

class MetricsRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

class MetricsResponse(Message):
    metrics: list[types.Metric]
    def __init__(self, *, metrics: Sequence[types.Metric] = ...) -> None: ...

class PauseTaskRequest(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

class ResizePtyRequest(Message):
    container_id: str
    exec_id: str
    width: int
    height: int
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., width: int = ..., height: int = ...) -> None: ...

class ResumeTaskRequest(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

class StartRequest(Message):
    container_id: str
    exec_id: str
    def __init__(self, *, container_id: str = ..., exec_id: str = ...) -> None: ...

class StartResponse(Message):
    pid: int
    def __init__(self, *, pid: int = ...) -> None: ...

class UpdateTaskRequest(Message):
    container_id: str
    resources: wkt.Any
    annotations: dict[str, str]
    def __init__(self, *, container_id: str = ..., resources: wkt.Any | None = ..., annotations: Mapping[str, str] = ...) -> None: ...

class WaitRequest(Message):
    container_id: str
    exec_id: str
    def __init__(self, *, container_id: str = ..., exec_id: str = ...) -> None: ...

class WaitResponse(Message):
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

TASKS: Service
