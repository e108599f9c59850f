"""What a process may be asked in which state, as two tables.

    init:   created -> running <-> paused        exec:   created -> running -> stopped -> deleted
               \\________\\_________\\-> stopped -> deleted

An entry is the error a forbidden verb gets; a verb without an entry is allowed. The texts are the ones the stock shim
answers with, because clients show them to people.

Spec: containerd docs/runtime-v2.md
"""

from __future__ import annotations

from pycontainerd.lib import errdefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

CREATED: Final = "created"
RUNNING: Final = "running"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"
DELETED: Final = "deleted"

# containerd.v1.types.Status; pausing is what a paused container is called while the freezer works.
WIRE_STATUS: Final = {CREATED: 1, RUNNING: 2, STOPPED: 3, PAUSED: 4, "pausing": 5}

INIT_FORBIDS: Final[dict[str, dict[str, str]]] = {
    CREATED: {
        "pause": "cannot pause task in created state",
        "resume": "cannot resume task in created state",
    },
    RUNNING: {
        "start": "cannot start a running process",
        "delete": "cannot delete a running process",
        "resume": "cannot resume a running process",
    },
    PAUSED: {
        "start": "cannot start a paused process",
        "delete": "cannot delete a paused process",
        "pause": "cannot pause a paused container",
        "exec": "cannot exec in a paused state",
    },
    STOPPED: {
        "start": "cannot start a stopped process",
        "pause": "cannot pause a stopped container",
        "resume": "cannot resume a stopped container",
        "update": "cannot update a stopped container",
        "exec": "cannot exec in a stopped state",
    },
    DELETED: {
        "start": "cannot start a deleted process",
        "delete": "cannot delete a deleted process: not found",
        "kill": "cannot kill a deleted process: not found",
        "pause": "cannot pause a deleted process",
        "resume": "cannot resume a deleted process",
        "update": "cannot update a deleted process",
        "exec": "cannot exec in a deleted state",
    },
}

EXEC_FORBIDS: Final[dict[str, dict[str, str]]] = {
    CREATED: {},
    RUNNING: {
        "start": "cannot start a running process",
        "delete": "cannot delete a running process",
    },
    STOPPED: {
        "start": "cannot start a stopped process",
        "resize": "cannot resize a stopped container",
    },
    DELETED: {
        "start": "cannot start a deleted process",
        "delete": "cannot delete a deleted process: not found",
        "kill": "cannot kill a deleted process: not found",
        "resize": "cannot resize a deleted process",
    },
}

# Where a process may go from where; staying is no transition.
TRANSITIONS: Final = {
    CREATED: (RUNNING, STOPPED, DELETED),
    RUNNING: (PAUSED, STOPPED),
    PAUSED: (RUNNING, STOPPED),
    STOPPED: (DELETED,),
    DELETED: (),
}


def require(forbids: dict[str, dict[str, str]], state: str, verb: str) -> None:
    """Raises what the tables say: NotFound where the text ends so, else Unknown, which has no errdefs class in Go."""
    text = forbids[state].get(verb)
    if text is None:
        return
    raise errdefs.NotFound(text) if text.endswith("not found") else errdefs.Unknown(text)


def transition(state: str, target: str) -> str:
    """The new state. A move the table doesn't know is a bug of ours."""
    if target not in TRANSITIONS[state]:
        raise AssertionError(f"invalid state transition {state!r} to {target!r}")
    return target
