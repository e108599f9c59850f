"""`linux.resources` as writes to version 1 files.

Spec: runtime-spec config-linux.md#memory, #cpu, #block-io, #huge-page-limits, #network, #pids, #rdma
"""

from __future__ import annotations

import errno
import os

from pycontainerd.lib.cgroups import files
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Write = tuple[str, str, str]  # controller, file, value

_CPU_FILES = (
    ("shares", "cpu.shares"),
    ("period", "cpu.cfs_period_us"),
    ("quota", "cpu.cfs_quota_us"),
    ("realtimePeriod", "cpu.rt_period_us"),
    ("realtimeRuntime", "cpu.rt_runtime_us"),
    ("burst", "cpu.cfs_burst_us"),
    ("idle", "cpu.idle"),
)
_ZERO_COUNTS = ("burst", "idle")  # to the others zero means that they are not set
# The kernel holds each to the other and to what the parent has, at every moment: a period it refuses is right once the time in it is set.
_TIME_OF_PERIOD = {"cpu.cfs_period_us": "cpu.cfs_quota_us", "cpu.rt_period_us": "cpu.rt_runtime_us"}
# Where the CFQ scheduler is gone, BFQ's files hold what is left of them.
_BFQ_FILES = {"blkio.weight": "blkio.bfq.weight", "blkio.weight_device": "blkio.bfq.weight_device"}
_THROTTLE_FILES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)


def plan(resources: dict[str, Any]) -> list[Write]:
    """The writes in their order, memory limits left out: their order depends on what is set already."""
    writes: list[Write] = []
    cpu = resources.get("cpu", {})
    writes += [
        ("cpu", name, str(cpu[key]))
        for key, name in _CPU_FILES
        if cpu.get(key) or (key in _ZERO_COUNTS and key in cpu)
    ]
    writes += [("cpuset", f"cpuset.{key}", cpu[key]) for key in ("cpus", "mems") if cpu.get(key)]
    limit = resources.get("pids", {}).get("limit", 0)
    if limit:
        writes.append(("pids", "pids.max", str(limit) if limit > 0 else "max"))
    writes += _block_io(resources.get("blockIO", {}))
    writes += [
        ("hugetlb", f"hugetlb.{item.get('pageSize', '')}.limit_in_bytes", str(item.get("limit", 0)))
        for item in resources.get("hugepageLimits", [])
    ]
    network = resources.get("network", {})
    if network.get("classID"):
        writes.append(("net_cls", "net_cls.classid", str(network["classID"])))
    writes += [
        ("net_prio", "net_prio.ifpriomap", f"{item.get('name', '')} {item.get('priority', 0)}")
        for item in network.get("priorities", [])
    ]
    writes += [
        ("rdma", "rdma.max", rdma_line(device, item)) for device, item in resources.get("rdma", {}).items()
    ]
    return writes


def rdma_line(device: str, item: dict[str, int]) -> str:
    """One line for rdma.max."""
    words = [device]
    if "hcaHandles" in item:
        words.append(f"hca_handle={item['hcaHandles']}")
    if "hcaObjects" in item:
        words.append(f"hca_object={item['hcaObjects']}")
    return " ".join(words)


def _block_io(block: dict[str, Any]) -> list[Write]:
    writes: list[Write] = []
    if block.get("weight"):
        writes.append(("blkio", "blkio.weight", str(block["weight"])))
    if block.get("leafWeight"):
        writes.append(("blkio", "blkio.leaf_weight", str(block["leafWeight"])))
    for item in block.get("weightDevice", []):
        device = f"{item.get('major', 0)}:{item.get('minor', 0)}"
        if item.get("weight"):
            writes.append(("blkio", "blkio.weight_device", f"{device} {item['weight']}"))
        if item.get("leafWeight"):
            writes.append(("blkio", "blkio.leaf_weight_device", f"{device} {item['leafWeight']}"))
    writes += [
        ("blkio", name, f"{item.get('major', 0)}:{item.get('minor', 0)} {item.get('rate', 0)}")
        for key, name in _THROTTLE_FILES
        for item in block.get(key, [])
    ]
    return writes


def write_resources(paths: dict[str, str], resources: dict[str, Any]) -> None:
    """Writes them; InvalidArgument for a limit that a missing controller would have to hold."""
    if resources.get("unified"):
        raise InvalidArgument("invalid configuration: unified resources are only supported on cgroup v2")
    writes = plan(resources)
    names = {name for _, name, _ in writes}
    late: dict[str, Write] = {}  # by the file after which to try again
    for controller, name, value in writes:
        folder = paths.get(controller)
        if folder is None:
            raise InvalidArgument(
                f"cannot set {controller} limit: container could not join or create cgroup ({name}: no {controller} hierarchy here)"
            )
        try:
            _write_value(folder, name, value)
        except InvalidArgument as error:
            after = _TIME_OF_PERIOD.get(name)
            if after is None or after not in names or _errno(error) != errno.EINVAL:
                raise
            late[after] = (folder, name, value)
        if name in late:
            _write_value(*late.pop(name))
    memory = resources.get("memory", {})
    if memory:
        if "memory" not in paths:
            raise InvalidArgument("cannot set memory limit: container could not join or create cgroup")
        _write_memory(paths["memory"], memory)


def _errno(error: InvalidArgument) -> int | None:
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None


def _write_value(folder: str, name: str, value: str) -> None:
    if name in _BFQ_FILES and not os.path.exists(f"{folder}/{name}"):
        name = _BFQ_FILES[name]
    files.write_limit(folder, name, value)
    if name == "cpu.shares":
        _check_shares(int(value), files.read_number(folder, name))


def _check_shares(wanted: int, got: int) -> None:
    # The kernel takes any number and uses the nearest that it knows.
    if wanted != got:
        end = "maximum" if wanted > got else "minimum"
        raise InvalidArgument(f"the {end} allowed cpu-shares is {got}")


def _write_memory(folder: str, memory: dict[str, Any]) -> None:
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if limit == -1 and not swap and os.path.exists(f"{folder}/memory.memsw.limit_in_bytes"):
        swap = -1
    writes = [("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", swap)]
    if limit and swap:
        # The kernel holds limit <= limit+swap at every moment: raise the outer one first.
        current = files.read_number(folder, "memory.limit_in_bytes")
        if swap == -1 or current < swap:
            writes.reverse()
    for name, value in writes:
        if value:
            _write_limit(folder, name, value)
    if memory.get("reservation"):
        _write_value(folder, "memory.soft_limit_in_bytes", str(memory["reservation"]))
    if memory.get("disableOOMKiller"):
        _write_value(folder, "memory.oom_control", "1")
    if "swappiness" in memory:
        if memory["swappiness"] > 100:
            raise InvalidArgument(
                f"invalid memory swappiness value: {memory['swappiness']} (valid range is 0-100)"
            )
        _write_value(folder, "memory.swappiness", str(memory["swappiness"]))


def _write_limit(folder: str, name: str, value: int) -> None:
    try:
        files.write_limit(folder, name, str(value))
    except InvalidArgument as error:
        if _errno(error) == errno.EBUSY:
            usage = files.read_number(folder, "memory.usage_in_bytes")
            peak = files.read_number(folder, "memory.max_usage_in_bytes")
            raise InvalidArgument(
                f"unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})"
            ) from error
        raise
