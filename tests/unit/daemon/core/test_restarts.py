"""Restart labels: which task is started, which ended, and which left alone."""

from __future__ import annotations

import pytest

from pycontainerd.daemon.core import restarts
from pycontainerd.daemon.core.restarts import Change
from pycontainerd.lib.errdefs import InvalidArgument


def labels(status: str = "running", policy: str = "", **more: str) -> dict[str, str]:
    named = {f"containerd.io/restart.{key.replace('_', '-')}": value for key, value in more.items()}
    return {restarts.STATUS: status, restarts.POLICY: policy, **named}


@pytest.mark.parametrize(
    ("given", "status", "exit_code", "change"),
    [
        (labels(), "running", 0, Change.NOTHING),
        (labels(), "", 0, Change.START),
        (labels(), "stopped", 0, Change.START),
        (labels(), "created", 0, Change.START),
        (labels(), "paused", 0, Change.NOTHING),
        (labels(), "pausing", 0, Change.NOTHING),
        (labels(), "unknown", 0, Change.NOTHING),
        (labels(policy="always"), "stopped", 0, Change.START),
        (labels(policy="no"), "stopped", 1, Change.NOTHING),
        (labels(policy="on-failure"), "stopped", 0, Change.NOTHING),
        (labels(policy="on-failure"), "stopped", 1, Change.START),
        (labels(policy="on-failure"), "", 0, Change.NOTHING),
        (labels(policy="on-failure:3", count="2"), "stopped", 1, Change.START),
        (labels(policy="on-failure:3", count="3"), "stopped", 1, Change.NOTHING),
        (labels(policy="unless-stopped"), "stopped", 0, Change.START),
        (labels(policy="unless-stopped", explicitly_stopped="true"), "stopped", 0, Change.NOTHING),
        (labels(policy="unless-stopped", explicitly_stopped="no"), "stopped", 0, Change.START),
        (labels("stopped"), "running", 0, Change.STOP),
        (labels("stopped"), "paused", 0, Change.STOP),
        (labels("stopped"), "stopped", 0, Change.NOTHING),
        (labels("stopped"), "", 0, Change.NOTHING),
        (labels("anything"), "stopped", 0, Change.NOTHING),
    ],
)
def test_what_has_to_be_done(given: dict[str, str], status: str, exit_code: int, change: Change) -> None:
    assert restarts.change(given, status, exit_code) is change


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (labels(policy="sometimes"), 'restart policy "sometimes" not supported'),
        (labels(policy="always:3"), 'restart policy "always" not support max retry count'),
        (labels(policy="on-failure:x"), "invalid max retry count: x"),
        (labels(policy="on-failure:1_0"), "invalid max retry count: 1_0"),
    ],
)
def test_a_policy_that_is_none_is_told_in_containerds_words(given: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        restarts.change(given, "stopped", 1)
    assert str(caught.value) == words


def test_restarts_are_counted() -> None:
    assert [restarts.count(labels(count=text)) for text in ("", "7", "x")] == [0, 7, 0]
