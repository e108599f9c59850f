"""One sample of a task's cgroup as ctr prints it: a table of the main values, or all of them as JSON."""

from __future__ import annotations

from pycontainerd.ctr import display
from pycontainerd.lib.api import anys
from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.lib.api.light import types


def show(metric: types.Metric, form: str) -> None:
    """Prints a sample of either cgroup version; InvalidArgument for an unknown format."""
    from pycontainerd.lib.api.light import cgroups_v1, cgroups_v2

    data: Any
    if anys.is_type(metric.data, cgroups_v1.Metrics):
        data, rows = cgroups_v1.Metrics.FromString(metric.data.value), _rows_v1
    elif anys.is_type(metric.data, cgroups_v2.Metrics):
        data, rows = cgroups_v2.Metrics.FromString(metric.data.value), _rows_v2
    else:
        raise Unimplemented(f"cannot convert metric data to cgroups.Metrics: {metric.data.type_url}")
    if form == "json":
        display.write_json(as_json(data), 2)
        return
    if form != "table":
        raise InvalidArgument("format must be table or json")
    stamp = display.go_time(metric.timestamp.seconds, metric.timestamp.nanos)
    lines = [
        "ID\tTIMESTAMP\t",
        f"{metric.id}\t{stamp}\t",
        "",
        "METRIC\tVALUE\t",
        *(f"{name}\t{value}\t" for name, value in rows(data)),
    ]
    display.write(display.tabulate("\n".join([*lines, ""]), display.VALUES))


def _rows_v1(data: Any) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    if data.HasField("memory"):
        rows += [
            ("memory.usage_in_bytes", data.memory.usage.usage),
            ("memory.limit_in_bytes", data.memory.usage.limit),
            ("memory.stat.cache", data.memory.total_cache),
        ]
    if data.HasField("cpu"):
        per_cpu = " ".join(str(value) for value in data.cpu.usage.per_cpu)
        rows += [("cpuacct.usage", data.cpu.usage.total), ("cpuacct.usage_percpu", f"[{per_cpu}]")]
    if data.HasField("pids"):
        rows += [("pids.current", data.pids.current), ("pids.limit", data.pids.limit)]
    return rows


def _rows_v2(data: Any) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    if data.HasField("pids"):
        rows += [("pids.current", data.pids.current), ("pids.limit", data.pids.limit)]
    if data.HasField("cpu"):
        names = ("usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec")
        rows += [(f"cpu.{name}", getattr(data.cpu, name)) for name in names]
    if data.HasField("memory"):
        for name in ("usage", "usage_limit", "swap_usage", "swap_limit"):
            rows.append((f"memory.{name}", getattr(data.memory, name)))
    return rows


def as_json(message: Any) -> dict[str, Any]:
    """A message with Go's json tags: snake_case names, empty fields left out, set submessages kept."""
    out: dict[str, Any] = {}
    for _, name, label, kind, _ref in message.FIELDS:
        value = getattr(message, name)
        if label.startswith("MAP"):
            if value:
                out[name] = {key: value[key] for key in sorted(value)}
        elif label == "REPEATED":
            entries = [as_json(entry) if kind == "MESSAGE" else entry for entry in value]
            if entries:
                out[name] = entries
        elif kind == "MESSAGE":
            if message.HasField(name):
                out[name] = as_json(value)
        elif value:
            out[name] = value
    return out
