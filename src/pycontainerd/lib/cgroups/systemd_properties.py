"""`linux.resources` and annotations as properties of a systemd unit: (name, (D-Bus signature, value)).

What systemd has no property for is left to the files, which are written afterwards anyway.

Spec: systemd.resource-control(5); runc docs/systemd.md, libcontainer/cgroups/systemd
"""

from __future__ import annotations

from pycontainerd.lib.cgroups.devices import WILDCARD, fold
from pycontainerd.lib.cgroups.v2_resources import DEFAULT_PERIOD_US, shares_to_weight, swap_max
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Property = tuple[str, tuple[str, Any]]

INFINITY = 2**64 - 1
ANNOTATION = "org.systemd.property."
# What annotations may set: how the unit itself is stopped, collected, ordered and limited. Everything else of systemd's can
# act on the host (SuccessAction, OnFailure, Conflicts, …), and annotations may come from an image (CVE-2024-3154).
FROM_ANNOTATIONS = frozenset(
    {
        "After", "AllowedCPUs", "AllowedMemoryNodes", "Before", "CollectMode", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec",
        "CPUShares", "CPUWeight", "Description", "Documentation", "FinalKillSignal", "IOWeight", "KillMode", "KillSignal",
        "ManagedOOMMemoryPressure", "ManagedOOMMemoryPressureLimit", "ManagedOOMPreference", "ManagedOOMSwap", "MemoryHigh",
        "MemoryLimit", "MemoryLow", "MemoryMax", "MemoryMin", "MemorySwapMax", "OOMPolicy", "RuntimeMaxUSec", "SendSIGHUP",
        "SendSIGKILL", "StartupCPUWeight", "StartupIOWeight", "TasksMax", "TimeoutStopUSec",
    }
)  # fmt: skip
# The first versions of systemd that know a property.
QUOTA_PERIOD_SINCE, CPUSET_SINCE, IDLE_SINCE, OOM_POLICY_SINCE = 242, 244, 252, 253
_MEMORY = {
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
}
_CPUSETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def _unsigned(value: int) -> int:
    return value if value >= 0 else INFINITY


def _u64(name: str, value: int) -> Property:
    return name, ("t", value)


