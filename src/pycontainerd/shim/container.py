"""A container of this shim: its bundle, its init, its execs.

Spec: containerd docs/runtime-v2.md
"""

from __future__ import annotations

import os

from pycontainerd.lib import errdefs
from pycontainerd.lib.oci import document
from pycontainerd.shim.io import Stdio
from pycontainerd.shim.io_open import Owner
from pycontainerd.shim.options import Options
from pycontainerd.shim.process.exec import Exec
from pycontainerd.shim.process.init import Init
from pycontainerd.shim.reaper import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainerd.lib.api.light import task_v2
    from pycontainerd.shim.attendant import Pack, Unpack
    from pycontainerd.shim.process.base import Process
    from pycontainerd.shim.process.init import Runtime
    from pycontainerd.shim.world import World


class Container:
    """What the service looks up by id."""

    def __init__(self, world: World, id: str, bundle: str, options: Options, init: Init, rootfs: str) -> None:
        self.world = world
        self.id = id
        self.bundle = bundle
        self.options = options
        self.init = init
        self.rootfs = rootfs  # empty when the daemon asked for no mounts
        self.cgroups: dict[str, str] = {}  # controller -> folder, from when init was made
        self.execs: dict[str, Exec] = {}
        self.running_execs = 0
        self.init_exit: Exit | None = None  # reaped, but published only after the last exec's exit

    def is_quiet(self) -> bool:
        """Whether nothing is being done with any of its processes."""
        return self.init.is_quiet() and all(each.is_quiet() for each in self.execs.values())

    def logger_pids(self) -> set[int]:
        """Of the logger programs of its processes; 0 may be among them."""
        return {each.io.logger_pid() for each in (self.init, *self.execs.values()) if each.io is not None}

    def pack(self, pack: Pack) -> dict[str, Any]:
        """What `unpack` makes the same container from."""
        ended = self.init_exit
        return {
            "id": self.id,
            "bundle": self.bundle,
            "options": self.options.values(),
            "rootfs": self.rootfs,
            "cgroups": self.cgroups,
            "init": self.init.pack(pack),
            "execs": [each.pack(pack) for each in self.execs.values()],
            "running_execs": self.running_execs,
            "init_exit": [ended.pid, ended.status, ended.at_nanos] if ended is not None else None,
        }

    @classmethod
    def unpack(
        cls,
        world: World,
        packed: dict[str, Any],
        found: Unpack,
        make_runtime: Callable[[World, str, Options], Runtime],
    ) -> Container:
        """With its processes' streams being copied again."""
        options = Options(packed["options"])
        bundle = packed["bundle"]
        state = packed["init"]
        owner = Owner(packed["id"], world.namespace, options)
        init = Init(world, packed["id"], Stdio(*state["stdio"]), owner, make_runtime(world, bundle, options))
        init.unpack(state, found)
        made = cls(world, packed["id"], bundle, options, init, packed["rootfs"])
        made.cgroups = packed["cgroups"]
        for state in packed["execs"]:
            process = state["process"].encode("utf-8", "surrogateescape")
            each = made.new_exec(state["id"], Stdio(*state["stdio"]), process)
            each.unpack(state, found)
        made.running_execs = packed["running_execs"]
        if packed["init_exit"] is not None:
            made.init_exit = Exit(*packed["init_exit"])
        return made

    def process(self, exec_id: str) -> Init | Exec:
        """Init, or an exec. Raises NotFound."""
        if not exec_id:
            return self.init
        found = self.execs.get(exec_id)
        if found is None:
            raise errdefs.NotFound(f"process does not exist {exec_id}: not found")
        return found

    def add_exec(self, request: task_v2.ExecProcessRequest) -> None:
        """Takes an exec in; it runs when it is started. Raises AlreadyExists."""
        if request.exec_id in self.execs:
            raise errdefs.AlreadyExists(f"id {request.exec_id}: already exists")
        self.init.require("exec")
        stdio = Stdio(request.stdin, request.stdout, request.stderr, request.terminal)
        # The stock shim puts the terminal the client wants into the description it was given.
        process = document.loads(request.spec.value)
        if not isinstance(process, dict):
            raise errdefs.InvalidArgument("process description is no JSON object")
        process["terminal"] = request.terminal
        if not request.terminal:
            del process["terminal"]
        self.new_exec(request.exec_id, stdio, document.dumps(process).encode())

    def new_exec(self, exec_id: str, stdio: Stdio, process: bytes) -> Exec:
        """A process in `execs` that is yet to be started, from its JSON description."""
        owner = Owner(exec_id, self.world.namespace, self.options)
        made = Exec(self.world, exec_id, stdio, owner, self.init, process, self.bundle)
        self.execs[exec_id] = made
        return made

    def find(self, pid: int) -> Process | None:
        """Whose pid it is."""
        if self.init.pid == pid:
            return self.init
        return next((each for each in self.execs.values() if each.pid == pid), None)

    def shares_pid_namespace(self) -> bool:
        """Whether the kernel leaves the container's other processes alive when init exits.

        It is so unless config.json asks for a new pid namespace; unreadable counts as a new one.
        """
        try:
            with open(os.path.join(self.bundle, "config.json"), "rb") as file:
                spec = document.loads(file.read(document.MAX_BYTES))
            namespaces = (spec.get("linux") or {}).get("namespaces") or []
        except (OSError, ValueError, AttributeError) as e:
            self.world.log.warning("could not read the container's namespaces", error=e, id=self.id)
            return False
        return not any(each.get("type") == "pid" and not each.get("path") for each in namespaces)
