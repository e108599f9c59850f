"""A terminal's size goes to a process that may have ended meanwhile."""

from __future__ import annotations

import os
import pty
from typing import TYPE_CHECKING

import pytest

from pycontainerd.client import cio
from pycontainerd.lib.errdefs import ContainerdError, FailedPrecondition, NotFound, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator


class Process:
    """Answers as a shim; what it was told is kept."""

    def __init__(self, answer: ContainerdError | None = None) -> None:
        self.told: list[tuple[int, int]] = []
        self._answer = answer

    def kill(self, signal: int) -> None:
        raise NotImplementedError

    def close_stdin(self) -> None:
        raise NotImplementedError

    def resize(self, width: int, height: int) -> None:
        self.told.append((width, height))
        if self._answer is not None:
            raise self._answer


@pytest.fixture
def terminal() -> Iterator[cio.Terminal]:
    leader_fd, follower_fd = pty.openpty()
    yield cio.Terminal(follower_fd)
    os.close(leader_fd)
    os.close(follower_fd)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        NotFound("process e1: not found"),
        FailedPrecondition("process not created"),
        Unknown("cannot resize a stopped container: unknown"),  # both shims, of a process that ended at once
    ],
    ids=str,
)
def test_a_process_that_has_ended_needs_no_size(
    terminal: cio.Terminal, answer: ContainerdError | None
) -> None:
    process = Process(answer)
    cio.fit(process, terminal)
    assert process.told == [terminal.size()]


def test_another_error_is_one(terminal: cio.Terminal) -> None:
    with pytest.raises(Unknown, match="inappropriate ioctl"):
        cio.fit(Process(Unknown("inappropriate ioctl for device")), terminal)
