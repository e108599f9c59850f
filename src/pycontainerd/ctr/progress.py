"""How a pull or a push is shown: redrawn bars on a terminal, the same lines once at the end elsewhere."""

from __future__ import annotations

import sys
import time

from pycontainerd.client import pull
from pycontainerd.ctr import display
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from pycontainerd.client.pull import Fetcher, Progress
    from pycontainerd.client.push import Pusher

_WIDTH: Final = 38
_GREEN, _PLAIN = "\x1b[32m", "\x1b[0m"


class Display:
    """Lines S046 to S051: the reference (of a pull), then index, manifests, layers, configs, then the total."""

    def __init__(self, ref: str) -> None:
        self._ref = ref
        self._started = time.monotonic()
        self._fetcher: Fetcher | Pusher | None = None
        self._live = sys.stdout.isatty()
        self._drawn = 0

    def resolved(self, fetcher: Fetcher | Pusher) -> None:
        """The reference has a descriptor; its blobs are on their way."""
        self._fetcher = fetcher

    def tick(self) -> None:
        """Redraws, on a terminal."""
        if self._live:
            self._draw()

    def finish(self) -> None:
        """The final lines."""
        self._draw()

    def _draw(self) -> None:
        text = display.tabulate("\n".join([*self._lines(), ""]), display.SPACES)
        erase = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        display.write(erase + text)
        self._drawn = text.count("\n") if self._live else 0

    def _lines(self) -> list[str]:
        bar = bar_of(live=self._live)
        lines: list[str] = []
        if self._ref:
            status, share = ("resolved", 1.0) if self._fetcher else ("resolving", 0.0)
            lines.append(f"{self._ref}:\t{status}\t{bar(share)}\t")
        total = whole = 0
        if self._fetcher is not None:
            entries = sorted(self._fetcher.progress.values(), key=_rank)
            lines += [_line(entry, bar) for entry in entries]
            total = self._fetcher.moved
            whole = sum(entry.descriptor.size for entry in entries if entry.status != pull.EXISTS)
        return [*lines, total_line(total, self._started, whole if self._live else 0)]


def total_line(total: int, started: float, whole: int = 0) -> str:
    """How long it has taken and how many bytes have moved, of `whole` where that is given (for eyes only: ctr doesn't).

    `started` is of the monotonic clock.
    """
    elapsed_s = time.monotonic() - started
    shown = f"{display.binary_size(total)[:6]:>7}"
    if whole:
        shown = f"{display.binary_size(total)}/{display.binary_size(whole)}"
    rate = display.binary_size(int(total / elapsed_s) if elapsed_s > 0 else 0)
    return f"elapsed: {elapsed_s:<4.1f}s\ttotal: {shown}\t({rate}/s)\t"


def bar_of(*, live: bool) -> Callable[[float], str]:
    """What draws a share of the whole: with colours on a terminal only."""
    return _colour_bar if live else _plain_bar


def _rank(entry: Progress) -> int:
    media_type = entry.descriptor.media_type
    kinds = (oci.is_index, oci.is_manifest, oci.is_layer)
    return next((place for place, is_kind in enumerate(kinds) if is_kind(media_type)), len(kinds))


def _line(entry: Progress, bar: Callable[[float], str]) -> str:
    size = entry.descriptor.size
    if entry.status in {pull.DOWNLOADING, pull.UPLOADING}:
        share = entry.offset / size if size else 1.0
        moved = f"{display.binary_size(entry.offset)}/{display.binary_size(size)}"
        return f"{entry.ref}:\t{entry.status}\t{bar(share)}\t{moved}\t"
    return f"{entry.ref}:\t{entry.status}\t{bar(0.0 if entry.status == pull.WAITING else 1.0)}\t"


def _colour_bar(share: float) -> str:
    full = int(share * _WIDTH)
    return f"|{_GREEN}{'+' * full}{_PLAIN}{'-' * (_WIDTH - full)}|"


def _plain_bar(share: float) -> str:
    full = int(share * _WIDTH)
    return f"|{'+' * full}{'-' * (_WIDTH - full)}|"
