from pycontainerd.lib.api.codec import Message
from pycontainerd.lib.api.light import wkt

__all__ = ['Process', 'ProcessInfo', 'Status']

class Status:
    UNKNOWN = 0
    CREATED = 1
    RUNNING = 2
    STOPPED = 3
    PAUSED = 4
    PAUSING = 5

class Process(Message):
    container_id: str
    id: str
    pid: int
    status: int
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    exit_status: int
    exited_at: wkt.Timestamp
    def __init__(self, *, container_id: str = ..., id: str = ..., pid: int = ..., status: int = ..., stdin: str = ..., stdout: str = ..., stderr: str = ..., terminal: bool = ..., exit_status: int = ..., exited_at: wkt.Timestamp | None = ...) -> None: ...

class ProcessInfo(Message):
    pid: int
    info: wkt.Any
    def __init__(self, *, pid: int = ..., info: wkt.Any | None = ...) -> None: ...

