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
from pycontainerd.shim.server import Server, listen, table
from pycontainerd.shim.service import Service
from pycontainerd.shim.world import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pycontainerd.lib.log import Logger
    from pycontainerd.shim.attendant import Attendant, Pack
    from pycontainerd.shim.debug import DebugServer
    from pycontainerd.shim.flags import Flags
    from pycontainerd.shim.loop import Timer
    from pycontainerd.shim.options import Options
    from pycontainerd.shim.process.init import Runtime
    from pycontainerd.shim.sandbox_service import SandboxService

SANDBOX_SERVICE: Final = "containerd.runtime.sandbox.v1.Sandbox"
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
        title.show_as(os.path.basename(program), argv)
    elif attendant.left is None:
        attendant.become(argv)
    if attendant is not None and attendant.left is not None:
        shim = Shim.unpack(program, flags, attendant, attendant.left)
    else:
        log = FifoLog(open_log("log"), log_level(flags))
        shim = Shim(program, flags, log, listener_of(flags), attendant)
        shim.announce()
    try:
        shim.run(idle_timeout_s)
    finally:
        shim.loop.close()
        os.close(shim.log.fd)
    return 0


def log_level(flags: Flags) -> str:
    """What is worth a line."""
    return "debug" if flags.debug else "info"


def open_log(path: str) -> int:
    """The log FIFO; both ends, so that neither opening nor writing ever waits for the daemon."""
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # run by hand, without a daemon's bundle


def listener_of(flags: Flags) -> _socket.socket:
    """The socket of -socket, or the inherited one."""
    if flags.socket:
        return listen(flags.socket)
    os.set_inheritable(bootstrap.LISTENER_FD, False)
    return _socket.socket(fileno=bootstrap.LISTENER_FD)


