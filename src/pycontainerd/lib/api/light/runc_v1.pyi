from collections.abc import Sequence

from pycontainerd.lib.api.codec import Message

__all__ = ['CheckpointOptions', 'Options', 'ProcessDetails']

class CheckpointOptions(Message):
    exit: bool
    open_tcp: bool
    external_unix_sockets: bool
    terminal: bool
    file_locks: bool
    empty_namespaces: list[str]
    cgroups_mode: str
    image_path: str
    work_path: str
    parent_path: str
    def __init__(self, *, exit: bool = ..., open_tcp: bool = ..., external_unix_sockets: bool = ..., terminal: bool = ..., file_locks: bool = ..., empty_namespaces: Sequence[str] = ..., cgroups_mode: str = ..., image_path: str = ..., work_path: str = ..., parent_path: str = ...) -> None: ...

class Options(Message):
    no_pivot_root: bool
    no_new_keyring: bool
    shim_cgroup: str
    io_uid: int
    io_gid: int
    binary_name: str
    root: str
    criu_path: str
    systemd_cgroup: bool
    criu_image_path: str
    criu_work_path: str
    task_api_address: str
    task_api_version: int
    def __init__(self, *, no_pivot_root: bool = ..., no_new_keyring: bool = ..., shim_cgroup: str = ..., io_uid: int = ..., io_gid: int = ..., binary_name: str = ..., root: str = ..., criu_path: str = ..., systemd_cgroup: bool = ..., criu_image_path: str = ..., criu_work_path: str = ..., task_api_address: str = ..., task_api_version: int = ...) -> None: ...

class ProcessDetails(Message):
    exec_id: str
    def __init__(self, *, exec_id: str = ...) -> None: ...

