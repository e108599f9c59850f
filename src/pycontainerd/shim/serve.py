"""The long-lived process: puts the parts together and runs the loop until Shutdown.

Spec: containerd docs/runtime-v2.md
Man:  prctl(2) PR_SET_CHILD_SUBREAPER, signal(7)
"""

from __future__ import annotations

import _signal
import _socket
import os
import sys

from pycontainerd.lib.linux import prctl, title
from pycontainerd.shim import bootstrap, libcontainer
from pycontainerd.shim.fifo_log import FifoLog
from pycontainerd.shim.future import spawn
from pycontainerd.shim.loop import Loop
from pycontainerd.shim.oom import OomWatcher
from pycontainerd.shim.publisher import Publisher
from pycontainerd.shim.reaper import Exit, Reaper
from pycontainerd.shim.runc import Runc
from pycontainerd.shim.server import Server
from pycontainerd.shim.service import Service
from pycontainerd.shim.world import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pycontainerd.lib.log import Logger
    from pycontainerd.shim.attendant import Attendant, Pack
    from pycontainerd.shim.flags import Flags
    from pycontainerd.shim.loop import Timer
    from pycontainerd.shim.options import Options
    from pycontainerd.shim.process.init import Runtime

_EVENTS_TIMEOUT_S: Final = 5


def serve(
    program: str, flags: Flags, *, idle_timeout_s: float = 0, attendant: Attendant | None = None
) -> int:
    """Serves the listener that is fd 3, or the socket of -socket; gives the exit code.

    With `idle_timeout_s` it leaves when nobody has given it a container by then. An `attendant` is this process's own
    link to the keeper whose shim this is; it may have been left a shim by the one before.
    """
    argv = bootstrap.serving_argv(program, flags)
    if attendant is None:
        prctl.set_child_subreaper(True)
    else:
        if attendant.left is None:
            attendant.become(argv)
        argv = [f"{program}: attends to {attendant.shim_pid}"]
    title.set_name(os.path.basename(program))
    try:
        title.set_command_line(argv)
    except OSError:
        pass  # a kernel without CONFIG_CHECKPOINT_RESTORE shows the interpreter in front; nothing else is lost
    if attendant is not None and attendant.left is not None:
        shim = _Shim.unpack(program, flags, attendant, attendant.left)
    else:
        log = FifoLog(open_log(), _level(flags))
        shim = _Shim(program, flags, log, _listener(flags), attendant)
        shim.announce()
    shim.run(idle_timeout_s)
    return 0


def _level(flags: Flags) -> str:
    return "debug" if flags.debug else "info"


