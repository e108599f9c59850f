"""A shim in reserve: forked before anybody asks for it, or one whose container has gone and that comes back.

    forkserver --clone3--> middle --clone3--> keeper --clone3--> attendant
         '------------------- channel: a SOCK_SEQPACKET pair ---------'
                            a request + streams ------>   becomes a shim, and says so on its report pipe
                            <------ BACK + the read end of a new report pipe, once its shim has ended
                            the end of the channel -->   leaves

In the middle is a process that only sets up a session and leaves: a shim is nobody's child. The channel stays open until the
attendant leaves, be it for a rest (shim/keeper.py): who has rested does not come back.

A fork costs what is written to afterwards, page by page; who comes back has paid. It may only do so as it was born: same
namespaces, cgroups, limits and priorities, the same descriptors, nothing left to reap, and a bounded number of times.
What an earlier container's request and configuration have left in freed memory, no other container may find: only the init of
a new pid namespace, where nobody is yet, is made as a copy of such a process (shim/libcontainer.py).

Runs in: the forkserver (Spare and what makes it), the attendant (await_request)
Man:     clone(2), unix(7) SCM_RIGHTS, namespaces(7)
"""

from __future__ import annotations

import _signal
import _socket
import gc
import os
import resource

from pycontainerd.forkserver import child
from pycontainerd.lib import errdefs, spawn
from pycontainerd.lib.linux import process
from pycontainerd.lib.linux.fd import close_all_but, fds_of, rights
from pycontainerd.lib.oci import document
from pycontainerd.shim import attendant, bootstrap, keeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from pycontainerd.lib.linux.pages import Pages

    Request = dict[str, Any]

BACK: Final = b"back"
_LIVES: Final = 100  # shims that one pair of processes becomes, one after the other
_REPORT_FD: Final = 4  # below it: streams, and the listener
_NAMESPACES: Final = (
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid",
    "pid_for_children",
    "time",
    "time_for_children",
    "user",
    "uts",
)


class Spare:
    """The forkserver's end of one: the channel, and the read end of the pipe on which it will report."""

    __slots__ = ("channel", "last", "report_fd")

    def __init__(self, channel: _socket.socket, report_fd: int) -> None:
        self.channel = channel
        self.report_fd = report_fd
        self.last: Request | None = None  # what it was asked for before

    def take(self, data: bytes, request: Request, stdio: Sequence[int]) -> bool:
        """Hands it the request, after which the report pipe is the caller's; False, and it is closed, when it is gone."""
        self.last = request
        try:
            self.channel.sendmsg([data], rights(stdio), _socket.MSG_NOSIGNAL)
        except OSError as e:
            self.close()
            if isinstance(e, (BrokenPipeError, ConnectionResetError)):
                return False
            raise
        return True

    def fits(self, request: Request) -> bool:
        """Whether it may be this shim: an OOM score once raised is nothing that can be lowered again."""
        return self.last is None or self.last["oom_score_adj"] == request["oom_score_adj"]

    def come_back(self) -> bool:
        """Reads what it says: True when it is in reserve again; False, and all is closed, when it has left."""
        self.report_fd = -1  # the last one is its reader's
        try:
            data, ancillary, _, _ = self.channel.recvmsg(
                len(BACK), _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT
            )
        except (
            ConnectionResetError,
            BlockingIOError,
        ):  # never silent: nothing was said, so it is of no more use
            data, ancillary = b"", []
        fds = fds_of(ancillary)
        if data == BACK and len(fds) == 1:
            self.report_fd = fds[0]
            return True
        for fd in fds:
            os.close(fd)
        self.close()
        return False

    def close(self) -> None:
        """Lets it leave."""
        self.channel.close()
        if self.report_fd >= 0:
            os.close(self.report_fd)
            self.report_fd = -1


