"""The shim while nothing happens: a process that holds what is open, waits, and forks an attendant when there is work.

    forkserver --> keeper (the shim's pid) --clone3--> attendant: serves, makes containers, copies, reports
                     |  exits of the shim's children, signals -------------->
                     |  <--- after a quiet while: every descriptor, its state in a memfd among them; it leaves
                     '-- one of them can be read, or a child ends --clone3--> the next attendant, from that state

What an attendant has written to its copy of the forkserver's memory goes with it, and a keeper writes next to nothing.
The two are one program: when either dies so does the other, and whoever watches the shim sees it die.

Messages on the link, a SOCK_SEQPACKET pair:

    attendant  BECOME umask cwd argv...    when the shim has been asked for
               MAY_REST                    hold exits and signals back from now on; answered by REST
               AWAKE                       it goes on after all
               REST mask + descriptors     its last word; a byte of the mask says whether that descriptor is waited for
               RENEW                       its shim has ended; answered by RENEW when the two may become another one, else by NO
    keeper     EXIT pid status nanos       REST       SIGNAL number       RENEW or NO

Runs in: the keeper, but for what `keep` is given
Man:     clone(2), prctl(2) PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG, poll(2), unix(7) SCM_RIGHTS
"""

from __future__ import annotations

import _signal
import _socket
import os
import select
from time import sleep, time_ns

from pycontainerd.lib.linux import prctl, process, title
from pycontainerd.lib.linux.fd import close_all_but, fds_of
from pycontainerd.shim.reaper import exit_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    Attend = Callable[[_socket.socket, Sequence[int]], int]

BECOME: Final = b"become"
MAY_REST: Final = b"may rest"
AWAKE: Final = b"awake"
REST: Final = b"rest"
RENEW: Final = b"renew"
NO: Final = b"no"
EXIT: Final = b"exit"
SIGNAL: Final = b"signal"

MAX_FDS: Final = 253  # SCM_MAX_FD of linux/net/scm.h: what one message takes
_MAX_MESSAGE: Final = 128 << 10
_NAME: Final = "containerd-shim-pyrunc-v2"
_RESERVE: Final = "pycontainerd-forkserver"
_FORWARDED: Final = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGUSR1)
_STREAMS: Final = (0, 1, 2)
_NO_ROOM_PAUSE_S: Final = 0.1


def keep(first: Attend, later: Attend) -> int:
    """Becomes a keeper; gives the exit code when an attendant has ended without leaving a successor anything.

    `first` runs in the attendant that is forked now, with every descriptor that is open here, which the keeper then
    closes; `later` in each one after that, with 0, 1, 2 and the descriptors that the one before it left. Both get their
    end of the link, which is theirs, and give an exit code.
    """
    prctl.set_child_subreaper(True)
    keeper = _Keeper(later)
    keeper.fork(first)
    close_all_but((*_STREAMS, *keeper.fds()))
    return keeper.run()


