"""Coroutines without asyncio: what a handler awaits, and who drives it.

asyncio costs a shim 5 MiB; the loop here needs three things from it: a value that comes later, somebody who resumes
the coroutine when it has come, and a lock that keeps its waiters in order.
"""

from __future__ import annotations

from _collections import deque
from _contextvars import copy_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any, Generic, TypeVar

    T = TypeVar("T")
else:
    # typing is a quarter of what the shim may import: at run time Generic[T] is object.
    T = None
    Generic = {T: object}


class Future(Generic[T]):
    """A value or an error that comes later. Settling it runs its callbacks at once, in order."""

    __slots__ = ("_callbacks", "_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future[T]], object]] = []

    def set(self, value: T) -> None:
        """Settles it; a second time is ignored, so that a timeout and an answer may race."""
        if not self.done:
            self._value = value
            self._settle()

    def fail(self, error: BaseException) -> None:
        """Settles it with an error."""
        if not self.done:
            self._error = error
            self._settle()

    def result(self) -> T:
        """The value; raises the error. Only when done."""
        assert self.done
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set() took a T

    def when_done(self, callback: Callable[[Future[T]], object]) -> None:
        """Calls back when settled, at once when it already is."""
        if self.done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def _settle(self) -> None:
        self.done = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def __await__(self) -> Generator[Future[T], None, T]:
        if not self.done:
            yield self
        return self.result()


def spawn(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Runs a coroutine until it waits, and on from there whenever what it waits for has come."""
    outcome: Future[T] = Future()
    # A context of its own: what one coroutine traces, another that runs while it waits must not inherit.
    context = copy_context()

    def step(_: object = None) -> None:
        try:
            waits_for = context.run(coroutine.send, None)
        except StopIteration as e:
            outcome.set(e.value)
        except Exception as e:  # noqa: BLE001 - carried to whoever awaits the outcome
            outcome.fail(e)
        else:
            waits_for.when_done(step)

    step()
    return outcome


class Lock:
    """Mutual exclusion between coroutines, first come first served."""

    __slots__ = ("_held", "_waiters")

    def __init__(self) -> None:
        self._held = False
        self._waiters: deque[Future[None]] = deque()

    @property
    def is_held(self) -> bool:
        """Whether a coroutine is inside."""
        return self._held

    async def __aenter__(self) -> None:
        if self._held:
            turn: Future[None] = Future()
            self._waiters.append(turn)
            await turn
        self._held = True

    async def __aexit__(self, *exc_info: object) -> None:
        if self._waiters:
            # Still held: it passes to the first waiter without a moment in which a newcomer could take it.
            self._waiters.popleft().set(None)
        else:
            self._held = False
