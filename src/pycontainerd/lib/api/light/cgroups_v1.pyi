from collections.abc import Sequence

from pycontainerd.lib.api.codec import Message

__all__ = ['BlkIOEntry', 'BlkIOStat', 'CPUStat', 'CPUUsage', 'CgroupStats', 'HugetlbStat', 'MemoryEntry', 'MemoryOomControl', 'MemoryStat', 'Metrics', 'NetworkStat', 'PidsStat', 'RdmaEntry', 'RdmaStat', 'Throttle']

class BlkIOEntry(Message):
    op: str
    device: str
    major: int
    minor: int
    value: int
    def __init__(self, *, op: str = ..., device: str = ..., major: int = ..., minor: int = ..., value: int = ...) -> None: ...

class BlkIOStat(Message):
    io_service_bytes_recursive: list[BlkIOEntry]
    io_serviced_recursive: list[BlkIOEntry]
    io_queued_recursive: list[BlkIOEntry]
    io_service_time_recursive: list[BlkIOEntry]
    io_wait_time_recursive: list[BlkIOEntry]
    io_merged_recursive: list[BlkIOEntry]
    io_time_recursive: list[BlkIOEntry]
    sectors_recursive: list[BlkIOEntry]
    def __init__(self, *, io_service_bytes_recursive: Sequence[BlkIOEntry] = ..., io_serviced_recursive: Sequence[BlkIOEntry] = ..., io_queued_recursive: Sequence[BlkIOEntry] = ..., io_service_time_recursive: Sequence[BlkIOEntry] = ..., io_wait_time_recursive: Sequence[BlkIOEntry] = ..., io_merged_recursive: Sequence[BlkIOEntry] = ..., io_time_recursive: Sequence[BlkIOEntry] = ..., sectors_recursive: Sequence[BlkIOEntry] = ...) -> None: ...

class CPUStat(Message):
    usage: CPUUsage
    throttling: Throttle
    def __init__(self, *, usage: CPUUsage | None = ..., throttling: Throttle | None = ...) -> None: ...

class CPUUsage(Message):
    total: int
    kernel: int
    user: int
    per_cpu: list[int]
    def __init__(self, *, total: int = ..., kernel: int = ..., user: int = ..., per_cpu: Sequence[int] = ...) -> None: ...

class CgroupStats(Message):
    nr_sleeping: int
    nr_running: int
    nr_stopped: int
    nr_uninterruptible: int
    nr_io_wait: int
    def __init__(self, *, nr_sleeping: int = ..., nr_running: int = ..., nr_stopped: int = ..., nr_uninterruptible: int = ..., nr_io_wait: int = ...) -> None: ...

class HugetlbStat(Message):
    usage: int
    max: int
    failcnt: int
    pagesize: str
    def __init__(self, *, usage: int = ..., max: int = ..., failcnt: int = ..., pagesize: str = ...) -> None: ...

class MemoryEntry(Message):
    limit: int
    usage: int
    max: int
    failcnt: int
    def __init__(self, *, limit: int = ..., usage: int = ..., max: int = ..., failcnt: int = ...) -> None: ...

class MemoryOomControl(Message):
    oom_kill_disable: int
    under_oom: int
    oom_kill: int
    def __init__(self, *, oom_kill_disable: int = ..., under_oom: int = ..., oom_kill: int = ...) -> None: ...

class MemoryStat(Message):
    cache: int
    rss: int
    rss_huge: int
    mapped_file: int
    dirty: int
    writeback: int
    pg_pg_in: int
    pg_pg_out: int
    pg_fault: int
    pg_maj_fault: int
    inactive_anon: int
    active_anon: int
    inactive_file: int
    active_file: int
    unevictable: int
    hierarchical_memory_limit: int
    hierarchical_swap_limit: int
    total_cache: int
    total_rss: int
    total_rss_huge: int
    total_mapped_file: int
    total_dirty: int
    total_writeback: int
    total_pg_pg_in: int
    total_pg_pg_out: int
    total_pg_fault: int
    total_pg_maj_fault: int
    total_inactive_anon: int
    total_active_anon: int
    total_inactive_file: int
    total_active_file: int
    total_unevictable: int
    usage: MemoryEntry
    swap: MemoryEntry
    kernel: MemoryEntry
    kernel_tcp: MemoryEntry
    def __init__(self, *, cache: int = ..., rss: int = ..., rss_huge: int = ..., mapped_file: int = ..., dirty: int = ..., writeback: int = ..., pg_pg_in: int = ..., pg_pg_out: int = ..., pg_fault: int = ..., pg_maj_fault: int = ..., inactive_anon: int = ..., active_anon: int = ..., inactive_file: int = ..., active_file: int = ..., unevictable: int = ..., hierarchical_memory_limit: int = ..., hierarchical_swap_limit: int = ..., total_cache: int = ..., total_rss: int = ..., total_rss_huge: int = ..., total_mapped_file: int = ..., total_dirty: int = ..., total_writeback: int = ..., total_pg_pg_in: int = ..., total_pg_pg_out: int = ..., total_pg_fault: int = ..., total_pg_maj_fault: int = ..., total_inactive_anon: int = ..., total_active_anon: int = ..., total_inactive_file: int = ..., total_active_file: int = ..., total_unevictable: int = ..., usage: MemoryEntry | None = ..., swap: MemoryEntry | None = ..., kernel: MemoryEntry | None = ..., kernel_tcp: MemoryEntry | None = ...) -> None: ...

class Metrics(Message):
    hugetlb: list[HugetlbStat]
    pids: PidsStat
    cpu: CPUStat
    memory: MemoryStat
    blkio: BlkIOStat
    rdma: RdmaStat
    network: list[NetworkStat]
    cgroup_stats: CgroupStats
    memory_oom_control: MemoryOomControl
    def __init__(self, *, hugetlb: Sequence[HugetlbStat] = ..., pids: PidsStat | None = ..., cpu: CPUStat | None = ..., memory: MemoryStat | None = ..., blkio: BlkIOStat | None = ..., rdma: RdmaStat | None = ..., network: Sequence[NetworkStat] = ..., cgroup_stats: CgroupStats | None = ..., memory_oom_control: MemoryOomControl | None = ...) -> None: ...

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

class Throttle(Message):
    periods: int
    throttled_periods: int
    throttled_time: int
    def __init__(self, *, periods: int = ..., throttled_periods: int = ..., throttled_time: int = ...) -> None: ...

