from collections.abc import Sequence

from pycontainerd.lib.api.codec import Message

__all__ = ['CheckpointOptions', 'CreateOptions', 'ProcessDetails', 'RuncOptions']

class CheckpointOptions(Message):
    exit: bool
    open_tcp: bool
    external_unix_sockets: bool
    terminal: bool
    file_locks: bool
    empty_namespaces: list[str]
    cgroups_mode: str
    work_path: str
    image_path: str
    def __init__(self, *, exit: bool = ..., open_tcp: bool = ..., external_unix_sockets: bool = ..., terminal: bool = ..., file_locks: bool = ..., empty_namespaces: Sequence[str] = ..., cgroups_mode: str = ..., work_path: str = ..., image_path: str = ...) -> None: ...

class CreateOptions(Message):
    no_pivot_root: bool
    open_tcp: bool
    external_unix_sockets: bool
    terminal: bool
    file_locks: bool
    empty_namespaces: list[str]
    cgroups_mode: str
    no_new_keyring: bool
    shim_cgroup: str
    io_uid: int
    io_gid: int
    criu_work_path: str
    criu_image_path: str
    def __init__(self, *, no_pivot_root: bool = ..., open_tcp: bool = ..., external_unix_sockets: bool = ..., terminal: bool = ..., file_locks: bool = ..., empty_namespaces: Sequence[str] = ..., cgroups_mode: str = ..., no_new_keyring: bool = ..., shim_cgroup: str = ..., io_uid: int = ..., io_gid: int = ..., criu_work_path: str = ..., criu_image_path: str = ...) -> None: ...

class ProcessDetails(Message):
    exec_id: str
    def __init__(self, *, exec_id: str = ...) -> None: ...

class RuncOptions(Message):
    runtime: str
    runtime_root: str
    criu_path: str
    systemd_cgroup: bool
    def __init__(self, *, runtime: str = ..., runtime_root: str = ..., criu_path: str = ..., systemd_cgroup: bool = ...) -> None: ...

