"""pyrunc update."""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci.runtime import RESOURCES, parse
from pycontainerd.runtime.libcontainer.container import KERNEL_MEMORY, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values

_NUMBERS = (
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-idle", "cpu", "idle"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
)
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def run(context: Context, values: Values) -> int:
    """Writes new limits."""
    container = load(context.root, values.args[0])
    path = values.text("resources")
    if not path and _kernel_memory(values):
        context.log.warning(KERNEL_MEMORY)
    container.update(_read(path) if path else from_flags(values), schemata_from(values))
    return 0


def _kernel_memory(values: Values) -> bool:
    """Whether the obsolete limits were given; they are read all the same."""
    given = [flag for flag in ("kernel-memory", "kernel-memory-tcp") if values.text(flag)]
    for flag in given:
        parse_size(flag, values.text(flag))
    return bool(given)


def schemata_from(values: Values) -> dict[str, str]:
    """The flags of Intel RDT in config.json's words; InvalidArgument where the machine doesn't have what they set."""
    found = {}
    for flag, key, feature, what in (
        ("l3-cache-schema", "l3CacheSchema", "L3", "Intel RDT/CAT: l3 cache schema"),
        ("mem-bw-schema", "memBwSchema", "MB", "Intel RDT/MBA: memory bandwidth schema"),
    ):
        if values.text(flag):
            from pycontainerd.runtime.libcontainer import intelrdt

            root = intelrdt.find_root()
            if not root or not intelrdt.has(root, feature):
                raise InvalidArgument(f"{what} is not enabled")
            found[key] = values.text(flag)
    return found


def _read(path: str) -> dict[str, Any]:
    with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
        return parse(file.read(1 << 20), RESOURCES)


def from_flags(values: Values) -> dict[str, Any]:
    """`linux.resources` of the flags that were given."""
    resources: dict[str, Any] = {"cpu": {}, "memory": {}}
    for flag, group, key in _NUMBERS:
        if values.text(flag):
            parse_number = parse_size if group == "memory" else parse_integer
            resources[group][key] = parse_number(flag, values.text(flag))
    for flag, key in (("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")):
        if values.text(flag):
            resources["cpu"][key] = values.text(flag)
    if "pids-limit" in values.given:
        resources["pids"] = {"limit": values.number("pids-limit")}
    if "blkio-weight" in values.given:
        resources["blockIO"] = {"weight": values.number("blkio-weight")}
    return resources


def parse_integer(flag: str, text: str) -> int:
    """A decimal number."""
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit():
        raise InvalidArgument(f"invalid value for {flag}: {text}")
    return int(text)


def parse_size(flag: str, text: str) -> int:
    """Bytes with an optional k, m, g, t or p (times 1024) and b; -1 is unlimited."""
    if text == "-1":
        return -1
    head = text.lower().removesuffix("b").removesuffix("i")
    unit = _UNITS.get(head[-1:], 0)
    number = parse_integer(flag, head[:-1] if unit else head)
    if number < 0:
        raise InvalidArgument(f"invalid value for {flag}: {text}")
    return number * (unit or 1)
