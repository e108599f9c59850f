"""The attendant's end of keeper.py: what the keeper tells it, and when and how it hands the shim back and leaves.

    quiet for a while --MAY_REST--> keeper --exits it has sent until now, REST--> still quiet?  yes: all there is, REST
                                                                                                 no: AWAKE

"All there is" are descriptors and one JSON document that names them by their place in the message. Each part of the shim
puts its own into it (`pack`) and makes itself again from it (`unpack`); `is_quiet` says that it has nothing under way.

Spec: pycontainerd.shim.keeper
"""

from __future__ import annotations

import _socket
import os
from time import monotonic

from pycontainerd.lib.linux.fd import rights
from pycontainerd.lib.oci import document
from pycontainerd.shim import keeper
from pycontainerd.shim.loop import READ
from pycontainerd.shim.reaper import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    from pycontainerd.lib.linux.pages import Pages
    from pycontainerd.shim.loop import Loop, Timer
    from pycontainerd.shim.reaper import Reaper

    State = dict[str, Any]

QUIET_S: Final = 1.0  # at first; doubled when the rest was short, so that who is woken often stays awake
QUIET_ENV: Final = "PYCONTAINERD_SHIM_QUIET_S"  # of the request: always that long
_LONGEST_QUIET_S: Final = 300.0
_RENEWED_QUIET_S: Final = 0.1  # of one that has served another shim: what runs on is soon served by a new one
_HURRY_S: Final = 0.001  # at first; doubled each time it isn't quiet
_SHORT_REST: Final = 16  # times the quiet while before it
_MAX_MESSAGE: Final = 4096


class Pack:
    """Descriptors that are handed over, borrowed from their owners. The same one twice has one place."""

    __slots__ = ("_places", "fds", "mask")

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.mask = bytearray()
        self._places: dict[int, int] = {}

    def add(self, fd: int, *, waited_for: bool = False) -> int:
        """Its place; -1 for none. `waited_for`: there is work when it can be read."""
        if fd < 0:
            return -1
        place = self._places.get(fd)
        if place is None:
            place = self._places[fd] = len(self.fds)
            self.fds.append(fd)
            self.mask.append(0)
        self.mask[place] |= waited_for
        return place


class Unpack:
    """The same on the other side: place -> descriptor, whose owner the caller becomes."""

    __slots__ = ("_fds",)

    def __init__(self, fds: Sequence[int]) -> None:
        self._fds = fds

    def take(self, place: int) -> int:
        """-1 for -1."""
        return self._fds[place] if place >= 0 else -1


