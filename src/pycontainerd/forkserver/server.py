"""The forkserver's loop: requests in, children out, one answer each.

A shim is forked twice, so that it has no parent that must reap it, before anybody asks for it: the request goes to the
one in reserve. It reports over a pipe once it listens; a pipe that ends without a report is a failure. Shims outlive
this process, which ends when its control socket does; the one in reserve ends with it.

Spec: pycontainerd.lib.spawn
"""

from __future__ import annotations

import _socket
import os
import select

from pycontainerd.forkserver import child
from pycontainerd.lib import errdefs, spawn
from pycontainerd.lib.linux import process
from pycontainerd.lib.linux.fd import close_all_but, fds_of, rights
from pycontainerd.lib.linux.pages import Pages
from pycontainerd.lib.oci import document
from pycontainerd.shim import keeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    Request = dict[str, Any]

_MAX_REPORT: Final = 64 << 10
_AFTER_BIRTH_MS: Final = 15


class _Birth:
    """A shim that has been forked: under way, alive, or dead (then it is forgotten)."""

    __slots__ = ("output", "pid", "pidfd", "report")

    def __init__(self) -> None:
        self.report = bytearray()
        self.pid = 0
        self.pidfd = -1
        self.output = b""

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        if self.pidfd < 0:
            return False
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return not poller.poll(0)


class _Spare:
    """A shim that has been forked and waits to be told whose it is. Both ends are the forkserver's."""

    __slots__ = ("channel", "report_fd")

    def __init__(self, channel: _socket.socket, report_fd: int) -> None:
        self.channel = channel
        self.report_fd = report_fd

    def take(self, data: bytes, stdio: Sequence[int]) -> bool:
        """Hands it the request; False when it is gone."""
        try:
            self.channel.sendmsg([data], rights(stdio), _socket.MSG_NOSIGNAL)
        except OSError as e:
            os.close(self.report_fd)
            if isinstance(e, (BrokenPipeError, ConnectionResetError)):
                return False
            raise
        finally:
            self.channel.close()
        return True