def open_log() -> int:
    """The bundle's log FIFO; both ends, so that neither opening nor writing ever waits for the daemon."""
    try:
        return os.open("log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # run by hand, without a daemon's bundle


def _listener(flags: Flags) -> _socket.socket:
    if flags.socket:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        sock.bind(flags.socket)
        os.chmod(flags.socket, 0o600)
        sock.listen(128)
        return sock
    os.set_inheritable(bootstrap.LISTENER_FD, False)
    return _socket.socket(fileno=bootstrap.LISTENER_FD)


class _Shim:
    def __init__(
        self, program: str, flags: Flags, log: Logger, listener: _socket.socket, attendant: Attendant | None
    ) -> None:
        self._program = program
        self._flags = flags
        self._log = log
        self.loop = Loop()
        self._reaper = Reaper(self._on_exit)
        shim_pid = attendant.shim_pid if attendant is not None else os.getpid()
        self._world = World(self.loop, self._reaper, log, flags.namespace, flags.address, shim_pid)
        self._publisher = Publisher(self._world, os.environ.get("TTRPC_ADDRESS", ""), flags.publish_binary)
        oom = OomWatcher(self._world)
        self._service = Service(self._world, self._publisher, make_runtime, oom, self._shut_down)
        oom.on_oom = self._service.on_oom
        self._path = listener.getsockname()
        self._server = Server(self.loop, log, listener, self._service)
        self._attendant = attendant
        self._unused: Timer | None = None

    def announce(self) -> None:
        """What the stock shim says while it starts."""
        log = self._log
        log.debug("setupDumpStacks")
        log.debug("newServer")
        log.debug("registering ttrpc server")
        log.debug("serve")
        log.debug("serving api on socket", socket=self._flags.socket or "[inherited from parent]")
        log.debug("handleSignals")
        log.info(
            "starting signal loop",
            namespace=self._flags.namespace,
            path=os.getcwd(),
            pid=self._world.shim_pid,
            runtime=runtime_name(self._program),
        )

    @classmethod
    def unpack(cls, program: str, flags: Flags, attendant: Attendant, state: dict[str, Any]) -> _Shim:
        """The shim that another attendant has packed."""
        found = attendant.found
        log = FifoLog(found.take(state["log"]), _level(flags))
        listener = _socket.socket(fileno=found.take(state["server"]["listener"]))
        made = cls(program, flags, log, listener, attendant)
        made._service.unpack(state["service"], found)
        made._server.unpack(state["server"]["connections"], found)
        return made

    def _pack(self, pack: Pack) -> dict[str, Any]:
        return {
            "log": pack.add(self._log.fd),
            "server": self._server.pack(pack),
            "service": self._service.pack(pack),
        }

    def _is_quiet(self) -> bool:
        return (
            self._service.was_used
            and self._service.is_quiet()
            and self._server.is_quiet()
            and self._publisher.is_idle
            and not self.loop.has_timers(but=self._unused)
            and self._reaper.waits_for() <= self._service.logger_pids()
        )

    def run(self, idle_timeout_s: float) -> None:
        """Returns when the shim has been shut down."""
        if idle_timeout_s:
            self._unused = self.loop.later(idle_timeout_s, self._leave_if_unused)
        self.loop.on_signal(_signal.SIGCHLD, self._reaper.reap)
        self.loop.on_signal(_signal.SIGUSR1, self._dump_stack)
        for number in (_signal.SIGTERM, _signal.SIGINT):
            self.loop.on_signal(number, self._on_exit_signal)
        self._reaper.reap()  # a SIGCHLD from before the handler was there
        if self._attendant is not None:
            self._attendant.attach(self.loop, self._reaper, self._is_quiet, self._pack)
        self.loop.run()
        self._server.close()

    def _on_exit(self, exited: Exit) -> None:
        self._service.on_exit(exited)

    def _on_exit_signal(self) -> None:
        self._log.debug("Caught exit signal")
        self._shut_down()

    def _leave_if_unused(self) -> None:
        if not self._service.was_used:
            self._log.warning("no container was created, leaving")
            self._shut_down()

    def _shut_down(self) -> None:
        spawn(self._leave())

    async def _leave(self) -> None:
        # The name goes first: a shim started for the same id while events still wait must not find this one.
        _unlink(self._path)
        # After the answer to Shutdown has been written and the last events have been sent.
        await self.loop.sleep(0)
        await self._publisher.drained(_EVENTS_TIMEOUT_S)
        self._publisher.close()
        self.loop.stop()

    def _dump_stack(self) -> None:
        lines: list[str] = []
        frame = sys._getframe()  # noqa: SLF001 - the traceback module costs what the whole shim may cost
        while frame is not None:
            code = frame.f_code
            lines.append(f"{code.co_filename}:{frame.f_lineno} {code.co_name}")
            frame = frame.f_back  # type: ignore[assignment]  # ends with None
        self._log.info("=== BEGIN stack dump ===\n" + "\n".join(lines) + "\n=== END stack dump ===")


def make_runtime(world: World, bundle: str, options: Options, *, is_first: bool = False) -> Runtime:
    """libcontainer for the standard runtime, a program for any other. `is_first`: the shim has no other container."""
    root = options.runtime_root(world.address, world.namespace)
    if options.is_in_process:
        is_alone = is_first and world.shim_pid != os.getpid()
        return libcontainer.Libcontainer(world, bundle, root, options, is_alone=is_alone)
    return Runc(world.loop, world.reaper, bundle, root, options)


def runtime_name(program: str) -> str:
    """io.containerd.pyrunc.v2 for a file named containerd-shim-pyrunc-v2."""
    words = os.path.basename(program).removeprefix("containerd-shim-").split("-")
    return "io.containerd." + ".".join(words)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # the daemon was faster
