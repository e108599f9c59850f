"""Scheduler, I/O priority, CPU affinity of execs and memory policy: checked as values first, steps of the prepared list then.

Loaded only where a document names one of them.

Spec:    runtime-spec config.md#linux-process (ioPriority, scheduler, execCPUAffinity), config-linux.md#memory-policy
Man:     ioprio_set(2), sched_setattr(2), sched_setaffinity(2), set_mempolicy(2)
Runs in: parent (checks), init and exec's child (steps), as root of the container with all its capabilities
"""

from __future__ import annotations

import errno
import os

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.linux import scheduling as kernel
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.runtime.libcontainer.init import program
from pycontainerd.runtime.libcontainer.init.program import InitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainerd.runtime.libcontainer.init.program import Operation, State
    from pycontainerd.runtime.libcontainer.parent import Child

MAX_NUMBER = 64 * 1024  # runc's limit of a CPU's or memory node's number


class Scheduling:
    """What a process document says of its scheduler and I/O priority, and that document's own words for the state."""

    __slots__ = ("attributes", "io_priority", "raw")

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.attributes = _attributes(raw["scheduler"]) if "scheduler" in raw else None
        self.io_priority = _io_priority(raw["ioPriority"]) if "ioPriority" in raw else None

    def steps(self, cpuset: str) -> list[Operation]:
        """What applies it; `cpuset` is the container's resources.cpu.cpus."""
        steps: list[Operation] = []
        if self.attributes is not None:
            steps.append(("set_scheduler", (self.attributes, bool(cpuset)), "error setting scheduler"))
        if self.io_priority is not None:
            steps.append(("set_io_priority", self.io_priority, "failed to set io priority"))
        return steps


def _io_priority(raw: dict[str, Any]) -> tuple[int, int]:
    name, level = raw.get("class", ""), raw.get("priority", 0)
    if not 0 <= level <= 7:
        raise InvalidArgument(f"process.ioPriority: invalid ioPriority.Priority: {level}: not from 0 to 7")
    if name not in kernel.IOPRIO_CLASSES:
        raise InvalidArgument(f'process.ioPriority: invalid ioPriority.Class: "{name}"')
    return kernel.IOPRIO_CLASSES[name], level


def _attributes(raw: dict[str, Any]) -> kernel.SchedAttr:
    policy = raw.get("policy", "")
    nice, priority = raw.get("nice", 0), raw.get("priority", 0)
    wrong = _wrong_policy(policy, nice, priority)
    if not wrong and policy != "SCHED_DEADLINE" and any(raw.get(name) for name in _DEADLINE_ONLY):
        wrong = "scheduler runtime/deadline/period can only be specified for SchedDeadline policy"
    flags = 0
    for name in raw.get("flags", []):
        if name not in kernel.SCHED_FLAGS:
            wrong = wrong or f"invalid scheduler flag: {name}"
            continue
        flags |= kernel.SCHED_FLAGS[name]
    if wrong:
        raise InvalidArgument(f"process.scheduler: {wrong}")
    times = (raw.get(name, 0) for name in _DEADLINE_ONLY)
    return kernel.SchedAttr(0, kernel.SCHED_POLICIES[policy], flags, nice, priority, *times)


_DEADLINE_ONLY = ("runtime", "deadline", "period")


def _wrong_policy(policy: str, nice: int, priority: int) -> str:
    """Why these don't go together, in runc's words; empty when they do."""
    if not policy:
        return "scheduler policy is required"
    if policy not in kernel.SCHED_POLICIES:
        return f"invalid scheduler policy: {policy}"
    if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= nice <= 19:
        return f"invalid scheduler.nice: {nice} when scheduler.policy is {policy}"
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        # Unlike runc, which leaves it to the kernel: nothing has been made yet.
        return "" if 1 <= priority <= 99 else f"invalid scheduler.priority: {priority}: not from 1 to 99"
    if priority:
        return "scheduler.priority can only be specified for SchedFIFO or SchedRR policy"
    return ""


def parse_list(text: str) -> list[int]:
    """A list such as `0-3,7`, with runc's latitude for spaces and empty elements; ValueError says what is wrong.

    An empty text is an empty list; one that holds no number is an error.
    """
    found: set[int] = set()
    for part in text.split(","):
        word = part.strip()
        if not word:
            continue
        first, dash, last = word.partition("-")
        low, high = _number(first), _number(last if dash else first)
        if low > high:
            raise ValueError(f"invalid range: {word}")
        found.update(range(low, high + 1))
    if text and not found:
        raise ValueError(f'no members found in set "{text}"')
    return sorted(found)


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 20):
        raise ValueError(f'parsing "{word}": invalid syntax')
    if int(word) > MAX_NUMBER:
        raise ValueError(f"values larger than {MAX_NUMBER} are not supported")
    return int(word)


