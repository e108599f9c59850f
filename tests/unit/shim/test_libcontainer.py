"""The shim's way to libcontainer: what it waits for, it waits for on the loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pycontainerd.lib.log import Logger
from pycontainerd.shim.future import spawn
from pycontainerd.shim.libcontainer import Libcontainer
from pycontainerd.shim.loop import Loop
from pycontainerd.shim.options import Options
from pycontainerd.shim.reaper import Reaper
from pycontainerd.shim.world import World

if TYPE_CHECKING:
    from collections.abc import Generator

    from pycontainerd.shim.future import Future


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def runtime(loop, tmp_path) -> Libcontainer:
    world = World(loop, Reaper(lambda _: None), Logger(2, "error"), "ns", "", os.getpid())
    return Libcontainer(world, str(tmp_path), str(tmp_path), Options())


def go(loop: Loop, outcome: Future[int]) -> None:
    outcome.when_done(lambda _: loop.stop())
    loop.later(10, loop.stop)
    loop.run()


def test_the_loop_goes_on_while_a_step_waits(loop, runtime) -> None:
    read_fd, write_fd = os.pipe()
    done: list[str] = []

    def steps() -> Generator[int, None, int]:
        yield read_fd
        done.append(os.read(read_fd, 1).decode())
        return 42

    loop.later(0.01, lambda: done.append("somebody else was served"))
    loop.later(0.05, lambda: os.write(write_fd, b"x"))
    outcome = spawn(runtime._go_through(steps()))
    assert done == []
    go(loop, outcome)
    assert outcome.result() == 42
    assert done == ["somebody else was served", "x"]
    for fd in (read_fd, write_fd):
        os.close(fd)


def test_an_error_of_a_step_is_the_callers(loop, runtime) -> None:
    def steps() -> Generator[int, None, int]:
        raise ProcessLookupError(3, "gone")
        yield 0

    with pytest.raises(ProcessLookupError):
        spawn(runtime._go_through(steps())).result()
