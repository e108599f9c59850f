"""What version 1 counts, in the shape of runc's stats event.

Spec: linux Documentation/admin-guide/cgroup-v1; runc types/events.go
"""

from __future__ import annotations

import os

from pycontainerd.lib.cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NANOS_PER_TICK = 10_000_000  # USER_HZ is 100 on every architecture that we run on


def read_stats(paths: dict[str, str]) -> dict[str, Any]:
    """`data` of a stats event; a controller that isn't there has zeros."""
    return {
        "cpu": _cpu(paths),
        "cpuset": _cpuset(paths.get("cpuset", "")),
        "memory": _memory(paths.get("memory", "")),
        "pids": _pids(paths.get("pids", "")),
        "blkio": _blkio(paths.get("blkio", "")),
        "hugetlb": _hugetlb(paths.get("hugetlb", "")),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def without_zeros(values: dict[str, int]) -> dict[str, int]:
    """Go's omitempty."""
    return {key: value for key, value in values.items() if value}


def _cpu(paths: dict[str, str]) -> dict[str, Any]:
    accounting, folder = paths.get("cpuacct", ""), paths.get("cpu", "")
    ticks = files.read_table(accounting, "cpuacct.stat") if accounting else {}
    per_cpu, kernel, user = _per_cpu(accounting) if accounting else ([], [], [])
    usage = {
        "total": files.read_number(accounting, "cpuacct.usage") if accounting else 0,
        "percpu": per_cpu,
        "percpu_kernel": kernel,
        "percpu_user": user,
        "kernel": ticks.get("system", 0) * NANOS_PER_TICK,
        "user": ticks.get("user", 0) * NANOS_PER_TICK,
    }
    throttled = files.read_table(folder, "cpu.stat") if folder else {}
    throttling = without_zeros(
        {
            "periods": throttled.get("nr_periods", 0),
            "throttledPeriods": throttled.get("nr_throttled", 0),
            "throttledTime": throttled.get("throttled_time", 0),
        }
    )
    return {"usage": usage, "throttling": throttling}


def _per_cpu(folder: str) -> tuple[list[int], list[int], list[int]]:
    per_cpu = [int(word) for word in files.read(folder, "cpuacct.usage_percpu", "").split()]
    kernel, user = [], []
    for line in files.read(folder, "cpuacct.usage_all", "").splitlines()[1:]:
        fields = line.split()
        if len(fields) == 3:
            user.append(int(fields[1]))
            kernel.append(int(fields[2]))
    return per_cpu, kernel, user


def parse_list(text: str) -> list[int]:
    """A cpu list (`0-2,7`) as numbers."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first:
            found += range(int(first), int(last if dash else first) + 1)
    return found


def _cpuset(folder: str) -> dict[str, Any]:
    if not folder:
        return {}
    numbers = {
        name: files.read_number(folder, f"cpuset.{name}")
        for name in (
            "cpu_exclusive",
            "mem_hardwall",
            "mem_exclusive",
            "memory_migrate",
            "memory_spread_page",
            "memory_spread_slab",
            "memory_pressure",
            "sched_load_balance",
        )
    }
    return {
        "cpus": parse_list(files.read(folder, "cpuset.cpus", "")),
        "cpu_exclusive": numbers["cpu_exclusive"],
        "mems": parse_list(files.read(folder, "cpuset.mems", "")),
        **{key: value for key, value in numbers.items() if key != "cpu_exclusive"},
        "sched_relax_domain_level": int(files.read(folder, "cpuset.sched_relax_domain_level", "0")),
    }


def _usage(folder: str, prefix: str) -> dict[str, int]:
    usage = files.read_number(folder, f"{prefix}.usage_in_bytes")
    found = {"limit": files.read_number(folder, f"{prefix}.limit_in_bytes")}
    found.update(
        without_zeros({"usage": usage, "max": files.read_number(folder, f"{prefix}.max_usage_in_bytes")})
    )
    found["failcnt"] = files.read_number(folder, f"{prefix}.failcnt")
    return found


def _memory(folder: str) -> dict[str, Any]:
    if not folder:
        return {}
    raw = files.read_table(folder, "memory.stat")
    found: dict[str, Any] = without_zeros({"cache": raw.get("cache", 0)})
    found.update(
        usage=_usage(folder, "memory"),
        swap=_usage(folder, "memory.memsw"),
        kernel=_usage(folder, "memory.kmem"),
        kernelTCP=_usage(folder, "memory.kmem.tcp"),
        raw=dict(sorted(raw.items())),
    )
    return found


def _pids(folder: str) -> dict[str, int]:
    if not folder:
        return {}
    limit = files.read(folder, "pids.max", "max")
    return without_zeros(
        {
            "current": files.read_number(folder, "pids.current"),
            "limit": 0 if limit == "max" else int(limit),
        }
    )


_BLKIO = (
    ("ioServiceBytesRecursive", "blkio.throttle.io_service_bytes_recursive"),
    ("ioServicedRecursive", "blkio.throttle.io_serviced_recursive"),
)


def _blkio(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, name in _BLKIO if folder else ():
        entries = []
        for line in files.read(folder, name, "").splitlines():
            fields = line.split()
            if len(fields) == 3:
                major, _, minor = fields[0].partition(":")
                entries.append(
                    {
                        **without_zeros({"major": int(major), "minor": int(minor)}),
                        "op": fields[1],
                        **without_zeros({"value": int(fields[2])}),
                    }
                )
        if entries:
            found[key] = entries
    return found


def _hugetlb(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = os.listdir(folder) if folder and os.path.isdir(folder) else []
    for name in sorted(names):
        if name.endswith(".usage_in_bytes") and ".rsvd." not in name:
            prefix = name.removesuffix(".usage_in_bytes")
            found[prefix.removeprefix("hugetlb.")] = {
                **without_zeros(
                    {
                        "usage": files.read_number(folder, name),
                        "max": files.read_number(folder, f"{prefix}.max_usage_in_bytes"),
                    }
                ),
                "failcnt": files.read_number(folder, f"{prefix}.failcnt"),
            }
    return found