class Attendant:
    """Owns the link. `request` is how the shim was asked for, which every attendant has to know."""

    def __init__(
        self,
        link: _socket.socket,
        request: State,
        left: State | None = None,
        fds: Sequence[int] = (),
        *,
        pages: Pages | None = None,
        is_renewed: bool = False,
    ) -> None:
        """is_renewed: this process has been the attendant of another shim, whose container is gone."""
        self._link = link
        self.is_renewed = is_renewed
        self.pages = pages  # of what is written to; None in one that wasn't in reserve
        self.request = request
        self.left = left  # what the attendant before this one packed, and
        self.found = Unpack(fds)  # the descriptors of it
        self._quiet_s = QUIET_S if left is None else _next_quiet(left["quiet_s"], monotonic() - left["at_s"])
        if QUIET_ENV in request["env"]:
            self._quiet_s = float(request["env"][QUIET_ENV])
        self._turns = 0
        self._hurry_s = 0.0
        self._loop: Loop
        self._next_look: Timer
        self._reaper: Reaper
        self._is_quiet: Callable[[], bool]
        self._pack: Callable[[Pack], State]

    @property
    def shim_pid(self) -> int:
        """The keeper's: the shim's as the world knows it."""
        return os.getppid()

    def become(self, argv: Sequence[str]) -> None:
        """Gives the keeper the looks of a shim: command line, umask, folder."""
        umask = os.umask(0)
        os.umask(umask)
        words = [str(umask), os.getcwd(), *argv]
        text = b"\0".join(word.encode("utf-8", "surrogateescape") for word in words)
        self._link.send(keeper.BECOME + b"\0" + text, _socket.MSG_NOSIGNAL)

    def attach(
        self, loop: Loop, reaper: Reaper, is_quiet: Callable[[], bool], pack: Callable[[Pack], State]
    ) -> None:
        """Listens to the keeper from now on, and looks whether it is quiet now and then."""
        self._loop, self._reaper, self._is_quiet, self._pack = loop, reaper, is_quiet, pack
        self._link.setblocking(False)
        loop.watch(self._link.fileno(), READ, self._on_message)
        self._look_again()

    def hurry(self) -> None:
        """Leaves with the first quiet moment: the next one may do itself what this one has others do."""
        self._hurry_s = _HURRY_S
        self._next_look.cancel()
        self._look_again()

    def _look_again(self) -> None:
        self._turns = self._loop.turns
        quiet_s = min(self._quiet_s, _RENEWED_QUIET_S) if self.is_renewed else self._quiet_s
        if self._hurry_s:
            quiet_s = min(self._hurry_s, quiet_s)
            self._hurry_s *= 2
        self._next_look = self._loop.later(quiet_s, self._look)

    def _look(self) -> None:
        was_busy = self._turns != self._loop.turns and not self._hurry_s
        if was_busy or not self._is_quiet():
            self._look_again()
            return
        self._link.send(keeper.MAY_REST, _socket.MSG_NOSIGNAL)

    def _on_message(self, events: int) -> None:
        try:
            kind, _, rest = self._link.recv(_MAX_MESSAGE).partition(b"\0")
        except BlockingIOError:
            return
        if kind == keeper.EXIT:
            pid, status, at_nanos = (int(word) for word in rest.split())
            self._reaper.settle(Exit(pid, status, at_nanos))
        elif kind == keeper.SIGNAL:
            os.kill(os.getpid(), int(rest))
        elif kind == keeper.REST:
            self._rest()

    def _rest(self) -> None:
        if not self._is_quiet() or not self._hand_over():
            self._link.send(keeper.AWAKE, _socket.MSG_NOSIGNAL)
            self._look_again()

    def _hand_over(self) -> bool:
        """Does not return when the keeper has everything; False when that can't be now."""
        try:
            if self.pages is not None:
                self.pages.record()
            self._send_everything()
        except OSError:  # too many descriptors for one message or for this process: not worth a shim's end
            self._quiet_s = min(2 * self._quiet_s, _LONGEST_QUIET_S)
            return False
        os._exit(0)

    def _send_everything(self) -> None:
        pack = Pack()
        state_fd = os.memfd_create("shim", os.MFD_CLOEXEC)
        try:
            pack.add(state_fd)
            for stream in (0, 1, 2):
                pack.add(stream)
            state = self._pack(pack)
            state.update(request=self.request, quiet_s=self._quiet_s, at_s=monotonic())
            data = memoryview(document.dumps(state).encode("utf-8", "surrogateescape"))
            while data:
                data = data[os.write(state_fd, data) :]
            # More than MAX_FDS descriptors are EINVAL here.
            self._link.sendmsg([keeper.REST + b"\0" + pack.mask], rights(pack.fds), _socket.MSG_NOSIGNAL)
        finally:
            os.close(state_fd)


def _next_quiet(quiet_s: float, rested_s: float) -> float:
    if rested_s < _SHORT_REST * quiet_s:
        return min(2 * quiet_s, _LONGEST_QUIET_S)
    return max(quiet_s / 2, QUIET_S)


def renew(link: _socket.socket) -> bool:
    """After the end of its shim: whether the keeper is as new, so that both may become another."""
    link.setblocking(True)
    try:
        link.send(keeper.RENEW, _socket.MSG_NOSIGNAL)
        # The end of something else of the shim, or a signal for it, may have come before the answer: then this is the end.
        return link.recv(_MAX_MESSAGE) == keeper.RENEW
    except OSError:
        return False  # it is dying


def unpack(fds: Sequence[int]) -> State:
    """The state that the last attendant left, with its streams as 0, 1 and 2."""
    state_fd, *streams = fds[:4]
    os.lseek(state_fd, 0, os.SEEK_SET)
    size = os.fstat(state_fd).st_size
    data = b""
    while len(data) < size:
        data += os.read(state_fd, size - len(data))
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    for fd in fds[:4]:
        os.close(fd)
    found: State = document.loads(data)
    return found
