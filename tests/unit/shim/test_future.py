"""Coroutines without asyncio, the lock, and the loop's timers."""

import pytest

from pycontainerd.shim.future import Future, Lock, spawn
from pycontainerd.shim.loop import Loop


def test_coroutine_goes_on_when_its_future_is_settled() -> None:
    future: Future[int] = Future()

    async def double() -> int:
        return await future * 2

    outcome = spawn(double())
    assert not outcome.done
    future.set(21)
    assert outcome.result() == 42


def test_errors_travel() -> None:
    future: Future[int] = Future()

    async def wait() -> int:
        return await future

    outcome = spawn(wait())
    future.fail(ValueError("x"))
    future.set(1)  # too late
    with pytest.raises(ValueError, match=r"^x$"):
        outcome.result()


def test_lock_serves_first_come_first() -> None:
    lock, order = Lock(), []
    gates = [Future() for _ in range(3)]

    async def work(number: int) -> None:
        async with lock:
            order.append(number)
            await gates[number]

    done = [spawn(work(number)) for number in range(3)]
    assert order == [0]
    gates[0].set(None)
    assert order == [0, 1]
    gates[2].set(None)
    gates[1].set(None)
    assert order == [0, 1, 2]
    assert all(each.done for each in done)


def test_timers_fire_in_order_and_cancelled_ones_never() -> None:
    loop, fired = Loop(), []
    loop.later(0.02, loop.stop)
    loop.later(0.01, lambda: fired.append("b"))
    loop.later(0.0, lambda: fired.append("a"))
    loop.later(0.0, lambda: fired.append("never")).cancel()
    loop.run()
    loop.close()
    assert fired == ["a", "b"]


def test_within_says_whether_it_came_in_time() -> None:
    loop = Loop()
    late, early = loop.within(Future(), 0.01), loop.within(loop.sleep(0.001), 1)
    loop.later(0.03, loop.stop)
    loop.run()
    loop.close()
    assert (late.result(), early.result()) == (False, True)
