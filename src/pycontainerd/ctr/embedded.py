"""The daemon nobody had to start: made on first use, gone by itself when idle.

    lock DIR/start.lock -> still nobody answers? -> launch in the background -> wait for the socket -> unlock

Two commands at once meet at the lock; the second finds the first one's daemon.
"""

from __future__ import annotations

import os
import sys
import time

from pycontainerd.client import transport
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import PermissionDenied, Unavailable

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

IDLE_EXIT_S: Final = 300
_START_TIMEOUT_S: Final = 30
_PATIENCE_S: Final = 1.0


def ensure_running(address: str) -> None:
    """Returns once a daemon answers on the default address.

    PermissionDenied when it would have to be started without root's rights; Unavailable, with the end of its log, when
    it doesn't come up.
    """
    if transport.is_answering(address):
        return
    if os.geteuid() != 0:
        raise PermissionDenied(
            f"no daemon answers on {address}, and starting one needs root",
            hint="run it as root, or name a running daemon with --address",
        )
    folder = os.path.dirname(address)
    os.makedirs(folder, mode=0o711, exist_ok=True)
    with trace.span("start daemon", address=address):
        lock_fd = os.open(f"{folder}/start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            import fcntl

            fcntl.flock(lock_fd, fcntl.LOCK_EX)
            if not transport.is_answering(address):
                _launch(address, f"{folder}/pycontainerd.log")
        finally:
            os.close(lock_fd)


def _launch(address: str, log_path: str) -> None:
    from pycontainerd.lib import launcher

    program = launcher.path("pycontainerd")
    null_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        pid = os.posix_spawn(
            program,
            [program, "--idle-exit", str(IDLE_EXIT_S)],
            _environment(),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null_fd, 0),
                (os.POSIX_SPAWN_DUP2, log_fd, 1),
                (os.POSIX_SPAWN_DUP2, log_fd, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(null_fd)
        os.close(log_fd)
    told = False
    for waited_s in _ticks(_START_TIMEOUT_S):
        if transport.is_answering(address):
            return
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise Unavailable(
                f"the daemon ended while starting: {_last_line(log_path)}", hint=f"see {log_path}"
            )
        if waited_s > _PATIENCE_S and not told:
            sys.stderr.write(f"starting a daemon on {address} ...\n")
            told = True
    raise Unavailable(f"the daemon didn't answer within {_START_TIMEOUT_S} s", hint=f"see {log_path}")


def _ticks(limit_s: float) -> Iterator[float]:
    start = time.monotonic()
    while (waited_s := time.monotonic() - start) < limit_s:
        yield waited_s
        time.sleep(0.01)


def _environment() -> dict[str, str]:
    """The caller's, without what belongs to this command only."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("CONTAINERD_", "TRACEPARENT"))
    }


def _last_line(path: str) -> str:
    with open(path, "rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - 4096))
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
