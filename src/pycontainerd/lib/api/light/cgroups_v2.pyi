from collections.abc import Sequence

from pycontainerd.lib.api.codec import Message

__all__ = ['CPUStat', 'HugeTlbStat', 'IOEntry', 'IOStat', 'MemoryEvents', 'MemoryStat', 'Metrics', 'NetworkStat', 'PSIData', 'PSIStats', 'PidsStat', 'RdmaEntry', 'RdmaStat']

class CPUStat(Message):
    usage_usec: int
    user_usec: int
    system_usec: int
    nr_periods: int
    nr_throttled: int
    throttled_usec: int
    psi: PSIStats
    nr_bursts: int
    burst_usec: int
    def __init__(self, *, usage_usec: int = ..., user_usec: int = ..., system_usec: int = ..., nr_periods: int = ..., nr_throttled: int = ..., throttled_usec: int = ..., psi: PSIStats | None = ..., nr_bursts: int = ..., burst_usec: int = ...) -> None: ...

class HugeTlbStat(Message):
    current: int
    max: int
    pagesize: str
    failcnt: int
    def __init__(self, *, current: int = ..., max: int = ..., pagesize: str = ..., failcnt: int = ...) -> None: ...

class IOEntry(Message):
    major: int
    minor: int
    rbytes: int
    wbytes: int
    rios: int
    wios: int
    def __init__(self, *, major: int = ..., minor: int = ..., rbytes: int = ..., wbytes: int = ..., rios: int = ..., wios: int = ...) -> None: ...

class IOStat(Message):
    usage: list[IOEntry]
    psi: PSIStats
    def __init__(self, *, usage: Sequence[IOEntry] = ..., psi: PSIStats | None = ...) -> None: ...

class MemoryEvents(Message):
    low: int
    high: int
    max: int
    oom: int
    oom_kill: int
    oom_group_kill: int
    def __init__(self, *, low: int = ..., high: int = ..., max: int = ..., oom: int = ..., oom_kill: int = ..., oom_group_kill: int = ...) -> None: ...

class MemoryStat(Message):
    anon: int
    file: int
    kernel_stack: int
    slab: int
    sock: int
    shmem: int
    file_mapped: int
    file_dirty: int
    file_writeback: int
    anon_thp: int
    inactive_anon: int
    active_anon: int
    inactive_file: int
    active_file: int
    unevictable: int
    slab_reclaimable: int
    slab_unreclaimable: int
    pgfault: int
    pgmajfault: int
    workingset_refault: int
    workingset_activate: int
    workingset_nodereclaim: int
    pgrefill: int
    pgscan: int
    pgsteal: int
    pgactivate: int
    pgdeactivate: int
    pglazyfree: int
    pglazyfreed: int
    thp_fault_alloc: int
    thp_collapse_alloc: int
    usage: int
    usage_limit: int
    swap_usage: int
    swap_limit: int
    max_usage: int
    swap_max_usage: int
    psi: PSIStats
    def __init__(self, *, anon: int = ..., file: int = ..., kernel_stack: int = ..., slab: int = ..., sock: int = ..., shmem: int = ..., file_mapped: int = ..., file_dirty: int = ..., file_writeback: int = ..., anon_thp: int = ..., inactive_anon: int = ..., active_anon: int = ..., inactive_file: int = ..., active_file: int = ..., unevictable: int = ..., slab_reclaimable: int = ..., slab_unreclaimable: int = ..., pgfault: int = ..., pgmajfault: int = ..., workingset_refault: int = ..., workingset_activate: int = ..., workingset_nodereclaim: int = ..., pgrefill: int = ..., pgscan: int = ..., pgsteal: int = ..., pgactivate: int = ..., pgdeactivate: int = ..., pglazyfree: int = ..., pglazyfreed: int = ..., thp_fault_alloc: int = ..., thp_collapse_alloc: int = ..., usage: int = ..., usage_limit: int = ..., swap_usage: int = ..., swap_limit: int = ..., max_usage: int = ..., swap_max_usage: int = ..., psi: PSIStats | None = ...) -> None: ...

class Metrics(Message):
    pids: PidsStat
    cpu: CPUStat
    memory: MemoryStat
    rdma: RdmaStat
    io: IOStat
    hugetlb: list[HugeTlbStat]
    memory_events: MemoryEvents
    network: list[NetworkStat]
    def __init__(self, *, pids: PidsStat | None = ..., cpu: CPUStat | None = ..., memory: MemoryStat | None = ..., rdma: RdmaStat | None = ..., io: IOStat | None = ..., hugetlb: Sequence[HugeTlbStat] = ..., memory_events: MemoryEvents | None = ..., network: Sequence[NetworkStat] = ...) -> None: ...

class NetworkStat(Message):
    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int
    def __init__(self, *, name: str = ..., rx_bytes: int = ..., rx_packets: int = ..., rx_errors: int = ..., rx_dropped: int = ..., tx_bytes: int = ..., tx_packets: int = ..., tx_errors: int = ..., tx_dropped: int = ...) -> None: ...

class PSIData(Message):
    avg10: float
    avg60: float
    avg300: float
    total: int
    def __init__(self, *, avg10: float = ..., avg60: float = ..., avg300: float = ..., total: int = ...) -> None: ...

class PSIStats(Message):
    some: PSIData
    full: PSIData
    def __init__(self, *, some: PSIData | None = ..., full: PSIData | None = ...) -> None: ...

class PidsStat(Message):
    current: int
    limit: int
    def __init__(self, *, current: int = ..., limit: int = ...) -> None: ...

class RdmaEntry(Message):
    device: str
    hca_handles: int
    hca_objects: int
    def __init__(self, *, device: str = ..., hca_handles: int = ..., hca_objects: int = ...) -> None: ...

class RdmaStat(Message):
    current: list[RdmaEntry]
    limit: list[RdmaEntry]
    def __init__(self, *, current: Sequence[RdmaEntry] = ..., limit: Sequence[RdmaEntry] = ...) -> None: ...