class Affinity:
    """execCPUAffinity: the CPUs of an exec's child before it is in the container's cgroups, and from then on."""

    __slots__ = ("final", "initial")

    def __init__(self, raw: dict[str, str]) -> None:
        self.initial = _cpus(raw, "initial")
        self.final = _cpus(raw, "final")

    def steps(self) -> list[Operation]:
        """What applies the final set."""
        what = "error setting final CPU affinity: sched_setaffinity"
        return [("set_affinity", (self.final,), what)] if self.final else []

    def during(self, start: Callable[[], Child]) -> Child:
        """What `start` clones begins on the initial CPUs, of which its cpuset needn't have any; InitError when none exists."""
        if not self.initial:
            return start()
        own = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, self.initial)
        except OSError as error:
            text = f"error setting initial CPU affinity: sched_setaffinity: {go_error(error.errno or 0)}"
            raise InitError(f"error starting setns process: {text}") from error
        try:
            return start()
        finally:
            os.sched_setaffinity(0, own)

    def stored(self) -> dict[str, list[int] | None]:
        """As runc keeps it in state.json."""
        return {
            "Initial": kernel.mask_words(self.initial) if self.initial else None,
            "Final": kernel.mask_words(self.final) if self.final else None,
        }


def _cpus(raw: dict[str, str], name: str) -> list[int]:
    try:
        return parse_list(raw.get(name, ""))
    except ValueError as error:
        raise InvalidArgument(
            f"process.execCPUAffinity.{name}: bad CPUAffinity.{name.capitalize()}: {error}"
        ) from error


class MemoryPolicy:
    """`linux.memoryPolicy` as the kernel takes it: mode, its flags, and the words of the node mask."""

    __slots__ = ("flags", "mode", "nodes")

    def __init__(self, mode: int, flags: int, nodes: list[int]) -> None:
        self.mode = mode
        self.flags = flags
        self.nodes = nodes

    def steps(self) -> list[Operation]:
        """What applies it."""
        return [("set_memory_policy", (self.mode | self.flags, self.nodes), "set_mempolicy")]

    def stored(self) -> dict[str, Any]:
        """As runc keeps it in state.json: what is zero or empty is left out."""
        fields = (("mode", self.mode), ("flags", self.flags), ("nodes", self.nodes))
        return {name: value for name, value in fields if value}


def parse_memory_policy(raw: dict[str, Any]) -> MemoryPolicy:
    """`linux.memoryPolicy` of config.json; InvalidArgument names the path and the rule."""
    name = raw.get("mode", "")
    if name not in kernel.MPOL_MODES:
        raise InvalidArgument(f'linux.memoryPolicy.mode: invalid memory policy mode "{name}"')
    text = raw.get("nodes", "")
    try:
        nodes = parse_list(text)
    except ValueError as error:
        raise InvalidArgument(
            f'linux.memoryPolicy.nodes: invalid memory policy nodes "{text}": {error}'
        ) from error
    flags = 0
    for flag in raw.get("flags", []):
        if flag not in kernel.MPOL_FLAGS:
            raise InvalidArgument(f'linux.memoryPolicy.flags: invalid memory policy flag "{flag}"')
        flags |= kernel.MPOL_FLAGS[flag]
    if nodes and name in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        raise InvalidArgument(
            f"linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got {len(nodes)}"
        )
    if not nodes and name not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"):
        raise InvalidArgument(
            "linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0"
        )
    return MemoryPolicy(kernel.MPOL_MODES[name], flags, kernel.mask_words(nodes) if nodes else [])


def stored_policy(document: dict[str, Any]) -> MemoryPolicy:
    """`memory_policy` of a stored config."""
    return MemoryPolicy(document.get("mode", 0), document.get("flags", 0), document.get("nodes") or [])


def stored_affinity(document: dict[str, Any]) -> dict[str, str]:
    """`exec_cpu_affinity` of a stored config in config.json's words."""
    found = {}
    for name in ("initial", "final"):
        words = document.get(name.capitalize()) or []
        bits = range(len(words) * kernel.WORD_BITS)
        found[name] = ",".join(
            str(bit) for bit in bits if words[bit // kernel.WORD_BITS] >> bit % kernel.WORD_BITS & 1
        )
    return found


def _set_scheduler(state: State, attributes: kernel.SchedAttr, has_cpuset: bool) -> None:
    try:
        kernel.sched_setattr(attributes)
    except OSError as error:
        if error.errno == errno.EPERM and has_cpuset:
            # sched_setattr(2): a deadline wants every CPU of the system.
            raise InitError("process scheduler can't be used together with AllowedCPUs") from None
        raise


def _set_io_priority(state: State, io_class: int, level: int) -> None:
    kernel.ioprio_set(io_class, level)


def _set_affinity(state: State, cpus: list[int]) -> None:
    os.sched_setaffinity(0, cpus)


def _set_memory_policy(state: State, mode: int, nodes: list[int]) -> None:
    kernel.set_mempolicy(mode, nodes)


program.OPERATIONS.update(
    set_scheduler=_set_scheduler,
    set_io_priority=_set_io_priority,
    set_affinity=_set_affinity,
    set_memory_policy=_set_memory_policy,
)
