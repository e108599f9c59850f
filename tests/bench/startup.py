"""The daemon's start: from its exec, on an empty root, until the version service answers on its socket."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from bench.api import Connection
from bench.world import Samples, World, in_turn, remove_folder
from support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_S = 0.001
_TIMEOUT_S = 60


def daemon(world: World, rounds: int) -> Samples:
    """Milliseconds; gRPC's own attempts are a second apart, so it connects when the socket takes connections."""

    def run(who: str) -> Callable[[int], float]:
        kind = "ours" if who == "ours" else "real"

        def once(index: int) -> float:
            made = Stack(world.root / f"start-{who}-{index + 1}", kind=kind, level="info")
            begun = time.perf_counter()
            made.launch()
            try:
                _wait_for_socket(made)
                with Connection(made.address) as connection:
                    connection.call("version", "Version")
                return (time.perf_counter() - begun) * 1000
            finally:
                made.stop()
                remove_folder(made.root)

        return once

    return in_turn(rounds, {who: run(who) for who in world.daemons})


def _wait_for_socket(made: Stack) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(made.address)
            except OSError:
                time.sleep(_POLL_S)
            else:
                return
    raise TimeoutError(f"nothing listens on {made.address}:\n{made.log.read_text()[-3000:]}")
