"""Durations as Go writes them: `1h30m`, `1.5s`, `-2ms`, `0`.

Spec: Go's time.ParseDuration
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

_UNIT_NANOS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # both signs that stand for micro
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DIGITS: Final = "0123456789."


def parse_nanos(text: str) -> int | None:
    """Nanoseconds; None for what is no duration."""
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total, valid = 0.0, bool(rest)
    while rest and valid:
        size = len(rest) - len(rest.lstrip(_DIGITS))
        number, rest = rest[:size], rest[size:]
        size = next((at for at, char in enumerate(rest) if char in _DIGITS), len(rest))
        unit, rest = rest[:size], rest[size:]
        valid = bool(number.strip(".")) and number.count(".") < 2 and unit in _UNIT_NANOS
        total += float(number) * _UNIT_NANOS[unit] if valid else 0
    if not valid:
        return None
    return round(-total if text[0] == "-" else total)
