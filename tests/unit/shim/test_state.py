"""The two state tables: every verb in every state."""

import pytest

from pycontainerd.lib import errdefs
from pycontainerd.shim.process import state

ALLOWED = {
    "created": {"start", "delete", "kill", "exec", "update"},
    "running": {"kill", "pause", "exec", "update"},
    "paused": {"kill", "resume", "update"},
    "stopped": {"delete", "kill"},
    "deleted": set(),
}
VERBS = ("start", "delete", "kill", "pause", "resume", "exec", "update")


@pytest.mark.parametrize("at", ALLOWED)
@pytest.mark.parametrize("verb", VERBS)
def test_init_verbs(at: str, verb: str) -> None:
    if verb in ALLOWED[at]:
        state.require(state.INIT_FORBIDS, at, verb)
        return
    with pytest.raises(errdefs.ContainerdError, match=rf"^cannot {verb} "):
        state.require(state.INIT_FORBIDS, at, verb)


@pytest.mark.parametrize("verb", ["delete", "kill"])
def test_what_is_deleted_is_not_found(verb: str) -> None:
    with pytest.raises(errdefs.NotFound):
        state.require(state.INIT_FORBIDS, "deleted", verb)


def test_exec_verbs() -> None:
    allowed = {
        at: {v for v in ("start", "delete", "kill", "resize") if v not in state.EXEC_FORBIDS[at]}
        for at in state.EXEC_FORBIDS
    }
    assert allowed == {
        "created": {"start", "delete", "kill", "resize"},
        "running": {"kill", "resize"},
        "stopped": {"delete", "kill"},
        "deleted": set(),
    }


def test_only_known_transitions_happen() -> None:
    assert state.transition("created", "running") == "running"
    with pytest.raises(AssertionError):
        state.transition("stopped", "running")
