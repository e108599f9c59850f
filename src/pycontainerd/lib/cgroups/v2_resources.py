"""`linux.resources` as writes to version 2 files; version 1 numbers are converted as runc does.

Spec: runtime-spec config-linux.md#control-groups, cgroup-v2.rst#controllers
"""

from __future__ import annotations

import os

from pycontainerd.lib.cgroups import files
from pycontainerd.lib.cgroups.v1_resources import rdma_line
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Write = tuple[str, str]

DEFAULT_PERIOD_US = 100_000
_THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def shares_to_weight(shares: int) -> int:
    """cpu.shares 2..262144 as cpu.weight 1..10000, in a straight line as runc 1.1 does."""
    return 1 + ((shares - 2) * 9999) // 262142


def blkio_to_io_weight(weight: int) -> int:
    """blkio.weight 10..1000 as io.weight 1..10000."""
    return 1 + (weight - 10) * 9999 // 990


def swap_max(limit: int, swap: int) -> str:
    """memory.swap.max for a version 1 sum of memory and swap; empty leaves it alone."""
    if swap == -1:
        return "max"
    if swap == 0:
        # Unlimited memory without a word on swap: swap is unlimited too.
        return "max" if limit == -1 else ""
    if limit in (0, -1):
        raise InvalidArgument("unable to set swap limit without memory limit")
    if swap < limit:
        raise InvalidArgument("memory+swap limit should be >= memory limit")
    return str(swap - limit)


def _limit(value: int) -> str:
    return "max" if value == -1 else str(value)


def plan(resources: dict[str, Any]) -> list[Write]:
    """(file, value) in the order in which they are written."""
    writes: list[Write] = []
    limit = resources.get("pids", {}).get("limit", 0)
    if limit:
        writes.append(("pids.max", str(limit) if limit > 0 else "max"))
    writes += _memory(resources.get("memory", {}))
    writes += _cpu(resources.get("cpu", {}))
    writes += _block_io(resources.get("blockIO", {}))
    for item in resources.get("hugepageLimits", []):
        writes.append((f"hugetlb.{item.get('pageSize', '')}.max", str(item.get("limit", 0))))
    writes += [("rdma.max", rdma_line(device, item)) for device, item in resources.get("rdma", {}).items()]
    for name, value in resources.get("unified", {}).items():
        if "/" in name or name in ("", ".", ".."):
            raise InvalidArgument(f'unified resource "{name}" must be a file name (no slashes)')
        writes += [(name, line) for line in value.split("\n") if line or value == ""]
    return writes


def _memory(memory: dict[str, Any]) -> list[Write]:
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    writes: list[Write] = []
    value = swap_max(limit, swap)
    if value:
        writes.append(("memory.swap.max", value))
    if limit:
        writes.append(("memory.max", _limit(limit)))
    if memory.get("reservation"):
        writes.append(("memory.low", _limit(memory["reservation"])))
    return writes


def _cpu(cpu: dict[str, Any]) -> list[Write]:
    writes: list[Write] = []
    if "idle" in cpu:
        writes.append(("cpu.idle", str(cpu["idle"])))
    if cpu.get("shares"):
        writes.append(("cpu.weight", str(shares_to_weight(cpu["shares"]))))
    quota, period = cpu.get("quota", 0), cpu.get("period", 0)
    if quota or period:
        text = str(quota) if quota > 0 else "max"
        writes.append(("cpu.max", f"{text} {period or DEFAULT_PERIOD_US}"))
    if "burst" in cpu:
        writes.append(("cpu.max.burst", str(cpu["burst"])))
    return writes + [(f"cpuset.{key}", cpu[key]) for key in ("cpus", "mems") if cpu.get(key)]


def _block_io(block: dict[str, Any]) -> list[Write]:
    writes: list[Write] = []
    if block.get("weight"):
        writes.append(("io.bfq.weight", str(block["weight"])))
    writes += [
        ("io.bfq.weight", f"{item.get('major', 0)}:{item.get('minor', 0)} {item['weight']}")
        for item in block.get("weightDevice", [])
        if item.get("weight")
    ]
    writes += [
        ("io.max", f"{item.get('major', 0)}:{item.get('minor', 0)} {name}={item.get('rate', 0) or 'max'}")
        for key, name in _THROTTLES
        for item in block.get(key, [])
    ]
    return writes


def write_resources(folder: str, resources: dict[str, Any]) -> None:
    """Writes them; InvalidArgument names the file that the kernel refused."""
    _check_usage(folder, resources.get("memory", {}))
    for planned in plan(resources):
        name, value = _available(folder, *planned)
        if name == "memory.swap.max" and value == "max" and not os.path.exists(f"{folder}/{name}"):
            continue  # a kernel that doesn't account swap limits none
        files.write_limit(folder, name, value)


def _check_usage(folder: str, memory: dict[str, Any]) -> None:
    """Refuses a limit that what is used would exceed at once, where checkBeforeUpdate asks for that; the kernel would kill."""
    if not memory.get("checkBeforeUpdate"):
        return
    used = files.read_number(folder, "memory.current")
    for key, what in (("swap", "memory+swap"), ("limit", "memory")):
        if 0 < memory.get(key, 0) <= used:
            raise InvalidArgument(f"rejecting {what} limit {memory[key]} <= usage {used}")


def _available(folder: str, name: str, value: str) -> Write:
    """io.weight where the BFQ scheduler's own file isn't there."""
    if name != "io.bfq.weight" or os.path.exists(f"{folder}/{name}"):
        return name, value
    head, _, weight = value.rpartition(" ")
    return "io.weight", f"{head or 'default'} {blkio_to_io_weight(int(weight))}"
