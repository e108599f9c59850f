from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import types, wkt

__all__ = ['CleanupRequest', 'CommitSnapshotRequest', 'Info', 'Kind', 'ListSnapshotsRequest', 'ListSnapshotsResponse', 'MountsRequest', 'MountsResponse', 'PrepareSnapshotRequest', 'PrepareSnapshotResponse', 'RemoveSnapshotRequest', 'SNAPSHOTS', 'StatSnapshotRequest', 'StatSnapshotResponse', 'UpdateSnapshotRequest', 'UpdateSnapshotResponse', 'UsageRequest', 'UsageResponse', 'ViewSnapshotRequest', 'ViewSnapshotResponse']

class Kind:
    UNKNOWN = 0
    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3

class CleanupRequest(Message):
    snapshotter: str
    def __init__(self, *, snapshotter: str = ...) -> None: ...

class CommitSnapshotRequest(Message):
    snapshotter: str
    name: str
    key: str
    labels: dict[str, str]
    parent: str
    def __init__(self, *, snapshotter: str = ..., name: str = ..., key: str = ..., labels: Mapping[str, str] = ..., parent: str = ...) -> None: ...

class Info(Message):
    name: str
    parent: str
    kind: int
    created_at: wkt.Timestamp
    updated_at: wkt.Timestamp
    labels: dict[str, str]
    def __init__(self, *, name: str = ..., parent: str = ..., kind: int = ..., created_at: wkt.Timestamp | None = ..., updated_at: wkt.Timestamp | None = ..., labels: Mapping[str, str] = ...) -> None: ...

class ListSnapshotsRequest(Message):
    snapshotter: str
    filters: list[str]
    def __init__(self, *, snapshotter: str = ..., filters: Sequence[str] = ...) -> None: ...

class ListSnapshotsResponse(Message):
    info: list[Info]
    def __init__(self, *, info: Sequence[Info] = ...) -> None: ...

class MountsRequest(Message):
    snapshotter: str
    key: str
    def __init__(self, *, snapshotter: str = ..., key: str = ...) -> None: ...

class MountsResponse(Message):
    mounts: list[types.Mount]
    def __init__(self, *, mounts: Sequence[types.Mount] = ...) -> None: ...

class PrepareSnapshotRequest(Message):
    snapshotter: str
    key: str
    parent: str
    labels: dict[str, str]
    def __init__(self, *, snapshotter: str = ..., key: str = ..., parent: str = ..., labels: Mapping[str, str] = ...) -> None: ...

class PrepareSnapshotResponse(Message):
    mounts: list[types.Mount]
    def __init__(self, *, mounts: Sequence[types.Mount] = ...) -> None: ...

class RemoveSnapshotRequest(Message):
    snapshotter: str
    key: str
    def __init__(self, *, snapshotter: str = ..., key: str = ...) -> None: ...

class StatSnapshotRequest(Message):
    snapshotter: str
    key: str
    def __init__(self, *, snapshotter: str = ..., key: str = ...) -> None: ...

class StatSnapshotResponse(Message):
    info: Info
    def __init__(self, *, info: Info | None = ...) -> None: ...

class UpdateSnapshotRequest(Message):
    snapshotter: str
    info: Info
    update_mask: wkt.FieldMask
    def __init__(self, *, snapshotter: str = ..., info: Info | None = ..., update_mask: wkt.FieldMask | None = ...) -> None: ...

class UpdateSnapshotResponse(Message):
    info: Info
    def __init__(self, *, info: Info | None = ...) -> None: ...

class UsageRequest(Message):
    snapshotter: str
    key: str
    def __init__(self, *, snapshotter: str = ..., key: str = ...) -> None: ...

class UsageResponse(Message):
    size: int
    inodes: int
    def __init__(self, *, size: int = ..., inodes: int = ...) -> None: ...

class ViewSnapshotRequest(Message):
    snapshotter: str
    key: str
    parent: str
    labels: dict[str, str]
    def __init__(self, *, snapshotter: str = ..., key: str = ..., parent: str = ..., labels: Mapping[str, str] = ...) -> None: ...

class ViewSnapshotResponse(Message):
    mounts: list[types.Mount]
    def __init__(self, *, mounts: Sequence[types.Mount] = ...) -> None: ...

SNAPSHOTS: Service
