"""`--blockio-class`: the block I/O weights and limits of a class, from the file that defines the classes.

Spec: goresctrl pkg/blockio (what containerd reads the file with), runtime-spec config-linux.md#block-io
"""

from __future__ import annotations

import os
import stat

from pycontainerd.ctr import plain_yaml, text
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

_MAX_FILE: Final = 1 << 20
# Of the file, in any case -> of the spec.
_RATES: Final = {
    "throttlereadbps": "throttleReadBpsDevice",
    "throttlewritebps": "throttleWriteBpsDevice",
    "throttlereadiops": "throttleReadIOPSDevice",
    "throttlewriteiops": "throttleWriteIOPSDevice",
}
_WEIGHT: Final = (10, 1000)
_DECIMAL, _BINARY = "kMGTPE", "KMGTPE"


def of_class(path: str, name: str) -> dict[str, Any] | None:
    """`linux.resources.blockIO` of a class; None where only the file was to be checked."""
    classes = _classes(path) if path else {}
    if not name:
        return None
    if name not in classes:
        raise InvalidArgument(
            f'blockio-class error: no OCI BlockIO parameters for class "{name}"',
            hint=f"the file has {', '.join(sorted(classes))}"
            if classes
            else "name a file: --blockio-config-file",
        )
    return classes[name]


def _classes(path: str) -> dict[str, dict[str, Any]]:
    try:
        found = _field(plain_yaml.load(path, _MAX_FILE), "classes", {})
        if not isinstance(found, dict):
            raise InvalidArgument("Classes is not a mapping of names to lists")
        return {name: _parameters(name, entries) for name, entries in found.items()}
    except OSError as error:
        raise InvalidArgument(
            f'blockio-config-file error: failed to read config file "{path}": {text.os_text(error)}'
        ) from error
    except InvalidArgument as error:
        raise InvalidArgument(
            f'blockio-config-file error: failed to set configuration from file "{path}": {error}'
        ) from error


def _field(document: Any, name: str, default: Any) -> Any:
    """The only field there is."""
    if not isinstance(document, dict) or any(key.lower() != name for key in document):
        raise InvalidArgument(f"it has to be a mapping of {name.capitalize()} alone")
    return next(iter(document.values()), default)


def _parameters(name: str, entries: Any) -> dict[str, Any]:
    if not isinstance(entries, list):
        raise InvalidArgument(f"class {name} is not a list")
    out: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise InvalidArgument(f"class {name} has an entry that is no mapping")
        _add(out, {key.lower(): value for key, value in entry.items()})
    return out


def _add(out: dict[str, Any], entry: Mapping[str, Any]) -> None:
    unknown = set(entry) - {"devices", "weight", *_RATES}
    if unknown:
        raise InvalidArgument(f'unknown field "{min(unknown)}"')
    devices = entry.get("devices", "")
    if devices and not (isinstance(devices, list) and all(isinstance(one, str) for one in devices)):
        raise InvalidArgument("Devices is not a list of patterns")
    weight = quantity("Weight", entry["weight"], *_WEIGHT) if "weight" in entry else None
    rates = {_RATES[key]: quantity(key, value) for key, value in entry.items() if key in _RATES}
    if devices == "":
        if rates:
            raise InvalidArgument("ignoring throttling: Devices not listed")
        if weight is not None:
            out["weight"] = weight
        return
    for major, minor in _block_devices(devices):
        if weight is not None:
            _put(out, "weightDevice", major, minor, {"weight": weight})
        for field, rate in rates.items():
            _put(out, field, major, minor, {"rate": rate})


def _put(out: dict[str, Any], field: str, major: int, minor: int, value: dict[str, int]) -> None:
    """What is said later of a device takes the place of what was said before."""
    rows = [row for row in out.get(field, ()) if (row["major"], row["minor"]) != (major, minor)]
    out[field] = [*rows, {"major": major, "minor": minor, **value}]


def _block_devices(patterns: Sequence[str]) -> list[tuple[int, int]]:
    """Of shell patterns; what is no block device is named in a warning and left out."""
    import glob

    found: dict[tuple[int, int], None] = {}
    for pattern in patterns:
        for path in sorted(glob.glob(pattern)):
            mode = os.stat(path)
            if stat.S_ISBLK(mode.st_mode):
                found[os.major(mode.st_rdev), os.minor(mode.st_rdev)] = None
            else:
                text.warn("failed to resolve block devices", error=f'file "{path}" is no block device')
    if not found:
        text.warn("no match, parameters ignored", devices=f"[{' '.join(patterns)}]")
    return list(found)


def quantity(name: str, given: Any, low: int = 0, high: int = -1) -> int:
    """A number with Kubernetes' suffixes (50M, 1Ki), rounded up; `high` -1 is no limit."""
    from fractions import Fraction

    if not isinstance(given, str):
        raise InvalidArgument(f'"{name}" is not a number')
    digits = given.rstrip("kKMGTPEim ")
    suffix = given[len(digits) :].strip()
    if suffix.endswith("i") and suffix[:-1] in _BINARY and suffix != "i":
        factor = Fraction(1024 ** (_BINARY.index(suffix[0]) + 1))
    elif suffix in {"", *_DECIMAL}:
        factor = Fraction(1000 ** (_DECIMAL.index(suffix) + 1) if suffix else 1)
    else:
        factor = Fraction(0)
    if not factor or not digits.isascii() or digits.count(".") > 1 or not digits.replace(".", "").isdigit():
        raise InvalidArgument(f'syntax error in "{name}" ("{given}")')
    value = -int(-Fraction(digits) * factor // 1)
    if value < low:
        raise InvalidArgument(f'value of "{name}" ({value}) smaller than minimum ({low})')
    if high != -1 and value > high:
        raise InvalidArgument(f'value of "{name}" ({value}) bigger than maximum ({high})')
    return value
