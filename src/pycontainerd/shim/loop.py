"""The shim's one loop: epoll, timers and signals on one thread.

Nothing called from here may wait for anything but the kernel's own quick answers; what can take time runs in a child
process, and its end arrives as a signal or on a pipe.

Man: epoll(7), signal(7)
"""

from __future__ import annotations

import _signal
import os
import select
from heapq import heappop, heappush
from time import monotonic

from pycontainerd.shim.future import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, TypeVar

    T = TypeVar("T")

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
ERROR: Final = select.EPOLLERR | select.EPOLLHUP


class Timer:
    """A callback at a point in time; `cancel()` makes it nothing."""

    __slots__ = ("_callback", "_order", "when")

    def __init__(self, when: float, order: int, callback: Callable[[], object]) -> None:
        self.when = when
        self._order = order
        self._callback: Callable[[], object] | None = callback

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self._order) < (other.when, other._order)

    @property
    def is_set(self) -> bool:
        """Whether it is yet to fire."""
        return self._callback is not None

    def cancel(self) -> None:
        """Never fires from now on."""
        self._callback = None

    def fire(self) -> None:
        """Calls back once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Loop:
    """Owns its epoll fd and the signal pipe; borrows every fd it watches."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], object]] = {}
        self._timers: list[Timer] = []
        self._order = 0
        self._running = False
        self.turns = 0  # how often something that is watched was ready
        self._signals: dict[int, Callable[[], object]] = {}
        self._signal_read_fd, self._signal_write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.watch(self._signal_read_fd, READ, self._on_signal_bytes)

    def watch(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        """Calls back with the events that fired, as long as `unwatch` isn't called. Do that before closing the fd."""
        self._epoll.register(fd, events)
        self._watched[fd] = callback

    def rewatch(self, fd: int, events: int) -> None:
        """Changes what a watched fd is watched for."""
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stops watching; an fd that isn't watched, or was closed a moment ago, is fine."""
        if self._watched.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError as e:
                if e.errno not in (2, 9):  # ENOENT, EBADF: closing it took it out of the set
                    raise

    def later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Calls back after a while."""
        self._order += 1
        timer = Timer(monotonic() + delay_s, self._order, callback)
        heappush(self._timers, timer)
        return timer

    def has_timers(self, *, but: Timer | None = None) -> bool:
        """Whether one is yet to fire, not counting `but`."""
        return any(timer.is_set for timer in self._timers if timer is not but)

    def sleep(self, delay_s: float) -> Future[None]:
        """To be awaited."""
        future: Future[None] = Future()
        self.later(delay_s, lambda: future.set(None))
        return future

    def within(self, future: Future[T], timeout_s: float) -> Future[bool]:
        """Settles with True when `future` is done, or with False after `timeout_s`; its error stays with it."""
        outcome: Future[bool] = Future()
        timer = self.later(timeout_s, lambda: outcome.set(False))

        def done(_: Future[T]) -> None:
            timer.cancel()
            outcome.set(True)

        future.when_done(done)
        return outcome

    def readable(self, fd: int, timeout_s: float = 0) -> Future[bool]:
        """Settles with True when the fd can be read, or with False after `timeout_s` (0: no limit)."""
        future: Future[bool] = Future()
        timer = self.later(timeout_s, lambda: future.set(False)) if timeout_s else None

        def ready(_: Future[bool]) -> None:
            self.unwatch(fd)
            if timer is not None:
                timer.cancel()

        self.watch(fd, READ, lambda events: future.set(True))
        future.when_done(ready)
        return future

    def either_readable(self, one_fd: int, other_fd: int) -> Future[None]:
        """Settles when one of the two can be read; neither is watched any more then."""
        future: Future[None] = Future()

        def ready(_: Future[None]) -> None:
            self.unwatch(one_fd)
            self.unwatch(other_fd)

        future.when_done(ready)
        for fd in (one_fd, other_fd):
            self.watch(fd, READ, lambda events: future.set(None))
        return future

    def on_signal(self, number: int, callback: Callable[[], object]) -> None:
        """Calls back from the loop, never from inside other code, when the signal arrives."""
        self._signals[number] = callback
        _signal.set_wakeup_fd(self._signal_write_fd, warn_on_full_buffer=False)
        _signal.signal(number, lambda signum, frame: None)
        _signal.siginterrupt(number, False)

    def run(self) -> None:
        """Runs until `stop()`."""
        self._running = True
        while self._running:
            for fd, events in self._epoll.poll(self._timeout()):
                callback = self._watched.get(fd)
                if callback is not None:  # an earlier callback of this round may have closed it
                    self.turns += 1
                    callback(events)
            self._fire_timers()

    def stop(self) -> None:
        """Lets `run()` return after this round."""
        self._running = False

    def close(self) -> None:
        """Gives back signals and fds."""
        _signal.set_wakeup_fd(-1)
        for number in self._signals:
            _signal.signal(number, _signal.SIG_DFL)
        for fd in (self._signal_read_fd, self._signal_write_fd):
            os.close(fd)
        self._epoll.close()

    def _timeout(self) -> float:
        if not self._timers:
            return -1
        return max(0.0, self._timers[0].when - monotonic())

    def _fire_timers(self) -> None:
        now = monotonic()
        while self._timers and self._timers[0].when <= now:
            heappop(self._timers).fire()

    def _on_signal_bytes(self, events: int) -> None:
        numbers = os.read(self._signal_read_fd, 4096)
        for number in sorted(set(numbers)):
            callback = self._signals.get(number)
            if callback is not None:
                callback()
