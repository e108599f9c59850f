"""Id maps in the labels of a snapshot: what they say, and whose the root of a container is outside.

Spec: containerd internal/userns (IDMap; error texts), core/snapshots (labels)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pycontainerd.lib.errdefs import Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = tuple[int, int, int]  # id inside, id outside, how many from there

UID_LABEL: Final = "containerd.io/snapshot/uidmapping"
GID_LABEL: Final = "containerd.io/snapshot/gidmapping"
_INVALID_ID: Final = (1 << 32) - 1
_MOST_DIGITS: Final = 19  # of an int64, about
_INTEGER: Final = re.compile(r" *([+-]?[0-9]+)", re.ASCII)


def mount_options(labels: Mapping[str, str]) -> tuple[str, ...]:
    """What tells a mount to map ids, for a snapshot with these labels."""
    found = (("uidmap", labels.get(UID_LABEL, "")), ("gidmap", labels.get(GID_LABEL, "")))
    return tuple(f"{name}={maps}" for name, maps in found if maps)


def root_owner(labels: Mapping[str, str]) -> tuple[int, int] | None:
    """Who root of the container is outside; None without maps, Unknown for maps that don't say.

    An id that has no map at all stays what it is.
    """
    uids, gids = labels.get(UID_LABEL, ""), labels.get(GID_LABEL, "")
    if not uids and not gids:
        return None
    rows = _parse(uids), _parse(gids)
    return _root(rows[0]), _root(rows[1])


def _parse(text: str) -> list[Row]:
    return [_parse_one(part) for part in text.split(",")] if text else []


def _parse_one(text: str) -> Row:
    """`inside:outside:size` as Go's Sscanf reads it: what follows is left unread."""
    numbers: list[int] = []
    rest = text
    for index in range(3):
        if index:
            if not rest.startswith(":"):
                raise _unparsable(text, "input does not match format" if rest else "unexpected EOF")
            rest = rest[1:]
        found = _INTEGER.match(rest)
        if found is None:
            missing = "unexpected EOF" if text else "EOF"
            raise _unparsable(text, "expected integer" if rest.strip(" ") else missing)
        if len(found[1]) > _MOST_DIGITS:
            raise _unparsable(text, f'strconv.ParseInt: parsing "{found[1]}": value out of range')
        numbers.append(int(found[1]))
        rest = rest[found.end() :]
    inside, outside, size = numbers
    if not all(0 <= number < _INVALID_ID for number in numbers):
        raise Unknown(f'failed to unmarshal snapshot ID mapped labels: invalid mapping "{text}"')
    return inside, outside, size


def _unparsable(text: str, reason: str) -> Unknown:
    return Unknown(
        f"failed to unmarshal snapshot ID mapped labels: input value {text} unparsable: {reason}",
        hint="a map is `id inside:id outside:how many`, several are separated by commas",
    )


def _root(rows: Sequence[Row]) -> int:
    if not rows:
        return 0
    for inside, outside, size in rows:
        # Sums that need more than 32 bits are no ids, and end the search.
        if inside + size > _INVALID_ID:
            break
        if inside == 0 and size:
            return outside
    raise Unknown("failed to find root pair: container ID 0 cannot be mapped to a host ID")
