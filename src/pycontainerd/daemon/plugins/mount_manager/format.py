"""The `format` transformer: values of the mounts before a mount, filled into its source, target and options.

    {{ source N }}  {{ target N }}  {{ mount N }}  {{ overlay FIRST LAST }}      N counts from 0

Spec: containerd docs/mounts.md; text/template (calls of these functions only)
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pycontainerd.lib.errdefs import Unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.activations import ActiveMount
    from pycontainerd.daemon.core.snapshots import Mount

# A dash beside a brace takes the white space on its outside away.
_ACTION: Final = re.compile(r"(?:\s*\{\{-(?=\s)|\{\{)(.*?)(?:(?<=\s)-\}\}\s*|\}\})", re.DOTALL)
_CALL: Final = re.compile(r"\s*(\w+)((?:\s+[+-]?[0-9]{1,18})*)\s*", re.ASCII)
_ARGUMENTS: Final = {"source": 1, "target": 1, "mount": 1, "overlay": 2}


def transform(mount: Mount, active: Sequence[ActiveMount]) -> Mount:
    """The mount with every value filled in; Unknown, in Go's words, for one that isn't there."""
    return replace(
        mount,
        source=fill(mount.source, active),
        target=fill(mount.target, active),
        options=tuple(fill(option, active) for option in mount.options),
    )


def fill(text: str, active: Sequence[ActiveMount]) -> str:
    """A text with its actions replaced."""

    def replaced(match: re.Match[str]) -> str:
        call = _CALL.fullmatch(match[1])
        if call is None:
            raise Unknown(f"template: :1: {match[0].strip()} is not supported")
        if call[1] not in _ARGUMENTS:
            raise Unknown(f'template: :1: function "{call[1]}" not defined')
        arguments = [int(word) for word in call[2].split()]
        shown = " ".join([call[1], *call[2].split()])
        where = f'template: :1:{match.start(1) + call.start(1)}: executing "" at <{shown}>'
        if len(arguments) != _ARGUMENTS[call[1]]:
            wanted = _ARGUMENTS[call[1]]
            raise Unknown(f"{where}: wrong number of args for {call[1]}: want {wanted} got {len(arguments)}")
        try:
            return _value(call[1], arguments, active)
        except IndexError as e:
            raise Unknown(f"{where}: error calling {call[1]}: {e}") from e

    if "{{" in _ACTION.sub("", text):
        raise Unknown("template: :1: unclosed action")
    return _ACTION.sub(replaced, text)


def _value(function: str, arguments: Sequence[int], active: Sequence[ActiveMount]) -> str:
    """IndexError says what is out of range."""
    if function == "overlay":
        return _overlay(arguments[0], arguments[1], active)
    index = arguments[0]
    if not 0 <= index < len(active):
        raise IndexError(f"index out of bounds: {index}, has {len(active)} active mounts")
    found = active[index]
    return {"source": found.mount.source, "target": found.mount.target, "mount": found.mount_point}[function]


def _overlay(first: int, last: int, active: Sequence[ActiveMount]) -> str:
    """Mount points as an overlay's lowerdir lists them; backwards when `first` is the greater."""
    if min(first, last) < 0 or max(first, last) >= len(active):
        raise IndexError(f"invalid range: {first}-{last}, has {len(active)} active mounts")
    step = -1 if first > last else 1
    return ":".join(active[index].mount_point for index in range(first, last + step, step))
