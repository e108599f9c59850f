"""What init and execs have in common: identity, exit, streams, and those who wait."""

from __future__ import annotations

from pycontainerd.lib import errdefs
from pycontainerd.shim import console, io_open
from pycontainerd.shim.future import Future, Lock
from pycontainerd.shim.io import ProcessIO
from pycontainerd.shim.process import state
from pycontainerd.shim.runc import RuntimeFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from pycontainerd.shim.attendant import Pack, Unpack
    from pycontainerd.shim.io import Stdio
    from pycontainerd.shim.io_open import Owner
    from pycontainerd.shim.reaper import Exit
    from pycontainerd.shim.world import World

DRAIN_TIMEOUT_S = 10


class Process:
    """One process of a container. Verbs that change it hold its lock; looking at it never waits."""

    forbids: dict[str, dict[str, str]]

    def __init__(self, world: World, id: str, stdio: Stdio, owner: Owner) -> None:
        self.world = world
        self.id = id
        self.stdio = stdio
        self.owner = owner
        self.pid = 0
        self.state = state.CREATED
        self.exit_status = 0
        self.exited_at_nanos = 0
        self.io: ProcessIO | None = None
        self._stdin_is_closed = False
        self.lock = Lock()
        self.waiters: list[Future[None]] = []

    def is_quiet(self) -> bool:
        """Whether nothing is being done with it. Who waits for its end doesn't count."""
        return not self.lock.is_held and (self.io is None or self.io.is_quiet())

    def pack(self, pack: Pack) -> dict[str, Any]:
        """What `unpack` brings another object of the same process up to."""
        return {
            "id": self.id,
            "stdio": [self.stdio.stdin, self.stdio.stdout, self.stdio.stderr, self.stdio.terminal],
            "pid": self.pid,
            "state": self.state,
            "exit_status": self.exit_status,
            "exited_at_nanos": self.exited_at_nanos,
            "stdin_is_closed": self._stdin_is_closed,
            "io": self.io.pack(pack) if self.io is not None else None,
        }

    def unpack(self, packed: dict[str, Any], found: Unpack) -> None:
        """Everything but what it was made with."""
        self.pid, self.state = packed["pid"], packed["state"]
        self.exit_status, self.exited_at_nanos = packed["exit_status"], packed["exited_at_nanos"]
        self._stdin_is_closed = packed["stdin_is_closed"]
        if packed["io"] is not None:
            self.io = ProcessIO.unpack(self.world.loop, self.world.reaper, packed["io"], found)

    def require(self, verb: str) -> None:
        """Raises when the state forbids it."""
        state.require(self.forbids, self.state, verb)

    def move(self, target: str) -> None:
        """Changes state. An exit that came while a verb was under way wins over what the verb was to reach."""
        if self.state in (state.STOPPED, state.DELETED) and target in (state.RUNNING, state.PAUSED):
            return
        self.state = state.transition(self.state, target)

    def set_exited(self, exited: Exit) -> None:
        """Records the exit and lets those who wait go on. Only the first counts."""
        if self.state in (state.STOPPED, state.DELETED):
            return
        self.state = state.STOPPED
        self.exit_status = exited.status
        self.exited_at_nanos = exited.at_nanos
        self.release_waiters()

    def release_waiters(self) -> None:
        """Wait calls answer now."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.set(None)

    async def wait(self) -> None:
        """Until it has exited, or has failed to start."""
        if self.state in (state.STOPPED, state.DELETED):
            return
        waiter: Future[None] = Future()
        self.waiters.append(waiter)
        await waiter

    def resize(self, width: int, height: int) -> None:
        """Sets the terminal's size."""
        self.require("resize")
        if self.io is not None:
            self.io.resize(width, height)

    def close_stdin(self) -> None:
        """CloseIO; one that comes before the streams are open counts as well."""
        self._stdin_is_closed = True
        if self.io is not None:
            self.io.close_stdin()

    async def run_with_streams(
        self, prefix: str, run: Callable[[Sequence[int], str], Awaitable[int]]
    ) -> None:
        """Opens the streams, lets the runtime make the process, then copies. `run(stdio, console_socket)` gives the pid.

        A failure leaves no stream open and says `<prefix>: <what the runtime said>`.
        """
        io = await self._open_streams()
        # From here on CloseIO finds them: the client writes, and may be done, while the runtime still works.
        self.io = io
        try:
            await self._run(io, run)
        except BaseException as e:
            self.io = None
            io.close()
            if isinstance(e, RuntimeFailed):
                raise e.in_words(prefix) from e
            raise
        io.start()
        if self._stdin_is_closed:
            io.close_stdin()

    async def _open_streams(self) -> ProcessIO:
        if self.stdio.terminal:
            return ProcessIO(self.world.loop, self.world.reaper)
        return await io_open.open_process_io(self.world.loop, self.world.reaper, self.stdio, self.owner)

    async def _run(self, io: ProcessIO, run: Callable[[Sequence[int], str], Awaitable[int]]) -> None:
        if not self.stdio.terminal:
            self.pid = await run(io.child_fds, "")
            io.close_child_fds()
            return
        socket = console.ConsoleSocket()
        try:
            # The runtime connects and sends before it exits, so its message waits here until it is received.
            self.pid = await run((), socket.path)
            master_fd = await socket.receive(self.world.loop)
            await console.attach(io, master_fd, self.stdio, self.owner)
        finally:
            socket.close()

    async def close_streams(self) -> None:
        """Waits for the output to be copied to its end, a while, and closes everything."""
        if self.io is None:
            return
        if not await self.io.drained(DRAIN_TIMEOUT_S):
            self.world.log.error(
                f"failed to drain process {self.id} io", error=errdefs.DeadlineExceeded.reason
            )
        self.io.close()
