"""pyctr events beside ctr events on Debian's containerd: the same lines for one container's life."""

from __future__ import annotations

import subprocess
import time

import pytest

from support import parity

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(60)]


def test_the_lines_are_the_same(real_stack, busybox: str) -> None:
    if busybox not in real_stack.ctr("image", "ls", "-q").stdout:
        real_stack.ctr("image", "pull", busybox)
    watchers = [
        subprocess.Popen(real_stack.command(program, "events"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=real_stack.environment, text=True)
        for program in ("ctr", "pyctr")
    ]  # fmt: skip
    try:
        time.sleep(1)  # a subscription has no answer to wait for
        real_stack.pyctr("image", "tag", busybox, "e:1")
        real_stack.pyctr("image", "label", "e:1", "a=b")
        real_stack.pyctr("image", "rm", "e:1")
        real_stack.pyctr("run", "--rm", busybox, "ev1", "sh", "-c", "exit 4", check=False)
        time.sleep(1)
    finally:
        for watcher in watchers:
            watcher.terminate()
    real, ours = (
        [line for line in watcher.communicate(timeout=10)[0].splitlines() if "/snapshot/" not in line]
        for watcher in watchers
    )
    assert ours == [parity.shown_by_ctr(line) for line in real]
    assert {line.split()[5] for line in ours} >= {"/images/create", "/images/update", "/images/delete", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete", "/containers/delete"}  # fmt: skip