def cpu_quota(cpu: dict[str, Any], version: int) -> tuple[list[Property], int]:
    """The quota's properties, and the quota as systemd will have rounded it: to whole percents of a CPU, upwards."""
    quota, period = cpu.get("quota", 0), cpu.get("period", 0)
    found = []
    if period and version >= QUOTA_PERIOD_SINCE:
        found.append(_u64("CPUQuotaPeriodUSec", period))
    if not quota and not period:
        return found, quota
    per_second = INFINITY
    if quota > 0:
        period = period or DEFAULT_PERIOD_US
        per_second = quota * 1_000_000 // period
        if per_second % 10_000:
            per_second = (per_second // 10_000 + 1) * 10_000
            quota = per_second * period // 1_000_000
    return [*found, _u64("CPUQuotaPerSecUSec", per_second)], quota


def bits_of(text: str, where: str) -> list[int]:
    """A list such as `1,3-5` as the bytes of a mask, lowest first; InvalidArgument names the property."""
    mask = 0
    for part in text.split(","):
        word = part.strip()
        if not word:
            continue
        first, dash, last = word.partition("-")
        low, high = first, last if dash else first
        if not (low.isascii() and low.isdigit() and high.isascii() and high.isdigit() and len(high) < 7):
            raise InvalidArgument(f'{where}="{text}" conversion error: parsing "{word}": invalid syntax')
        if int(low) > int(high):
            raise InvalidArgument(f'{where}="{text}" conversion error: invalid range: {word}')
        mask |= (1 << int(high) + 1) - (1 << int(low))
    if not mask:
        raise InvalidArgument(f'{where}="{text}" conversion error: empty value')
    return list(mask.to_bytes((mask.bit_length() + 7) // 8, "little"))


def _cpuset(cpu: dict[str, Any], version: int) -> list[Property]:
    if version < CPUSET_SINCE:
        return []
    found: list[Property] = []
    for key, name, where in (
        ("cpus", "AllowedCPUs", "resources.CPU.Cpus"),
        ("mems", "AllowedMemoryNodes", "resources.CPU.Mems"),
    ):
        if cpu.get(key):
            found.append((name, ("ay", bits_of(cpu[key], where))))
    return found


def _tasks(resources: dict[str, Any]) -> list[Property]:
    limit = resources.get("pids", {}).get("limit", 0)
    return [_u64("TasksMax", _unsigned(limit))] if limit else []


def v1(resources: dict[str, Any], version: int) -> list[Property]:
    """For a unit on version 1 hierarchies, without the devices."""
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    found = []
    if memory.get("limit"):
        found.append(_u64("MemoryLimit", _unsigned(memory["limit"])))
    if cpu.get("shares"):
        found.append(_u64("CPUShares", cpu["shares"]))
    found += cpu_quota(cpu, version)[0]
    if resources.get("blockIO", {}).get("weight"):
        found.append(_u64("BlockIOWeight", resources["blockIO"]["weight"]))
    return found + _tasks(resources) + _cpuset(cpu, version)


def v2(resources: dict[str, Any], version: int) -> list[Property]:
    """For a unit on the version 2 hierarchy, without the devices."""
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    found = []
    if memory.get("limit"):
        found.append(_u64("MemoryMax", _unsigned(memory["limit"])))
    if memory.get("reservation"):
        found.append(_u64("MemoryLow", _unsigned(memory["reservation"])))
    swap = swap_max(memory.get("limit", 0), memory.get("swap", 0))
    if swap and swap != "0":
        found.append(_u64("MemorySwapMax", INFINITY if swap == "max" else int(swap)))
    if cpu.get("idle") == 1 and version >= IDLE_SINCE:
        found.append(_u64("CPUWeight", 0))  # systemd's word for idle
    elif cpu.get("shares"):
        found.append(_u64("CPUWeight", shares_to_weight(cpu["shares"])))
    found += cpu_quota(cpu, version)[0]
    return found + _tasks(resources) + _cpuset(cpu, version) + _unified(resources, version)


def _unified(resources: dict[str, Any], version: int) -> list[Property]:
    unified = {name: text.strip() for name, text in resources.get("unified", {}).items()}
    found: list[Property] = []
    idle = unified.get("cpu.idle") == "1" and version >= IDLE_SINCE
    for name, text in unified.items():
        try:
            if name == "cpu.idle" and idle:
                found.append(_u64("CPUWeight", 0))
            elif name == "cpu.weight" and not idle:
                found.append(_u64("CPUWeight", int(text)))
            elif name == "cpu.max":
                quota, _, period = text.partition(" ")
                cpu = {
                    "quota": 0 if quota == "max" else int(quota),
                    "period": int(period or DEFAULT_PERIOD_US),
                }
                found += cpu_quota(cpu, version)[0]
            elif name in _CPUSETS and version >= CPUSET_SINCE:
                found.append((_CPUSETS[name], ("ay", bits_of(text, f'unified resource "{name}"'))))
            elif name in _MEMORY:
                found.append(_u64(_MEMORY[name], INFINITY if text == "max" else int(text)))
            elif name == "pids.max":
                # systemd takes no 0.
                found.append(_u64("TasksMax", INFINITY if text == "max" else int(text) or 1))
        except ValueError as error:
            raise InvalidArgument(f'unified resource "{name}" value conversion error: {error}') from error
    return found


def oom_policy(resources: dict[str, Any], version: int) -> list[Property]:
    """`memory.oom.group` as systemd wants it, which is when the unit begins."""
    value = resources.get("unified", {}).get("memory.oom.group", "").strip()
    policy = {"0": "continue", "1": "kill"}.get(value, "")
    return [("OOMPolicy", ("s", policy))] if policy and version >= OOM_POLICY_SINCE else []


def devices(resources: dict[str, Any]) -> list[Property]:
    """The device rules as an allow-list; deny-lists, which systemd has none of, are left to the files."""
    program = fold(resources.get("devices", []))
    # The empty list first takes away what the unit may have.
    cleared: list[Property] = [("DeviceAllow", ("a(ss)", []))]
    if program.default_allow:
        policy = "strict" if program.exceptions else "auto"
        return [*cleared, ("DevicePolicy", ("s", policy))]
    allowed = []
    for (kind, major, minor), access in program.exceptions.items():
        group = "block" if kind == "b" else "char"
        if WILDCARD not in (major, minor):
            allowed.append((f"/dev/{group}/{major}:{minor}", access))
        elif minor == WILDCARD:
            allowed.append((f"{group}-{'*' if major == WILDCARD else major}", access))
    return [*cleared, ("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", allowed))]


_TYPES = {"uint64": "t", "int64": "x", "uint32": "u", "int32": "i", "uint16": "q", "int16": "n", "byte": "y"}


def from_annotations(annotations: dict[str, str]) -> list[Property]:
    """`org.systemd.property.NAME` annotations, values in GVariant's text format; InvalidArgument for what can't be read."""
    found = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        name = key[len(ANNOTATION) :]
        if len(name) < 3 or not (name.isascii() and name.isalpha()):
            reason = "too short" if len(name) < 3 else "contains non-alphabetic character"
            raise InvalidArgument(f"annotation {key} name incorrect: {reason}")
        try:
            value = parse_variant(text)
            if name.endswith("Sec") and name[-4:-3].islower():
                name, value = name[:-3] + "USec", _to_microseconds(value)
        except ValueError as error:
            raise InvalidArgument(f"annotation {key}={text} value parse error: {error}") from error
        if name not in FROM_ANNOTATIONS:
            raise InvalidArgument(
                f"annotation {key}: {name} is no property of the container's own unit alone: not allowed"
            )
        found.append((name, value))
    return found


def _to_microseconds(value: tuple[str, Any]) -> tuple[str, Any]:
    signature, number = value
    if signature not in "tunqxiy" or number < 0:
        raise ValueError("not a number of seconds")
    return "t", number * 1_000_000


def parse_variant(text: str) -> tuple[str, Any]:
    """A boolean, a string, a number with or without its type, or an array of strings; ValueError for anything else."""
    word = text.strip()
    if word in ("true", "false"):
        return "b", word == "true"
    if len(word) > 1 and word[0] in "'\"" and word[-1] == word[0]:
        return "s", _string(word)
    if word.startswith("[") and word.endswith("]"):
        inner = word[1:-1].strip()
        return "as", [_string(item.strip()) for item in inner.split(",")] if inner else []
    kind, space, digits = word.rpartition(" ")
    signature = _TYPES.get(kind.strip(), "") if space else "i"
    if not signature:
        raise ValueError(f"unknown type {kind!r}")
    return signature, int(digits, 0)


def _string(word: str) -> str:
    if len(word) < 2 or word[0] not in "'\"" or word[-1] != word[0] or word[0] in word[1:-1]:
        raise ValueError(f"{word} is not a string")
    if "\\" in word:
        raise ValueError("escapes are not supported")
    return word[1:-1]
