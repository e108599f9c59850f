"""One mount of an activation: what goes wrong on the way is never taken for a mount."""

from __future__ import annotations

import pytest

from pycontainerd.daemon.core.snapshots import Mount
from pycontainerd.daemon.plugins.mount_manager import attach
from pycontainerd.lib import mounts


def test_a_bug_in_the_thread_of_a_long_overlay_is_raised(tmp_path, monkeypatch):
    def attach_badly(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(mounts, "attach", attach_badly)
    options = tuple(f"lowerdir+=/{number:0100}" for number in range(mounts.LONG // 100))
    with pytest.raises(TypeError, match="a bug"):
        attach.make(Mount("overlay", "overlay", options), f"{tmp_path}/1")
