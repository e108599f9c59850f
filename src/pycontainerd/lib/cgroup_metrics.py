"""What a container uses, from its cgroups, in containerd's messages.

Spec: io.containerd.cgroups.v1.Metrics, io.containerd.cgroups.v2.Metrics, cgroup-v1, cgroup-v2.rst
"""

from __future__ import annotations

import os

from pycontainerd.lib import errdefs
from pycontainerd.lib.api.light import cgroups_v1, cgroups_v2
from pycontainerd.lib.cgroup_folders import UNIFIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_NANOS_PER_TICK: Final = 10_000_000  # USER_HZ is 100 on every architecture we run on
_UINT64_MAX: Final = (1 << 64) - 1

# memory.stat's words where the message has others.
_V1_MEMORY: Final = {
    "pgpgin": "pg_pg_in",
    "pgpgout": "pg_pg_out",
    "pgfault": "pg_fault",
    "pgmajfault": "pg_maj_fault",
    "hierarchical_memsw_limit": "hierarchical_swap_limit",
}
_V1_BLKIO: Final = {
    "io_service_bytes_recursive": (
        "blkio.throttle.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes",
    ),
    "io_serviced_recursive": ("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"),
}


def collect(folders: dict[str, str]) -> cgroups_v1.Metrics | cgroups_v2.Metrics:
    """The metrics of a container's cgroups (cgroup_folders.locate). Raises NotFound when they are gone."""
    if not any(os.path.isdir(folder) for folder in folders.values()):
        raise errdefs.NotFound("cgroup does not exist: not found")
    if "memory" in folders or "cpuacct" in folders or UNIFIED not in folders:
        return _v1(folders)
    return _v2(folders[UNIFIED])


def _v1(folders: dict[str, str]) -> cgroups_v1.Metrics:
    pids, cpu, memory = folders.get("pids", ""), folders.get("cpu", ""), folders.get("memory", "")
    accounting = folders.get("cpuacct", "")
    throttled = _table(f"{cpu}/cpu.stat")
    ticks = _table(f"{accounting}/cpuacct.stat")
    oom = _table(f"{memory}/memory.oom_control")
    return cgroups_v1.Metrics(
        hugetlb=_v1_hugetlb(folders.get("hugetlb", "")),
        pids=cgroups_v1.PidsStat(current=_number(f"{pids}/pids.current"), limit=_number(f"{pids}/pids.max")),
        cpu=cgroups_v1.CPUStat(
            usage=cgroups_v1.CPUUsage(
                total=_number(f"{accounting}/cpuacct.usage"),
                kernel=ticks.get("system", 0) * _NANOS_PER_TICK,
                user=ticks.get("user", 0) * _NANOS_PER_TICK,
                per_cpu=[int(word) for word in _text(f"{accounting}/cpuacct.usage_percpu").split()],
            ),
            throttling=cgroups_v1.Throttle(
                periods=throttled.get("nr_periods", 0),
                throttled_periods=throttled.get("nr_throttled", 0),
                throttled_time=throttled.get("throttled_time", 0),
            ),
        ),
        memory=_v1_memory(memory),
        blkio=_v1_blkio(folders.get("blkio", "")),
        memory_oom_control=cgroups_v1.MemoryOomControl(
            oom_kill_disable=oom.get("oom_kill_disable", 0),
            under_oom=oom.get("under_oom", 0),
            oom_kill=oom.get("oom_kill", 0),
        ),
    )


def _v1_memory(folder: str) -> cgroups_v1.MemoryStat:
    # memory.stat has a line `swap` too; the message's field of that name is the memsw entry.
    known = {row[1] for row in cgroups_v1.MemoryStat.FIELDS} - {"usage", "swap", "kernel", "kernel_tcp"}
    values = {_V1_MEMORY.get(key, key): value for key, value in _table(f"{folder}/memory.stat").items()}
    counted: dict[str, Any] = {key: value for key, value in values.items() if key in known}
    return cgroups_v1.MemoryStat(
        **counted,
        usage=_v1_entry(folder, "memory"),
        swap=_v1_entry(folder, "memory.memsw"),
        kernel=_v1_entry(folder, "memory.kmem"),
        kernel_tcp=_v1_entry(folder, "memory.kmem.tcp"),
    )


