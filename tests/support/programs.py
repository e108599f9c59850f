"""Where the programs are: ours in bin/, the real ones in .peers or on the system."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BIN = TOP / "bin"
PEERS = TOP / ".peers/root"
_PEER_DIRS = [PEERS / d for d in ("usr/bin", "usr/sbin", "bin", "sbin", "usr/lib/cni")]


def ours(program: str) -> str:
    """The launcher of one of our programs."""
    return str(BIN / program)


def _find(program: str) -> str | None:
    for directory in _PEER_DIRS:
        if (directory / program).exists():
            return str(directory / program)
    return shutil.which(program)


def has_peer(program: str) -> bool:
    """Whether a real program is here."""
    return _find(program) is not None


def peer(program: str) -> str:
    """A real program; skips the test, saying so, where it isn't unpacked."""
    found = _find(program)
    if found is None:
        pytest.skip(f"{program} is not here: run scripts/peers")
    return found


@functools.cache
def containerd_since_1_7() -> bool:
    """Whether the real containerd is Debian 13's generation, not Debian 12's."""
    done = subprocess.run([peer("containerd"), "--version"], capture_output=True, text=True, check=True)
    return [int(part) for part in done.stdout.split()[2].lstrip("v").split(".")[:2]] >= [1, 7]


def peer_environment(**more: str) -> dict[str, str]:
    """An environment in which the real programs find each other and their libraries."""
    machine = f"{os.uname().machine}-linux-gnu"
    return {
        "PATH": ":".join(
            [*map(str, _PEER_DIRS), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        ),
        "LD_LIBRARY_PATH": f"{PEERS}/usr/lib/{machine}:{PEERS}/lib/{machine}",
        "HOME": "/root",
        **more,
    }


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
