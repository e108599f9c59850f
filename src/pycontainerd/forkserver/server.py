"""The forkserver's loop: requests in, shims out, one answer each.

A request goes to a shim in reserve (spare.py). It reports over a pipe once it listens; a pipe that ends without a report
is a failure. Shims outlive this process, which ends when its control socket does; those in reserve end with it.

Spec: pycontainerd.lib.spawn
"""

from __future__ import annotations

import _socket
import os
import select
from time import monotonic

from pycontainerd.forkserver import spare
from pycontainerd.lib import errdefs, spawn
from pycontainerd.lib.linux.fd import fds_of, rights
from pycontainerd.lib.linux.pages import Pages
from pycontainerd.lib.oci import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from pycontainerd.forkserver.spare import Spare

    Request = dict[str, Any]

_MAX_REPORT: Final = 64 << 10
_AFTER_BIRTH_MS: Final = 15
_MOST_BACK: Final = 2  # that have been a shim before; the next request takes the one that came back last
_BACK_S: Final = 2.0  # so long one of them stays: it has more memory of its own than a new one


class _Birth:
    """A shim that was asked for: under way, alive, or dead (then it is forgotten)."""

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


class ForkServer:
    """Owns the control socket and the shims in reserve: forking one is not what a request waits for."""

    def __init__(self, control: _socket.socket) -> None:
        self._control = control
        self._build = spawn.build_id()
        self._births: dict[str, _Birth] = {}
        self._reports: dict[int, str] = {}  # read end of a report pipe -> id
        self._alive: dict[int, str] = {}  # pidfd of a shim -> id
        self._new: Spare | None = None
        self._back: list[tuple[float, Spare]] = []  # (when to leave, one that came back), the last one last
        self._taken: dict[int, tuple[Spare, str]] = {}  # channel of one that is a shim -> that one, id
        self._pages = Pages()
        self._poller = select.poll()
        self._poller.register(control.fileno(), select.POLLIN)

    def run(self) -> int:
        """Until the client hangs up."""
        while True:
            wants_spare = self._new is None and not self._back and not self._reports
            ready = self._poller.poll(self._timeout_ms(wants_spare=wants_spare))
            if wants_spare and not ready:
                self._new = _try_to_fork(self._pages)
            for fd, _ in ready:
                if fd in self._reports:
                    self._read_report(fd)
                elif fd in self._alive:
                    self._forget(self._alive[fd])  # the shim has ended: its id may be used again
                elif fd in self._taken:
                    self._take_back(fd)
                elif fd != self._control.fileno():
                    self._dismiss(fd)  # one in reserve was killed
                elif not self._take_request():
                    return 0
            self._dismiss_old()

    def _timeout_ms(self, *, wants_spare: bool) -> int | None:
        if wants_spare:
            # Not beside the start of the one that was just taken: there is a processor for that or for this.
            return _AFTER_BIRTH_MS if self._alive else 0
        if self._back:
            return max(0, int((self._back[0][0] - monotonic()) * 1000) + 1)
        return None

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
        taken = self._from_reserve(request)
        if not taken.take(data, request, stdio):  # somebody has killed it
            taken = spare.fork(None)
            if not taken.take(data, request, stdio):
                raise errdefs.Unavailable("the shim in reserve died: unavailable")
        self._births[request_id] = _Birth()
        self._reports[taken.report_fd] = request_id
        self._poller.register(taken.report_fd, select.POLLIN)
        self._taken[taken.channel.fileno()] = taken, request_id
        self._poller.register(taken.channel.fileno(), select.POLLIN)

    def _from_reserve(self, request: Request) -> Spare:
        """One that came back, else a new one. Who has been a shim with another OOM score stays where it is."""
        for at in range(len(self._back) - 1, -1, -1):
            found = self._back[at][1]
            if found.fits(request):
                del self._back[at]
                self._poller.unregister(found.channel.fileno())
                return found
        # One that is forked now copies its pages as it comes upon them: of those on the list it may not need all.
        found, self._new = self._new or spare.fork(None), None
        return found

    def _take_back(self, channel_fd: int) -> None:
        """A shim has ended and its processes are in reserve again, or they have left or rest."""
        back, request_id = self._taken.pop(channel_fd)
        if not back.come_back():
            self._poller.unregister(channel_fd)
            return
        self._forget(request_id)
        self._back.append((monotonic() + _BACK_S, back))
        if len(self._back) > _MOST_BACK:
            self._dismiss(self._back[0][1].channel.fileno())

    def _dismiss_old(self) -> None:
        while self._back and self._back[0][0] <= monotonic():
            self._dismiss(self._back[0][1].channel.fileno())

    def _dismiss(self, channel_fd: int) -> None:
        """Lets one that came back leave."""
        for at, (_, back) in enumerate(self._back):
            if back.channel.fileno() == channel_fd:
                del self._back[at]
                self._poller.unregister(channel_fd)
                back.close()
                return

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


def _try_to_fork(pages: Pages) -> Spare | None:
    """None when there is no room for one now: whoever asks for a shim then is told why."""
    try:
        return spare.fork(pages)
    except OSError:
        return None
