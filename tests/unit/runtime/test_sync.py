"""What travels with READY: steps, whatever a mount point is called."""

from __future__ import annotations

import pytest

from pycontainerd.runtime.libcontainer import sync


@pytest.mark.parametrize("name", ["pivot_root", "mount /a b", "mount /\x85\u2028\r", "mount /\udcff"])
def test_steps_arrive_as_they_were_sent(name: str) -> None:
    steps = [("begin", 5, 7), (name, 12, 1)]
    found = list(sync.unpack_steps(sync.pack_steps(steps)))
    assert [step[1:] for step in found] == [(5, 7), (12, 1)]
    assert found[1][0] == name.encode("utf-8", "replace").decode()


def test_a_mount_point_with_newlines_is_one_step() -> None:
    found = list(sync.unpack_steps(sync.pack_steps([("mount /a\n9 9 b\n", 1, 2), ("umask", 3, 4)])))
    assert [step[1:] for step in found] == [(1, 2), (3, 4)]


def test_what_does_not_fit_a_message_is_left_out() -> None:
    payload = sync.pack_steps([("mount /" + "x" * 1000, 1, 2)] * 100)
    assert len(payload) < sync.MAX_MESSAGE
    assert 60 < len(list(sync.unpack_steps(payload))) < 100