class _Keeper:
    """Owns its end of the link, a pipe of signals and, while there is no attendant, what the last one left."""

    def __init__(self, later: Attend) -> None:
        self._later = later
        self._link: _socket.socket | None = None
        self._attendant = 0  # its pid; 0 while there is none
        self._holds_back = False
        self._held: list[bytes] = []
        self._left: list[int] = []
        self._waited_for: list[int] = []
        self._ended: int | None = None  # exit code of an attendant that left nothing
        self._signals_fd, self._wakeup_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._signals_fd, select.POLLIN)
        _signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        for number in (_signal.SIGCHLD, *_FORWARDED):
            _signal.signal(number, _ignore)

    def fds(self) -> tuple[int, ...]:
        """What it needs while there is an attendant."""
        assert self._link is not None
        return self._link.fileno(), self._signals_fd, self._wakeup_fd

    def fork(self, attend: Attend) -> None:
        """Makes an attendant, to which goes what the last one left, and tells it what was held back for it.

        Where the kernel refuses, an OSError says so and all is as before.
        """
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        keeper, left = os.getpid(), self._left
        not_theirs = (ours.fileno(), self._signals_fd, self._wakeup_fd)
        try:
            self._attendant = process.clone3(lambda: _attend(keeper, attend, theirs, left, not_theirs))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._link = ours
        for fd in self._waited_for:
            self._poll.unregister(fd)
        for fd in left:
            os.close(fd)
        self._left, self._waited_for = [], []
        self._poll.register(ours.fileno(), select.POLLIN)
        self._let_go()

    def run(self) -> int:
        """Until an attendant ends without leaving anything."""
        while self._ended is None:
            if not self._attendant and self._held:
                self._fork_next()
            for fd, _ in self._poll.poll():
                if fd == self._signals_fd:
                    self._on_signals()
                elif self._link is not None and fd == self._link.fileno():
                    self._on_message()
                elif not self._attendant and self._ended is None:
                    self._fork_next()
                    break  # the rest of this round was for it
        return self._ended

    def _fork_next(self) -> None:
        """However long there is no room for one: who wants something of the shim waits, and nothing is lost."""
        while not self._attendant:
            try:
                self.fork(self._later)
            except OSError:
                sleep(_NO_ROOM_PAUSE_S)

    def _on_signals(self) -> None:
        for number in sorted(set(os.read(self._signals_fd, 4096))):
            if number == _signal.SIGCHLD:
                self._reap()
            else:
                self._tell(b"%s\0%d" % (SIGNAL, number))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid != self._attendant:
                self._tell(b"%s\0%d %d %d" % (EXIT, pid, exit_status(status), time_ns()))
                continue
            self._attendant = 0
            while self._link is not None:  # its last word may still be there
                self._on_message()
            if not self._left:
                self._ended = exit_status(status)
                return

    def _on_message(self) -> None:
        assert self._link is not None
        data, ancillary, _, _ = self._link.recvmsg(
            _MAX_MESSAGE, _socket.CMSG_SPACE(4 * MAX_FDS), _socket.MSG_CMSG_CLOEXEC
        )
        kind, _, rest = data.partition(b"\0")
        if kind == MAY_REST:
            self._tell(REST)
            self._holds_back = True
        elif kind == AWAKE:
            self._let_go()
        elif kind == REST:
            self._take_over(rest, fds_of(ancillary))
        elif kind == BECOME:
            _become(*rest.split(b"\0"))
        elif kind == RENEW:
            self._renew()
        else:
            self._hang_up()  # the end: its exit is on its way

    def _take_over(self, mask: bytes, fds: list[int]) -> None:
        """The attendant leaves now; what it held is held here."""
        self._hang_up()
        if self._attendant:
            os.waitpid(self._attendant, 0)
            self._attendant = 0
        self._left = fds
        self._waited_for = [fd for fd, is_waited_for in zip(fds, mask, strict=True) if is_waited_for]
        for fd in self._waited_for:
            self._poll.register(fd, select.POLLIN)

    def _renew(self) -> None:
        """In reserve again, unless something of a container is still to be reaped."""
        if self._held or _children() != [self._attendant]:
            self._tell(NO)
            return
        os.chdir("/")  # the bundle's folder is going away
        title.show_as(_RESERVE, [f"{_RESERVE}: a shim in reserve"])
        self._tell(RENEW)

    def _hang_up(self) -> None:
        if self._link is not None:
            self._poll.unregister(self._link.fileno())
            self._link.close()
            self._link = None

    def _tell(self, message: bytes) -> None:
        """Now, or to the next attendant."""
        if self._holds_back or self._link is None:
            self._held.append(message)
            return
        try:
            self._link.send(message, _socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return  # it is dying, and the shim with it

    def _let_go(self) -> None:
        self._holds_back = False
        held, self._held = self._held, []
        for message in held:
            self._tell(message)


def _attend(
    keeper: int, attend: Attend, link: _socket.socket, left: Sequence[int], not_ours: Sequence[int]
) -> None:
    """In the attendant."""
    prctl.set_pdeathsig(_signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(1)  # it died before the signal was asked for
    for fd in not_ours:
        os.close(fd)
    process.reset_signals()
    title.show_as(_NAME, [f"{_NAME}: attends to {keeper}"])
    os._exit(attend(link, left))


def _become(umask: bytes, cwd: bytes, *argv: bytes) -> None:
    """What the shim is seen as is the keeper."""
    os.umask(int(umask))
    os.chdir(cwd)
    null_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in _STREAMS:
        os.dup2(null_fd, number)  # the forkserver's until now: its readers shall see its end
    os.close(null_fd)
    words = [word.decode("utf-8", "surrogateescape") for word in argv]
    title.show_as(os.path.basename(words[0]), words)


def _children() -> list[int]:
    """Pids of all children of this process, dead ones too; none where the kernel doesn't tell (proc_pid_children of proc(5))."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        return []


def _ignore(_number: int, _frame: object) -> None:
    """The wakeup descriptor says it."""