class Shim:
    """All parts of a serving shim of the task API; what a shim of another API has of its own, it overrides."""

    serving = "serving api on socket"

    def __init__(
        self,
        program: str,
        flags: Flags,
        log: Logger,
        listener: _socket.socket,
        attendant: Attendant | None = None,
    ) -> None:
        self.flags = flags
        self.log = log
        self.loop = Loop()
        self._reaper = Reaper(self._on_exit)
        shim_pid = attendant.shim_pid if attendant is not None else os.getpid()
        self.world = World(self.loop, self._reaper, log, flags.namespace, flags.address, shim_pid)
        self._sandbox: SandboxService | None = None
        self._publisher = self.make_publisher()
        self._oom = OomWatcher(self.world)
        self._service = Service(
            self.world, self._publisher, self.make_runtime, self._oom, self._shut_down_with_task
        )
        self._oom.on_oom = self._service.on_oom
        self._path = listener.getsockname()
        self._server = self.make_server(listener, self._service)
        self._program = program
        self._attendant = attendant
        self._debug: DebugServer | None = None
        self._unused: Timer | None = None

    def announce(self) -> None:
        """What the stock shim says while it starts."""
        log = self.log
        log.debug("setupDumpStacks")
        log.debug("newServer")
        log.debug("registering ttrpc server")
        log.debug("serve")
        log.debug(self.serving, socket=self.flags.socket or "[inherited from parent]")
        log.debug("handleSignals")
        log.info(
            "starting signal loop",
            namespace=self.flags.namespace,
            path=os.getcwd(),
            pid=self.world.shim_pid,
            runtime=self.runtime_name(self._program),
        )

    @classmethod
    def unpack(cls, program: str, flags: Flags, attendant: Attendant, state: dict[str, Any]) -> Shim:
        """The shim that another attendant has packed."""
        found = attendant.found
        log = FifoLog(found.take(state["log"]), log_level(flags))
        listener = _socket.socket(fileno=found.take(state["server"]["listener"]))
        made = cls(program, flags, log, listener, attendant)
        made._service.unpack(state["service"], found)
        if state["sandbox"] is not None:
            made._sandbox_service().unpack(state["sandbox"])
        if state["debug"] >= 0:
            made._debug = made._debug_server(_socket.socket(fileno=found.take(state["debug"])))
        made._server.unpack(state["server"]["connections"], found)  # whose calls may wait for any of these
        return made

    def _pack(self, pack: Pack) -> dict[str, Any]:
        return {
            "log": pack.add(self.log.fd),
            "server": self._server.pack(pack),
            "service": self._service.pack(pack),
            "sandbox": None if self._sandbox is None else self._sandbox.pack(),
            "debug": -1 if self._debug is None else self._debug.pack(pack),
        }

    def _is_quiet(self) -> bool:
        return (
            self._is_used()
            and self._service.is_quiet()
            and self._server.is_quiet()
            and self._publisher.is_idle
            and not self.loop.has_timers(but=self._unused)
            and self._reaper.waits_for() <= self._service.logger_pids()
            and (self._debug is None or self._debug.is_quiet())
        )

    def _is_used(self) -> bool:
        """Whether somebody has given it something to keep."""
        return self._service.was_used or (self._sandbox is not None and self._sandbox.is_there)

    def make_publisher(self) -> Publisher:
        """Where events go."""
        return Publisher(self.world, os.environ.get("TTRPC_ADDRESS", ""), self.flags.publish_binary)

    def make_server(self, listener: _socket.socket, tasks: Service) -> Server:
        """Which methods are answered."""
        return Server(self.loop, self.log, listener, tasks, more=self._more_services)

    def _more_services(self, name: str) -> tuple[object, dict[str, Any]] | None:
        """The sandbox service, which most shims are never asked for."""
        if name != SANDBOX_SERVICE:
            return None
        from pycontainerd.lib.api.light import runtime_sandbox_v1

        return self._sandbox_service(), table(runtime_sandbox_v1.SANDBOX)[name]

    def _sandbox_service(self) -> SandboxService:
        from pycontainerd.shim.sandbox_service import SandboxService

        if self._sandbox is None:
            self._sandbox = SandboxService(self._service, self._shut_down, self.world.shim_pid)
        return self._sandbox

    def _shut_down_with_task(self) -> None:
        """The end of the last container ends the shim, unless that has a sandbox."""
        if self._sandbox is None or not self._sandbox.is_there:
            self._shut_down()

    def make_runtime(self, world: World, bundle: str, options: Options, *, is_first: bool = False) -> Runtime:
        """libcontainer for the standard runtime, a program for any other. `is_first`: there is no other container."""
        root = options.runtime_root(world.address, world.namespace)
        return choose_runtime(world, bundle, options, root, self._attendant, is_first=is_first)

    def runtime_name(self, program: str) -> str:
        """io.containerd.pyrunc.v2 for a file named containerd-shim-pyrunc-v2."""
        words = os.path.basename(program).removeprefix("containerd-shim-").split("-")
        return "io.containerd." + ".".join(words)

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
        if self.flags.debug_socket and self._debug is None:
            self._debug = self._debug_server(listen(self.flags.debug_socket))
        self.loop.run()
        if self._debug is not None:
            self._debug.close()
        self._server.close()

    def _debug_server(self, listener: _socket.socket) -> DebugServer:
        from pycontainerd.shim.debug import DebugServer

        argv = bootstrap.serving_argv(self._program, self.flags)
        return DebugServer(self.loop, self.log, listener, argv, self._look)

    def _look(self) -> list[str]:
        return ["thread of the loop:", *stack(), "", "containers:", *self._service.summary()]

    def _on_exit(self, exited: Exit) -> None:
        self._service.on_exit(exited)

    def _on_exit_signal(self) -> None:
        self.log.debug("Caught exit signal")
        self._shut_down()

    def _leave_if_unused(self) -> None:
        if not self._is_used():
            self.log.warning("no container was created, leaving")
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
        lines = ["=== BEGIN stack dump ===", *stack(), "=== END stack dump ==="]
        self.log.info("\n".join(lines))


def choose_runtime(
    world: World,
    bundle: str,
    options: Options,
    root: str,
    attendant: Attendant | None = None,
    *,
    is_first: bool = False,
) -> Runtime:
    """libcontainer for the standard runtime, a program for any other; `root` is where it keeps state."""
    if options.is_in_process:
        renewed = attendant if attendant is not None and attendant.is_renewed else None
        alone = attendant if is_first else None
        return libcontainer.Libcontainer(world, bundle, root, options, alone=alone, renewed=renewed)
    return Runc(world.loop, world.reaper, bundle, root, options)


def stack() -> list[str]:
    """The frames of this thread, the innermost first."""
    lines: list[str] = []
    frame = sys._getframe(1)  # noqa: SLF001 - the traceback module costs what the whole shim may cost
    while frame is not None:
        lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]  # ends with None
    return lines


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # the daemon was faster
