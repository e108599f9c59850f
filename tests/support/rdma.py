"""A made-up RDMA device (rxe, on a dummy network interface), for limits that are set by a device's name."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from support.programs import peer, peer_environment

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def device() -> Iterator[str]:
    """The device's name, while it is there."""
    link, name = f"rx{os.getpid()}", f"rxe{os.getpid()}"
    _run("ip", "link", "add", link, "type", "dummy")
    try:
        _run("ip", "link", "set", link, "up")
        _run("rdma", "link", "add", name, "type", "rxe", "netdev", link)
        yield name
    finally:
        _run("ip", "link", "delete", link)  # and with it what stands on it


def _run(program: str, *words: str) -> None:
    subprocess.run([peer(program), *words], env=peer_environment(), check=True)
