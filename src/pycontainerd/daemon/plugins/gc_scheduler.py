"""When to collect: soon after something became garbage, at once when somebody waits, never all the time.

Spec: containerd docs/garbage-collection.md (pause_threshold, deletion_threshold, mutation_threshold, schedule_delay,
startup_delay)
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pycontainerd.lib.errdefs import Unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class Settings:
    """Thresholds as containerd's config has them; durations in seconds."""

    pause_threshold: float = 0.02
    deletion_threshold: int = 0
    mutation_threshold: int = 100
    schedule_delay_s: float = 0.0
    startup_delay_s: float = 0.1


class Scheduler:
    """One task on the event loop; `run()` it, and tell it about commits with `note`."""

    def __init__(
        self,
        collect: Callable[[], Awaitable[None]],
        settings: Settings,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._collect = collect
        self._settings = settings
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._deletions = 0
        self._mutations = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._interval_s = 1.0
        self._total_s = 0.0
        self._collections = 0

    @property
    def pending(self) -> bool:
        """Whether a collection is due or wanted."""
        return bool(self._deletions or self._waiters)

    def note(self, dirty: set[str]) -> None:
        """A commit happened; `dirty` says what it made collectable. From any thread."""
        # At shutdown the loop is gone before the last commit.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._count, bool(dirty))

    async def collect_and_wait(self) -> None:
        """Runs a collection that begins after this call and waits for its end."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        self._changed.set()
        await waiter

    async def run(self) -> None:
        """Until cancelled."""
        await self._pause(self._settings.startup_delay_s)
        await self._collect_once()
        while True:
            earliest = time.monotonic() + self._interval_s
            while not self._is_due():
                self._changed.clear()
                await self._changed.wait()
            if not self._waiters:
                await self._pause(max(self._settings.schedule_delay_s, earliest - time.monotonic()))
            await self._collect_once()

    def _count(self, dirty: bool) -> None:
        self._mutations += 1
        if dirty:
            self._deletions += 1
        self._changed.set()

    def _is_due(self) -> bool:
        settings = self._settings
        if self._waiters or self._deletions > settings.deletion_threshold:
            return True
        return 0 < settings.mutation_threshold <= self._mutations

    async def _pause(self, seconds: float) -> None:
        """Sleeps, unless somebody begins to wait for a collection."""
        deadline = time.monotonic() + seconds
        while not self._waiters and (left := deadline - time.monotonic()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    async def _collect_once(self) -> None:
        waiters, self._waiters = self._waiters, []
        self._deletions = self._mutations = 0
        begun = time.monotonic()
        try:
            await self._collect()
        except Exception as e:  # noqa: BLE001 -- one failed collection must not end all later ones
            self._on_error(e)
            failure = Unknown("gc failed")
            failure.__cause__ = e
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(failure)
            self._interval_s += 1.0
            return
        self._total_s += time.monotonic() - begun
        self._collections += 1
        average = self._total_s / self._collections
        threshold = min(max(self._settings.pause_threshold, 0.0), 0.5)
        self._interval_s = average / threshold - average if threshold else 1.0
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
