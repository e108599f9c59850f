"""The one way from the event loop to blocking code: named pools of threads, and what is too short for one."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

# A pool per kind of waiting, so that slow disks never starve metadata, nor shims the disks.
LIMITS: Final = {
    "metadata": 8,
    "content": 8,
    "snapshots": 4,
    "shims": 8,
    "mounts": 4,
    "gc": 1,
    "diff": 2,
    "check": 1,
    "restart": 1,  # its own, so that looking around every few seconds makes no thread of the others' (and no database)
}


class Pools:
    """The daemon's threads; made once in main, closed last."""

    __slots__ = ("_executors",)

    def __init__(self) -> None:
        self._executors = {
            name: ThreadPoolExecutor(limit, thread_name_prefix=name) for name, limit in LIMITS.items()
        }

    async def run(self, limiter: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `fn` in the named pool. A cancelled caller does not stop it: stores finish what they began."""
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()  # spans in the thread belong to the request
        call = partial(context.run, fn, *args, **kwargs)
        future = loop.run_in_executor(self._executors[limiter], call)
        return await asyncio.shield(future)

    def quick(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `fn` here and now: only for a read of a few rows of the metadata, found by their key.

        SQLite takes some microseconds for it, from pages that are in memory; a thread and back takes twenty times that.
        """
        return fn(*args, **kwargs)

    async def run_apart(self, name: str, fn: Callable[[], None]) -> None:
        """Runs `fn` in a thread of its own, which the daemon does not wait for when it stops.

        For what waits for other machines and loses nothing by being cut off. A cancelled caller does not stop it.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        context = contextvars.copy_context()

        def settle(error: BaseException | None) -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def work() -> None:
            error: BaseException | None = None
            try:
                context.run(fn)
            except BaseException as e:  # noqa: BLE001 -- handed to who waits for it
                error = e
            with suppress(RuntimeError):  # the daemon has stopped meanwhile
                loop.call_soon_threadsafe(settle, error)

        threading.Thread(target=work, name=name, daemon=True).start()
        await done

    def close(self) -> None:
        """Waits for everything that was submitted."""
        for executor in self._executors.values():
            executor.shutdown(wait=True)
