"""What the restart labels of a container ask for: its task running or stopped, and how often to try.

    containerd.io/restart.status              running or stopped: what its task is to be
    containerd.io/restart.policy              always (the usual one), on-failure[:N], unless-stopped, no
    containerd.io/restart.count               how often it was restarted
    containerd.io/restart.explicitly-stopped  whether a person has stopped it
    containerd.io/restart.loguri              where its output goes

Spec: containerd core/runtime/restart (labels, policies, error texts), plugins/restart
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX: Final = "containerd.io/restart."
STATUS: Final = f"{_PREFIX}status"
POLICY: Final = f"{_PREFIX}policy"
COUNT: Final = f"{_PREFIX}count"
STOPPED: Final = f"{_PREFIX}explicitly-stopped"
LOG_URI: Final = f"{_PREFIX}loguri"
POLICIES: Final = ("no", "always", "on-failure", "unless-stopped")
_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))  # Go's strconv.ParseBool


class Change(Enum):
    """What has to be done."""

    NOTHING = 0
    START = 1
    STOP = 2


def change(labels: Mapping[str, str], status: str, exit_code: int) -> Change:
    """What makes a task of that status ("" for none) what the labels want; InvalidArgument for a policy that is none.

    A task whose shim doesn't answer in time is unknown: it may well be running, and isn't ended for that.
    """
    wanted = labels.get(STATUS, "")
    if wanted == status:
        return Change.NOTHING
    if wanted == "stopped":
        return Change.STOP if status else Change.NOTHING
    if wanted == "running" and status not in ("paused", "pausing", "unknown") and _may_run(labels, exit_code):
        return Change.START
    return Change.NOTHING


def count(labels: Mapping[str, str]) -> int:
    """How often it was restarted; a number that is none is 0."""
    return _number(labels.get(COUNT, "")) or 0


def _may_run(labels: Mapping[str, str], exit_code: int) -> bool:
    name, most = _policy(labels.get(POLICY, ""))
    if name == "on-failure":
        done = _number(labels.get(COUNT, "0") or "0")
        if done is None:
            raise InvalidArgument(f"invalid restart count: {labels[COUNT]}")
        return exit_code != 0 and (most == 0 or done < most)
    if name == "unless-stopped":
        return labels.get(STOPPED, "") not in _TRUE
    return name == "always"


def _policy(text: str) -> tuple[str, int]:
    """(name, most retries); 0 for no limit."""
    name, *rest = text.split(":")
    if name == "on-failure":
        most = _number(rest[0]) if rest else 0
        if most is None:
            raise InvalidArgument(f"invalid max retry count: {rest[0]}")
        return name, most
    if name not in ("", *POLICIES):
        raise InvalidArgument(f"restart policy {quoted(text)} not supported")
    if rest:
        raise InvalidArgument(f"restart policy {quoted(name)} not support max retry count")
    return name or "always", 0


def _number(text: str) -> int | None:
    digits = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 18:
        return None
    return int(text)
