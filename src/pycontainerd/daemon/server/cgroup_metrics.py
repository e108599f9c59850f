"""A container's cgroup as Prometheus samples, under containerd's names for version 1 and version 2.

Source: containerd metrics/cgroups/v1 and v2 (names and units)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core.scope import Scope
from pycontainerd.daemon.server.metrics import Family
from pycontainerd.lib.api.full import cgroups_v1, cgroups_v2
from pycontainerd.lib.errdefs import ContainerdError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from pycontainerd.daemon.core.containers import ContainerStore
    from pycontainerd.daemon.core.tasks import Task, TaskManager

_NO_LABELS: Final[Mapping[str, str]] = {}

# Fields of memory.stat, by the name of the sample where that differs from the field's.
_V1_MEMORY_RENAMED: Final = {
    "pg_pg_in": "pgpgin",
    "pg_pg_out": "pgpgout",
    "pg_fault": "pgfault",
    "pg_maj_fault": "pgmajfault",
    "hierarchical_swap_limit": "hierarchical_memsw_limit",
}
_V1_COUNTERS: Final = (
    ("usage", "usage"),
    ("swap", "swap"),
    ("kernel", "kernel"),
    ("kernel_tcp", "kerneltcp"),
)
_V1_BLKIO: Final = {
    "io_merged_recursive": "total",
    "io_queued_recursive": "total",
    "io_service_bytes_recursive": "bytes",
    "io_service_time_recursive": "total",
    "io_serviced_recursive": "total",
    "io_time_recursive": "total",
    "sectors_recursive": "total",
}
_V2_CPU: Final = {
    "usage_usec": "microseconds",
    "user_usec": "microseconds",
    "system_usec": "microseconds",
    "nr_periods": "total",
    "nr_throttled": "total",
    "throttled_usec": "microseconds",
}
_V2_NO_SAMPLE: Final = {"max_usage", "swap_max_usage", "psi"}

if TYPE_CHECKING:
    Sample = tuple[str, float, Mapping[str, str]]


class ContainerMetrics:
    """Reads all running containers' cgroups through their shims."""

    def __init__(self, tasks: TaskManager, containers: ContainerStore, timeout_s: float) -> None:
        self._tasks = tasks
        self._containers = containers
        self._timeout_s = timeout_s

    async def families(self) -> Iterable[Family]:
        """Every sample of every container; one whose shim does not answer in time is left out."""
        found = await asyncio.gather(*(self._samples(task) for task in self._tasks.list("")))
        families: dict[str, Family] = {}
        for samples in found:
            for name, value, labels in samples:
                if name not in families:
                    words = name.removeprefix("container_").replace("_", " ")
                    families[name] = Family(name, "gauge", f"cgroup: {words}.")
                families[name].add(value, labels)
        return families.values()

    async def _samples(self, task: Task) -> list[Sample]:
        try:
            async with asyncio.timeout(self._timeout_s):
                stats = await task.stats()
            runtime = self._containers.get(Scope(task.namespace), task.id).runtime_name
        except (ContainerdError, TimeoutError):
            return []  # gone, or stuck: the next scrape may find it
        if stats is None:
            return []
        labels = {"container_id": task.id, "namespace": task.namespace, "runtime": runtime}
        return [
            (f"container_{name}", value, {**labels, **more})
            for name, value, more in read_samples(stats.type_url, stats.value)
        ]


def read_samples(type_url: str, value: bytes) -> Iterator[Sample]:
    """(name without `container_`, value, further labels) of a cgroup message; nothing for a type that isn't one."""
    name = type_url.rpartition("/")[2]
    if name == "io.containerd.cgroups.v1.Metrics":
        yield from _v1(cgroups_v1.Metrics.FromString(value))
    elif name == "io.containerd.cgroups.v2.Metrics":
        yield from _v2(cgroups_v2.Metrics.FromString(value))


def _v1(stats: Any) -> Iterator[Sample]:
    if stats.HasField("cpu"):
        usage, throttling = stats.cpu.usage, stats.cpu.throttling
        for field in ("total", "kernel", "user"):
            yield f"cpu_{field}_nanoseconds", getattr(usage, field), _NO_LABELS
        for number, nanos in enumerate(usage.per_cpu):
            yield "per_cpu_nanoseconds", nanos, {"cpu": str(number)}
        yield "cpu_throttle_periods_total", throttling.periods, _NO_LABELS
        yield "cpu_throttled_periods_total", throttling.throttled_periods, _NO_LABELS
        yield "cpu_throttled_time_nanoseconds", throttling.throttled_time, _NO_LABELS
    if stats.HasField("memory"):
        yield from _v1_memory(stats.memory)
    if stats.HasField("pids"):
        yield from _pids(stats.pids)
    for entry in stats.hugetlb:
        page = {"page": entry.pagesize}
        yield "hugetlb_usage_bytes", entry.usage, page
        yield "hugetlb_failcnt_total", entry.failcnt, page
        yield "hugetlb_max_bytes", entry.max, page
    for field, unit in _V1_BLKIO.items():
        for entry in getattr(stats.blkio, field):
            device = {
                "op": entry.op,
                "device": entry.device,
                "major": str(entry.major),
                "minor": str(entry.minor),
            }
            yield f"blkio_{field}_{unit}", entry.value, device


def _v1_memory(memory: Any) -> Iterator[Sample]:
    counters = dict(_V1_COUNTERS)
    for descriptor in memory.DESCRIPTOR.fields:
        field = descriptor.name
        if field in counters:
            continue
        prefix = "total_" if field.startswith("total_") else ""
        bare = field.removeprefix(prefix)
        yield f"memory_{prefix}{_V1_MEMORY_RENAMED.get(bare, bare)}_bytes", getattr(memory, field), _NO_LABELS
    for field, name in _V1_COUNTERS:
        if memory.HasField(field):
            entry = getattr(memory, field)
            yield f"memory_{name}_failcnt_total", entry.failcnt, _NO_LABELS
            for what in ("limit", "max", "usage"):
                yield f"memory_{name}_{what}_bytes", getattr(entry, what), _NO_LABELS


def _v2(stats: Any) -> Iterator[Sample]:
    if stats.HasField("cpu"):
        for field, unit in _V2_CPU.items():
            yield f"cpu_{field}_{unit}", getattr(stats.cpu, field), _NO_LABELS
    if stats.HasField("memory"):
        for descriptor in stats.memory.DESCRIPTOR.fields:
            if descriptor.name not in _V2_NO_SAMPLE:
                yield f"memory_{descriptor.name}_bytes", getattr(stats.memory, descriptor.name), _NO_LABELS
    if stats.HasField("memory_events"):
        yield "memory_oom_total", stats.memory_events.oom, _NO_LABELS
    if stats.HasField("pids"):
        yield from _pids(stats.pids)
    for entry in stats.io.usage:
        device = {"major": str(entry.major), "minor": str(entry.minor)}
        for field, unit in (("rbytes", "bytes"), ("wbytes", "bytes"), ("rios", "total"), ("wios", "total")):
            yield f"io_{field}_{unit}", getattr(entry, field), device


def _pids(pids: Any) -> Iterator[Sample]:
    yield "pids_current", pids.current, _NO_LABELS
    yield "pids_limit", pids.limit, _NO_LABELS


def reader(
    tasks: TaskManager | None, containers: ContainerStore, timeout_s: float
) -> Callable[[], Awaitable[Iterable[Family]]]:
    """What `metrics.routes` calls; nothing where no task manager was loaded."""
    if tasks is None:
        return _none
    return ContainerMetrics(tasks, containers, timeout_s).families


async def _none() -> Iterable[Family]:
    return ()
