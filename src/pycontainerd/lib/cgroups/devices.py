"""Device rules of a container: the list of config.json and the defaults, folded into one allow-list.

Spec: runtime-spec config-linux.md#allowed-device-list
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WILDCARD = -1

# What every container may use whatever its list says: making any node, and the nodes of /dev that it gets.
DEFAULT_RULES: tuple[dict[str, Any], ...] = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in (
            (1, 3),
            (1, 8),
            (1, 7),
            (5, 0),
            (1, 5),
            (1, 9),
            (136, WILDCARD),
            (5, 2),
            (10, 200),
        )
    ),
)


class DeviceProgram:
    """`default_allow` and the exceptions to it: (type, major, minor) -> access letters, in order of appearance."""

    __slots__ = ("default_allow", "exceptions")

    def __init__(self) -> None:
        self.default_allow = False
        self.exceptions: dict[tuple[str, int, int], str] = {}

    def apply(self, rule: dict[str, Any]) -> None:
        """Folds one more rule in."""
        kind = rule.get("type") or "a"
        allow = rule.get("allow", False)
        access = rule.get("access") or "rwm"
        if kind == "a":
            # As the v1 kernel interface: a rule for all types is for all devices and all access.
            self.default_allow = allow
            self.exceptions.clear()
            return
        key = (kind, rule.get("major", WILDCARD), rule.get("minor", WILDCARD))
        had = self.exceptions.get(key, "")
        if allow != self.default_allow:
            self.exceptions[key] = "".join(letter for letter in "rwm" if letter in access or letter in had)
            return
        left = "".join(letter for letter in had if letter not in access)
        if left:
            self.exceptions[key] = left
        elif key in self.exceptions:
            del self.exceptions[key]

    def lines(self) -> list[str]:
        """The exceptions as devices.allow or devices.deny takes them."""
        return [
            f"{kind} {_number(major)}:{_number(minor)} {access}"
            for (kind, major, minor), access in self.exceptions.items()
        ]


def _number(value: int) -> str:
    return "*" if value == WILDCARD else str(value)


def fold(rules: list[dict[str, Any]]) -> DeviceProgram:
    """A container's rules, then the defaults; nothing is allowed before the first rule says so."""
    program = DeviceProgram()
    for rule in (*rules, *DEFAULT_RULES):
        program.apply(rule)
    return program