def fork(pages: Pages | None) -> Spare:
    """Makes one; without `pages` one that is asked for already. OSError when there is no room for it."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        middle_pid = process.clone3(lambda: _middle(theirs, write_fd, pages))
    except OSError:
        os.close(read_fd)
        ours.close()
        raise
    finally:
        os.close(write_fd)
        theirs.close()
    os.waitpid(middle_pid, 0)  # it only forks and leaves
    return Spare(ours, read_fd)


def _middle(channel: _socket.socket, report_fd: int, pages: Pages | None) -> None:
    """A session of its own for the shim, and nobody between it and init."""
    os.setsid()
    process.clone3(lambda: _keep(channel, report_fd, pages))
    os._exit(0)


def _keep(channel: _socket.socket, report_fd: int, pages: Pages | None) -> None:
    """The keeper, whose attendant waits for the request."""
    close_all_but((0, 1, 2, channel.fileno(), report_fd))
    os.setpgid(0, 0)
    process.reset_signals()
    os._exit(keeper.keep(lambda link, _: _Reserve(channel, report_fd, link, pages).serve(), child.go_on))


class _Reserve:
    """The attendant's side: owns the channel, the write end of the report pipe and the link to the keeper."""

    def __init__(
        self, channel: _socket.socket, report_fd: int, link: _socket.socket, pages: Pages | None
    ) -> None:
        self._channel = channel
        self._report_fd = report_fd
        self._link = link
        self._pages = pages
        self._birth = standing()

    def serve(self) -> int:
        """Becomes shims until one is its last; the exit code."""
        if self._pages is not None:
            self._pages.attendant.copy()
        code = 0
        for life in range(_LIVES):
            request, stdio = self._await_request()
            if request is None:
                return 0
            code = self._become(request, stdio, is_renewed=life > 0)
            if code or not self._is_as_new(request) or not self._come_back():
                break
        return code

    def _await_request(self) -> tuple[Request | None, list[int]]:
        """None when the forkserver has gone, whose end of the channel nobody else has, or wants this one to leave."""
        data, ancillary, _, _ = self._channel.recvmsg(
            spawn.MAX_MESSAGE, _socket.CMSG_SPACE(12), _socket.MSG_CMSG_CLOEXEC
        )
        return (document.loads(data) if data else None), fds_of(ancillary)

    def _become(self, request: Request, stdio: Sequence[int], *, is_renewed: bool) -> int:
        self._take_descriptors(stdio)
        reported = False

        def report(pid: int, output: bytes) -> None:
            nonlocal reported
            reported = True
            _write_report({"pid": pid, "output": output.hex()})

        try:
            return child.become_shim(request, report, self._link, self._pages, is_renewed=is_renewed)
        except Exception as e:  # noqa: BLE001 - the top of a process: what can be told is told, then it ends
            status, message = errdefs.to_status(e)
            if reported:
                child.log_death(e)
            else:
                _write_report({"error": {"code": status, "message": message}})
            return 1

    def _take_descriptors(self, stdio: Sequence[int]) -> None:
        """0, 1, 2 as asked for, 3 kept free for the listener, 4 the report, and our own beyond."""
        own = (self._report_fd, self._link.detach(), self._channel.detach())
        *streams, report_fd, link_fd, channel_fd = [_park(fd) for fd in (*stdio, *own)]
        if not streams:
            streams = [_park(os.open(os.devnull, os.O_RDWR))] * 3
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        os.dup2(report_fd, _REPORT_FD, inheritable=False)
        close_all_but((0, 1, 2, _REPORT_FD, link_fd, channel_fd))
        self._link = _socket.socket(fileno=link_fd)
        self._channel = _socket.socket(fileno=channel_fd)

    def _is_as_new(self, request: Request) -> bool:
        """Whether nothing of the last shim is left in this process or the keeper."""
        if request["new_keyring"] or bootstrap.SCHED_CORE_ENV in request["env"]:
            return False  # a keyring and a core's cookie can't be looked at: they stay with this pair
        process.reset_signals()
        _signal.set_wakeup_fd(-1)
        gc.collect()  # whoever still refers to a descriptor would close its successor
        kept = {0, 1, 2, self._link.fileno(), self._channel.fileno()}
        return _open_fds() == kept and standing() == self._birth and attendant.renew(self._link)

    def _come_back(self) -> bool:
        os.chdir("/")
        null_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in range(3):
            os.dup2(null_fd, number)
        os.close(null_fd)
        read_fd, self._report_fd = os.pipe2(os.O_CLOEXEC)
        try:
            self._channel.sendmsg([BACK], rights([read_fd]), _socket.MSG_NOSIGNAL)
        except OSError:
            return False  # the forkserver has gone
        finally:
            os.close(read_fd)
        return True


def standing() -> tuple[object, ...]:
    """Where this process is among others: what an earlier shim may have changed and the next one would inherit."""
    with open("/proc/self/cgroup", "rb") as file:
        cgroups = file.read()
    return (
        cgroups,
        [os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES],
        [resource.getrlimit(number) for number in range(16)],
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getaffinity(0),
        os.getresuid(),
        os.getresgid(),
    )


def _open_fds() -> set[int]:
    return {fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_open(fd)}


def _is_open(fd: int) -> bool:
    """The listing's own descriptor isn't, by now."""
    try:
        os.get_inheritable(fd)
    except OSError:
        return False
    return True


def _park(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)


def _write_report(fields: dict[str, Any]) -> None:
    os.write(_REPORT_FD, document.dumps(fields).encode() + b"\n")
    os.close(_REPORT_FD)