def _v1_entry(folder: str, prefix: str) -> cgroups_v1.MemoryEntry:
    return cgroups_v1.MemoryEntry(
        limit=_number(f"{folder}/{prefix}.limit_in_bytes"),
        usage=_number(f"{folder}/{prefix}.usage_in_bytes"),
        max=_number(f"{folder}/{prefix}.max_usage_in_bytes"),
        failcnt=_number(f"{folder}/{prefix}.failcnt"),
    )


def _v1_blkio(folder: str) -> cgroups_v1.BlkIOStat:
    found = {}
    for field, names in _V1_BLKIO.items():
        text = next((text for name in names if (text := _text(f"{folder}/{name}"))), "")
        found[field] = [_v1_blkio_entry(line) for line in text.splitlines() if not line.startswith("Total")]
    return cgroups_v1.BlkIOStat(**found)


def _v1_blkio_entry(line: str) -> cgroups_v1.BlkIOEntry:
    device, operation, value = line.split()
    major, minor = device.split(":")
    return cgroups_v1.BlkIOEntry(op=operation, major=int(major), minor=int(minor), value=int(value))


def _v1_hugetlb(folder: str) -> list[cgroups_v1.HugetlbStat]:
    return [
        cgroups_v1.HugetlbStat(
            usage=_number(f"{folder}/hugetlb.{size}.usage_in_bytes"),
            max=_number(f"{folder}/hugetlb.{size}.max_usage_in_bytes"),
            failcnt=_number(f"{folder}/hugetlb.{size}.failcnt"),
            pagesize=size,
        )
        for size in _huge_page_sizes(folder, ".usage_in_bytes")
    ]


def _v2(folder: str) -> cgroups_v2.Metrics:
    cpu = _known(_table(f"{folder}/cpu.stat"), cgroups_v2.CPUStat.__slots__)
    memory = _known(_table(f"{folder}/memory.stat"), cgroups_v2.MemoryStat.__slots__)
    events = _known(_table(f"{folder}/memory.events"), cgroups_v2.MemoryEvents.__slots__)
    return cgroups_v2.Metrics(
        pids=cgroups_v2.PidsStat(
            current=_number(f"{folder}/pids.current"), limit=_number(f"{folder}/pids.max")
        ),
        cpu=cgroups_v2.CPUStat(**cpu),
        memory=cgroups_v2.MemoryStat(
            **memory,
            usage=_number(f"{folder}/memory.current"),
            usage_limit=_number(f"{folder}/memory.max", unlimited=_UINT64_MAX),
            swap_usage=_number(f"{folder}/memory.swap.current"),
            swap_limit=_number(f"{folder}/memory.swap.max", unlimited=_UINT64_MAX),
        ),
        io=cgroups_v2.IOStat(usage=[_v2_io(line) for line in _text(f"{folder}/io.stat").splitlines()]),
        hugetlb=[
            cgroups_v2.HugeTlbStat(
                current=_number(f"{folder}/hugetlb.{size}.current"),
                max=_number(f"{folder}/hugetlb.{size}.max", unlimited=_UINT64_MAX),
                pagesize=size,
            )
            for size in _huge_page_sizes(folder, ".current")
        ],
        memory_events=cgroups_v2.MemoryEvents(**events),
    )


def _known(values: dict[str, int], fields: tuple[str, ...]) -> dict[str, Any]:
    """The counters that the message has under the kernel's own name."""
    return {key: value for key, value in values.items() if key in fields}


def _v2_io(line: str) -> cgroups_v2.IOEntry:
    device, *pairs = line.split()
    major, minor = device.split(":")
    values = dict(pair.split("=") for pair in pairs)
    fields = {k: int(v) for k, v in values.items() if k in cgroups_v2.IOEntry.__slots__}
    return cgroups_v2.IOEntry(major=int(major), minor=int(minor), **fields)


def _huge_page_sizes(folder: str, suffix: str) -> list[str]:
    try:
        names = os.listdir(folder) if folder else []
    except FileNotFoundError:
        return []
    return sorted(
        name[len("hugetlb.") : -len(suffix)]
        for name in names
        if name.startswith("hugetlb.") and name.endswith(suffix) and ".rsvd." not in name
    )


def _text(path: str) -> str:
    """A control file; empty where the kernel doesn't have it."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str, unlimited: int = 0) -> int:
    text = _text(path).strip()
    if text == "max":
        return unlimited
    return int(text) if text.isdigit() else 0


def _table(path: str) -> dict[str, int]:
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