class ForkServer:
    """Owns the control socket, and one shim in reserve: forking one more is not what a request waits for."""

    def __init__(self, control: _socket.socket) -> None:
        self._control = control
        self._build = spawn.build_id()
        self._births: dict[str, _Birth] = {}
        self._reports: dict[int, str] = {}  # read end of a report pipe -> id
        self._alive: dict[int, str] = {}  # pidfd of a shim -> id
        self._spare: _Spare | None = None
        self._pages = Pages()
        self._poller = select.poll()
        self._poller.register(control.fileno(), select.POLLIN)

    def run(self) -> int:
        """Until the client hangs up."""
        while True:
            wants_spare = self._spare is None and not self._reports
            # Not beside the start of the one that was just taken: there is a processor for that or for this.
            ready = self._poller.poll(
                _AFTER_BIRTH_MS if wants_spare and self._alive else 0 if wants_spare else None
            )
            if wants_spare and not ready:
                self._spare = _try_to_fork_spare(self._pages)
            for fd, _ in ready:
                if fd in self._reports:
                    self._read_report(fd)
                elif fd in self._alive:
                    self._forget(self._alive[fd])  # the shim has ended: its id may be used again
                elif not self._take_request():
                    return 0

    def _take_request(self) -> bool:
        data, ancillary, _, _ = self._control.recvmsg(
            spawn.MAX_MESSAGE + 1, _socket.CMSG_SPACE(12), _socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return False
        stdio = fds_of(ancillary)
        request_id = ""
        try:
            request = document.loads(data)
            request_id = str(request["id"])
            self._handle(request_id, request, data, stdio)
        except (errdefs.ContainerdError, OSError, ValueError, KeyError, TypeError) as e:
            self._fail(request_id, e)
        finally:
            for fd in stdio:
                os.close(fd)
        return True

    def _handle(self, request_id: str, request: Request, data: bytes, stdio: Sequence[int]) -> None:
        if request["build"] != self._build:
            raise errdefs.FailedPrecondition(spawn.STALE)
        birth = self._births.get(request_id)
        if birth is not None and birth.output and birth.is_alive():
            self._answer(request_id, birth)
            return
        if birth is not None and not birth.output:
            return  # on its way: its one answer serves both requests
        self._forget(request_id)
        spare, self._spare = self._spare or _fork_spare(self._pages), None
        if not spare.take(data, stdio):  # somebody has killed it
            spare = _fork_spare(self._pages)
            if not spare.take(data, stdio):
                raise errdefs.Unavailable("the shim in reserve died: unavailable")
        self._births[request_id] = _Birth()
        self._reports[spare.report_fd] = request_id
        self._poller.register(spare.report_fd, select.POLLIN)

    def _read_report(self, read_fd: int) -> None:
        """The child's report is one line; a pipe that ends without is a child that died."""
        request_id = self._reports[read_fd]
        birth = self._births[request_id]
        data = os.read(read_fd, 4096)
        birth.report += data
        if data and not data.endswith(b"\n") and len(birth.report) < _MAX_REPORT:
            return
        self._poller.unregister(read_fd)
        os.close(read_fd)
        del self._reports[read_fd]
        self._conclude(request_id, birth)

    def _conclude(self, request_id: str, birth: _Birth) -> None:
        try:
            if not birth.report.endswith(b"\n"):
                # Nothing was made: who asked may ask again, or start one by exec.
                raise errdefs.Unavailable("shim died before it listened")
            report = document.loads(bytes(birth.report))
            error = report.get("error")
            if error is not None:
                raise errdefs.from_status(int(error["code"]), str(error["message"]))
            birth.pid, birth.output = int(report["pid"]), bytes.fromhex(report["output"])
            if birth.pid:
                birth.pidfd = os.pidfd_open(birth.pid)
                self._alive[birth.pidfd] = request_id
                self._poller.register(birth.pidfd, select.POLLIN)
        except (errdefs.ContainerdError, OSError, ValueError, KeyError) as e:
            self._forget(request_id)
            self._fail(request_id, e)
            return
        self._answer(request_id, birth)
        if not birth.pid:
            self._forget(request_id)

    def _answer(self, request_id: str, birth: _Birth) -> None:
        packet = document.dumps({"id": request_id, "pid": birth.pid, "output": birth.output.hex()}).encode()
        pidfds = [birth.pidfd] if birth.pidfd >= 0 else []
        self._control.sendmsg([packet], rights(pidfds), _socket.MSG_NOSIGNAL)

    def _fail(self, request_id: str, error: BaseException) -> None:
        code, message = errdefs.to_status(error)
        packet = document.dumps({"id": request_id, "error": {"code": code, "message": message}}).encode()
        self._control.send(packet, _socket.MSG_NOSIGNAL)

    def _forget(self, request_id: str) -> None:
        birth = self._births.pop(request_id, None)
        if birth is not None and birth.pidfd >= 0:
            self._poller.unregister(birth.pidfd)
            del self._alive[birth.pidfd]
            os.close(birth.pidfd)


def _try_to_fork_spare(pages: Pages) -> _Spare | None:
    """None when there is no room for one now: whoever asks for a shim then is told why."""
    try:
        return _fork_spare(pages)
    except OSError:
        return None


def _fork_spare(pages: Pages) -> _Spare:
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
    return _Spare(ours, read_fd)


def _middle(channel: _socket.socket, report_fd: int, pages: Pages) -> None:
    """A session of its own for the shim, and nobody between it and init."""
    os.setsid()
    process.clone3(lambda: _keep_spare(channel, report_fd, pages))
    os._exit(0)


def _keep_spare(channel: _socket.socket, report_fd: int, pages: Pages) -> None:
    """The keeper of the shim in reserve, whose attendant waits for the request."""
    close_all_but((0, 1, 2, channel.fileno(), report_fd))
    os.setpgid(0, 0)
    process.reset_signals()
    os._exit(keeper.keep(lambda link, _: _await_request(channel, report_fd, link, pages), child.go_on))


def _await_request(channel: _socket.socket, report_fd: int, link: _socket.socket, pages: Pages) -> int:
    """The attendant of the shim in reserve; it leaves with the forkserver, whose end of the channel nobody else has."""
    pages.attendant.copy()
    data, ancillary, _, _ = channel.recvmsg(
        spawn.MAX_MESSAGE, _socket.CMSG_SPACE(12), _socket.MSG_CMSG_CLOEXEC
    )
    if not data:
        return 0
    channel.close()
    return _shim(document.loads(data), fds_of(ancillary), report_fd, link, pages)


def _shim(request: Request, stdio: Sequence[int], report_fd: int, link: _socket.socket, pages: Pages) -> int:
    link = _take_descriptors(stdio, report_fd, link)
    reported = False

    def report(pid: int, output: bytes) -> None:
        nonlocal reported
        reported = True
        _write_report(_REPORT_FD, {"pid": pid, "output": output.hex()})

    try:
        return child.become_shim(request, report, link, pages)
    except Exception as e:  # noqa: BLE001 - the top of a process: what can be told is told, then it ends
        status, message = errdefs.to_status(e)
        if reported:
            child.log_death(e)
        else:
            _write_report(_REPORT_FD, {"error": {"code": status, "message": message}})
        return 1


_REPORT_FD: Final = 4


def _take_descriptors(stdio: Sequence[int], report_fd: int, link: _socket.socket) -> _socket.socket:
    """0, 1, 2 as asked for, 3 kept free for the listener, 4 the report, and the link, whose new number this gives."""
    parked = [_park(fd) for fd in (*stdio, report_fd, link.detach())]
    *streams, report, link_fd = parked
    if not streams:
        null_fd = os.open(os.devnull, os.O_RDWR)
        streams = [_park(null_fd)] * 3
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    os.dup2(report, _REPORT_FD, inheritable=False)
    close_all_but((0, 1, 2, _REPORT_FD, link_fd))
    return _socket.socket(fileno=link_fd)


def _park(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)


def _write_report(fd: int, fields: dict[str, Any]) -> None:
    os.write(fd, document.dumps(fields).encode() + b"\n")
    os.close(fd)
