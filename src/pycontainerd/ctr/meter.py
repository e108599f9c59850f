"""One line on a terminal that says how far something has come, for what else prints nothing: never in a pipe or a log."""

from __future__ import annotations

import sys
import time

from pycontainerd.ctr import display
from pycontainerd.ctr.progress import bar_of

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from pycontainerd.client.tar_reader import Source

_INTERVAL_S: Final = 0.1


class Meter:
    """Counts bytes and shows them on stderr, if that is a terminal.

    A context manager; leaving it takes the line away. `live`: somebody can see it.
    """

    def __init__(self, what: str, total: int = 0) -> None:
        """`total` 0: it isn't known."""
        self.total = total
        self._what = what
        self._moved = 0
        self.live = sys.stderr.isatty()
        self._started = time.monotonic()
        self._last = 0.0

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.live:
            self._write("\r\x1b[K")

    def move(self, size: int) -> None:
        """So many bytes more."""
        self._moved += size
        now = time.monotonic()
        if self.live and now - self._last >= _INTERVAL_S:
            self._last = now
            self._write(f"\r\x1b[K{self.text()}")

    def text(self) -> str:
        """The line: a bar and a share where the total is known."""
        elapsed_s = time.monotonic() - self._started
        rate = display.binary_size(int(self._moved / elapsed_s) if elapsed_s > 0 else 0)
        moved = display.binary_size(self._moved)
        if not self.total:
            return f"{self._what}: {moved} ({rate}/s)"
        share = min(self._moved / self.total, 1.0)
        bar = bar_of(live=self.live)(share)
        return f"{self._what}: {bar} {moved}/{display.binary_size(self.total)} ({rate}/s)"

    def reading(self, source: Source) -> Metered:
        """The same stream, its bytes counted."""
        return Metered(source.read, self)

    def writing(self, write: Callable[[bytes], object]) -> Callable[[bytes], None]:
        """The same function, its bytes counted once they are written."""

        def metered(data: bytes) -> None:
            write(data)
            self.move(len(data))

        return metered

    @staticmethod
    def _write(line: str) -> None:
        sys.stderr.write(line)
        sys.stderr.flush()


class Metered:
    """As much of a stream as reading an archive needs."""

    __slots__ = ("_meter", "_read")

    def __init__(self, read: Callable[[int], bytes], meter: Meter) -> None:
        self._read = read
        self._meter = meter

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        data = self._read(size)
        self._meter.move(len(data))
        return data
