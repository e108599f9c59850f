"""Numbers for Prometheus: calls by gRPC, the process, and every container's cgroup, under containerd's names.

Spec: Prometheus text format 0.0.4; names are those of go-grpc-prometheus and containerd's metrics/cgroups
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from pycontainerd.lib.debug_http import Answer
from pycontainerd.lib.errdefs import CODE_NAMES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from pycontainerd.daemon.server.dispatch import Dispatcher, Route
    from pycontainerd.daemon.server.http import Handler

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Family:
    """One metric with its samples, as text lines; labels come sorted by name."""

    __slots__ = ("_lines", "name")

    def __init__(self, name: str, kind: str, help: str) -> None:
        self.name = name
        self._lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]

    def add(self, value: float, labels: Mapping[str, str], suffix: str = "") -> None:
        """One sample."""
        inner = ",".join(f'{key}="{_escaped(labels[key])}"' for key in sorted(labels))
        braces = f"{{{inner}}}" if inner else ""
        self._lines.append(f"{self.name}{suffix}{braces} {format_value(value)}")

    def text(self) -> str:
        """Everything, newline-terminated; nothing without a sample."""
        return "\n".join(self._lines) + "\n" if len(self._lines) > 2 else ""


class MethodCounts:
    """What is counted of one method."""

    __slots__ = ("buckets", "codes", "labels", "received", "seconds", "sent", "started")

    def __init__(self, labels: Mapping[str, str], *, histogram: bool) -> None:
        self.labels = labels
        self.started = 0
        self.received = 0
        self.sent = 0
        self.codes = [0] * len(CODE_NAMES)
        self.seconds = 0.0
        self.buckets = [0] * (len(_BUCKETS_S) + 1) if histogram else None

    def handled(self, code: int, seconds: float) -> None:
        """A call has ended with a gRPC code after so many seconds."""
        self.codes[code if 0 <= code < len(CODE_NAMES) else 2] += 1
        if self.buckets is not None:
            self.buckets[bisect_left(_BUCKETS_S, seconds)] += 1
            self.seconds += seconds


class OpenCall:
    """One call of a method, from its begin to its end."""

    __slots__ = ("_begun", "_counts")

    def __init__(self, counts: MethodCounts) -> None:
        self._counts = counts
        self._begun = time.monotonic()
        counts.started += 1

    def received(self) -> None:
        """A message has come."""
        self._counts.received += 1

    def sent(self) -> None:
        """A message goes out."""
        self._counts.sent += 1

    def ended(self, code: int) -> None:
        """The call has ended with a gRPC code."""
        self._counts.handled(code, time.monotonic() - self._begun)


class CallMetrics:
    """Counts of every method there is, from the start on, as containerd registers them."""

    def __init__(self, dispatcher: Dispatcher, *, histogram: bool) -> None:
        self._histogram = histogram
        self._counts = {
            route: MethodCounts(_method_labels(route), histogram=histogram) for route in dispatcher.routes()
        }

    def begin(self, route: Route) -> OpenCall:
        """A call of a method begins."""
        return OpenCall(self._counts[route])

    def families(self) -> Iterable[Family]:
        """All of it as samples."""
        handled = Family("grpc_server_handled_total", "counter", "Calls that have ended, by status code.")
        started = Family("grpc_server_started_total", "counter", "Calls that were begun.")
        received = Family("grpc_server_msg_received_total", "counter", "Messages received.")
        sent = Family("grpc_server_msg_sent_total", "counter", "Messages sent.")
        for counts in self._counts.values():
            for code, number in zip(CODE_NAMES, counts.codes, strict=True):
                handled.add(number, {**counts.labels, "grpc_code": code})
            started.add(counts.started, counts.labels)
            received.add(counts.received, counts.labels)
            sent.add(counts.sent, counts.labels)
        yield from (handled, received, sent, started)
        if self._histogram:
            yield self._latencies()

    def _latencies(self) -> Family:
        family = Family("grpc_server_handling_seconds", "histogram", "How long calls took, in seconds.")
        for counts in self._counts.values():
            total = 0
            for limit, number in zip((*_BUCKETS_S, None), counts.buckets or (), strict=True):
                total += number
                edge = "+Inf" if limit is None else format_value(limit)
                family.add(total, {**counts.labels, "le": edge}, "_bucket")
            family.add(counts.seconds, counts.labels, "_sum")
            family.add(total, counts.labels, "_count")
        return family


def routes(
    version: str,
    revision: str,
    calls: CallMetrics,
    containers: Callable[[], Awaitable[Iterable[Family]]],
) -> dict[str, Handler]:
    """The table for an HttpServer: /v1/metrics. `containers` reads every running container's cgroup."""

    async def metrics(query: Mapping[str, str]) -> Answer:
        del query
        build = Family("containerd_build_info_total", "counter", "What is running, in its labels.")
        build.add(1, {"version": version, "revision": revision})
        families = [build, *calls.families(), *await containers(), *_process_families()]
        text = "".join(family.text() for family in sorted(families, key=lambda family: family.name))
        return Answer(text.encode(), CONTENT_TYPE)

    return {"/v1/metrics": metrics}


def format_value(value: float) -> str:
    """A number as Go's strconv prints it with 'g': whole up to 21 digits, exponents with two digits."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e21):
        whole = int(value)
        if abs(whole) < 1 << 53:
            return str(whole)
    return repr(float(value))


def _method_labels(route: Route) -> dict[str, str]:
    method = route.method
    kind = {
        (False, False): "unary",
        (True, False): "client_stream",
        (False, True): "server_stream",
        (True, True): "bidi_stream",
    }[method.client_streaming, method.server_streaming]
    return {"grpc_method": method.name, "grpc_service": route.service_name, "grpc_type": kind}


def _process_families() -> Iterable[Family]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as f:
        virtual, resident = (int(word) * resource.getpagesize() for word in f.read().split()[:2])
    with open("/proc/self/stat", encoding="ascii", errors="replace") as f:
        started_ticks = int(f.read().rpartition(")")[2].split()[19])
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    soft_fds, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for name, kind, value, help in (
        ("process_cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime, "User and system time."),
        ("process_max_fds", "gauge", soft_fds, "The limit of open file descriptors."),
        ("process_open_fds", "gauge", len(os.listdir("/proc/self/fd")), "Open file descriptors."),
        ("process_resident_memory_bytes", "gauge", resident, "Memory in RAM."),
        (
            "process_start_time_seconds",
            "gauge",
            boot + started_ticks / os.sysconf("SC_CLK_TCK"),
            "When it was started, since 1970.",
        ),
        ("process_virtual_memory_bytes", "gauge", virtual, "Address space in use."),
        ("python_asyncio_tasks", "gauge", len(asyncio.all_tasks()), "Tasks of the event loop."),
    ):
        family = Family(name, kind, help)
        family.add(value, {})
        yield family


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
