"""A blob that is still being written, read along: what the writer has, and whether it was verified in the end.

writer: advance, advance, …, then complete or give_up
reader: wait(offset) -> more bytes | no more: complete | Unavailable: given up
"""

from __future__ import annotations

import threading

from pycontainerd.lib.errdefs import Unavailable


class Growth:
    """Shared by one writer and any number of readers. Thread-safe."""

    __slots__ = ("_changed", "_complete", "_digest", "_given_up", "_size")

    def __init__(self, digest: str) -> None:
        self._digest = digest
        self._changed = threading.Condition()
        self._size = 0
        self._complete = self._given_up = False

    def advance(self, size_bytes: int) -> None:
        """There are that many bytes now."""
        with self._changed:
            self._size = size_bytes
            self._changed.notify_all()

    def complete(self) -> None:
        """The bytes are verified and all there are."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """These will not be completed: the write failed, was left, or began again. Nothing after `complete`."""
        with self._changed:
            self._given_up = not self._complete
            self._changed.notify_all()

    def wait(self, offset: int) -> int:
        """How many bytes there are once they are more than `offset`; `offset` itself when that is all, and verified.

        Raises Unavailable when they will never be complete.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._size > offset or self._complete or self._given_up)
            if self._given_up:
                raise Unavailable(
                    f"content {self._digest}: its write ended before it was complete: unavailable"
                )
            return max(self._size, offset)
