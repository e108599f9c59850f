"""Many at once: 50 and 200 starts together."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from bench.world import Samples, World, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable


class Together:
    """`count` times `run -d`, all started at once: wall until the last has returned."""

    def __init__(self, count: int, rounds: int) -> None:
        self._count = count
        self._rounds = rounds

    def wall(self, world: World, rounds: int) -> Samples:
        """Milliseconds."""

        def run(who: str) -> Callable[[int], float]:
            daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"

            def once(_: int) -> float:
                names = [f"t{number}" for number in range(self._count)]
                begun = time.perf_counter()
                started = [
                    subprocess.Popen(
                        daemon.command(program, "run", "-d", world.image, name, "sleep", "1000"),
                        env=daemon.environment,
                        stdin=subprocess.DEVNULL,
                    )
                    for name in names
                ]
                failed = [process.args for process in started if process.wait() != 0]
                took = (time.perf_counter() - begun) * 1000
                if failed:
                    raise RuntimeError(f"failed: {failed}")
                daemon.ctr("tasks", "rm", "-f", *names, check=False, timeout=300)
                daemon.ctr("containers", "rm", *names, timeout=300)
                return took

            return once

        return in_turn(min(rounds, self._rounds), {who: run(who) for who in world.daemons})
