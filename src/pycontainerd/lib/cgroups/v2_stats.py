"""What version 2 counts, in the shape of runc's stats event.

Spec: cgroup-v2.rst; runc types/events.go
"""

from __future__ import annotations

import os

from pycontainerd.lib.cgroups import files
from pycontainerd.lib.cgroups.v1_stats import without_zeros

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read_stats(folder: str) -> dict[str, Any]:
    """`data` of a stats event; a controller that isn't enabled has zeros."""
    cpu = files.read_table(folder, "cpu.stat")
    return {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * 1000,
                "kernel": cpu.get("system_usec", 0) * 1000,
                "user": cpu.get("user_usec", 0) * 1000,
            },
            "throttling": without_zeros(
                {
                    "periods": cpu.get("nr_periods", 0),
                    "throttledPeriods": cpu.get("nr_throttled", 0),
                    "throttledTime": cpu.get("throttled_usec", 0) * 1000,
                }
            ),
            **_pressure(folder, "cpu"),
        },
        "cpuset": {},
        "memory": _memory(folder),
        "pids": _pids(folder),
        "blkio": _io(folder),
        "hugetlb": _hugetlb(folder),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _memory(folder: str) -> dict[str, Any]:
    raw = files.read_table(folder, "memory.stat")
    events = files.read_table(folder, "memory.events")
    found: dict[str, Any] = without_zeros({"cache": raw.get("file", 0)})
    usage = files.read_number(folder, "memory.current")
    swap = files.read_number(folder, "memory.swap.current")
    found["usage"] = {
        "limit": files.read_number(folder, "memory.max"),
        **without_zeros({"usage": usage, "max": files.read_number(folder, "memory.peak")}),
        "failcnt": events.get("max", 0),
    }
    found["swap"] = {
        "limit": files.read_number(folder, "memory.swap.max"),
        **without_zeros({"usage": swap}),
        "failcnt": 0,
    }
    found["kernel"] = {"limit": 0, **without_zeros({"usage": raw.get("kernel", 0)}), "failcnt": 0}
    found["kernelTCP"] = {"limit": 0, **without_zeros({"usage": raw.get("sock", 0)}), "failcnt": 0}
    found["raw"] = dict(sorted(raw.items()))
    found["events"] = events
    found.update(_pressure(folder, "memory"))
    return found


def _pressure(folder: str, controller: str) -> dict[str, Any]:
    """How long processes have waited for it, as `psi`; nothing where the kernel doesn't count that.

    Spec: linux Documentation/accounting/psi.rst
    """
    lines = files.read(folder, f"{controller}.pressure", "").splitlines()
    if not lines:
        return {}
    found: dict[str, dict[str, float]] = {
        kind: {"avg10": 0, "avg60": 0, "avg300": 0, "total": 0} for kind in ("some", "full")
    }
    for line in lines:
        kind, *words = line.split()
        for word in words:
            name, _, value = word.partition("=")
            found[kind][name] = int(value) if name == "total" else float(value)
    return {"psi": found}


def _pids(folder: str) -> dict[str, int]:
    limit = files.read(folder, "pids.max", "max")
    return without_zeros(
        {"current": files.read_number(folder, "pids.current"), "limit": 0 if limit == "max" else int(limit)}
    )


def parse_io_stat(text: str) -> list[tuple[int, int, dict[str, int]]]:
    """io.stat as (major, minor, {rbytes, wbytes, rios, wios, ...})."""
    found = []
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        major, colon, minor = device.partition(":")
        if not colon or not major.isdigit() or not minor.isdigit():
            continue
        values = {}
        for word in rest.split():
            key, _, value = word.partition("=")
            if value.isdigit():
                values[key] = int(value)
        found.append((int(major), int(minor), values))
    return found


_IO = (
    ("ioServiceBytesRecursive", (("rbytes", "Read"), ("wbytes", "Write"))),
    ("ioServicedRecursive", (("rios", "Read"), ("wios", "Write"))),
)


def _io(folder: str) -> dict[str, Any]:
    rows = parse_io_stat(files.read(folder, "io.stat", ""))
    found: dict[str, Any] = {}
    for key, names in _IO:
        entries = [
            {
                **without_zeros({"major": major, "minor": minor}),
                "op": op,
                **without_zeros({"value": values.get(name, 0)}),
            }
            for major, minor, values in rows
            for name, op in names
        ]
        if entries:
            found[key] = entries
    found.update(_pressure(folder, "io"))
    return found


def _hugetlb(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for name in sorted(names):
        if name.startswith("hugetlb.") and name.endswith(".current") and ".rsvd." not in name:
            size = name.removeprefix("hugetlb.").removesuffix(".current")
            events = files.read_table(folder, f"hugetlb.{size}.events")
            found[size] = {
                **without_zeros({"usage": files.read_number(folder, name)}),
                "failcnt": events.get("max", 0),
            }
    return found
