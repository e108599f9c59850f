"""When collections happen."""

from __future__ import annotations

import asyncio

import pytest

from pycontainerd.daemon.plugins.gc_scheduler import Scheduler, Settings
from pycontainerd.lib.errdefs import Unknown


class World:
    """A scheduler over a collection that only counts."""

    def __init__(self, settings: Settings, error: Exception | None = None) -> None:
        self.collections = 0
        self.errors: list[BaseException] = []
        self._error = error
        self.scheduler = Scheduler(self._collect, settings, self.errors.append)
        self.task = asyncio.ensure_future(self.scheduler.run())

    async def _collect(self) -> None:
        self.collections += 1
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.collections < count:
                await asyncio.sleep(0.005)


def run(scenario):
    async def wrapped():
        world = await scenario()
        world.task.cancel()

    asyncio.run(wrapped())


def test_one_collection_at_start_and_none_without_a_reason():
    async def scenario():
        world = World(Settings(startup_delay_s=0))
        await world.reach(1)
        for _ in range(10):
            world.scheduler.note(set())
        await asyncio.sleep(0.1)
        assert world.collections == 1
        assert not world.scheduler.pending
        return world

    run(scenario)


def test_a_deletion_and_many_mutations_are_reasons():
    async def scenario():
        world = World(Settings(startup_delay_s=0, mutation_threshold=5))
        await world.reach(1)
        world.scheduler.note({"content"})
        await world.reach(2)
        for _ in range(5):
            world.scheduler.note(set())
        await world.reach(3)
        return world

    run(scenario)


def test_who_waits_is_served_at_once():
    async def scenario():
        world = World(Settings(startup_delay_s=60, schedule_delay_s=60))
        async with asyncio.timeout(5):
            await world.scheduler.collect_and_wait()
        assert world.collections == 1
        return world

    run(scenario)


def test_a_failed_collection_is_told_and_not_the_last():
    async def scenario():
        world = World(Settings(startup_delay_s=60), error=OSError("disk"))
        with pytest.raises(Unknown, match="gc failed"):
            await world.scheduler.collect_and_wait()
        with pytest.raises(Unknown, match="gc failed"):
            await world.scheduler.collect_and_wait()
        assert (world.collections, len(world.errors)) == (2, 2)
        return world

    run(scenario)
