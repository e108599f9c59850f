"""Hooks: programs of the host (or of the container) that run at fixed points of a container's life.

Spec:    runtime-spec config.md#posix-platform-hooks
Runs in: parent (prestart, createRuntime, poststart, poststop), init (createContainer, startContainer)
"""

from __future__ import annotations

import os
import select
import time

from pycontainerd.lib import trace
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.lib.oci.document import dumps
from pycontainerd.runtime.libcontainer.init.program import InitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal as signal  # the signal module costs 3 ms: it makes enums

MAX_OUTPUT = 64 << 10
_DEFAULTED = (13, 25)  # SIGPIPE, SIGXFSZ: Python ignores them, and what it ignores a program inherits


def run_all(hooks: list[dict[str, Any]], state_json: bytes) -> None:
    """Runs hooks in their order; InitError for the first that fails."""
    for at, hook in enumerate(hooks):
        with trace.span("hook", path=hook["path"]):
            prepare(at, hook, state_json)()


def prepare(at: int, hook: dict[str, Any], state_json: bytes, *, close_from: int = -1) -> Callable[[], None]:
    """A function that runs one hook with everything computed: it opens and imports nothing.

    close_from >= 0 keeps descriptors from there on out of the hook.
    """
    path = os.fsencode(hook["path"])
    argv = [os.fsencode(item) for item in hook.get("args", [])] or [path]
    env = {}
    for item in hook.get("env", []):
        key, _, value = item.partition("=")
        env[os.fsencode(key)] = os.fsencode(value)
    timeout_s = float(hook.get("timeout", 0))
    prefix = f"error running hook #{at}: "
    shown = hook["path"]

    def run() -> None:
        try:
            pid, out_fd, err_fd = _spawn(path, argv, env, state_json, close_from)
        except OSError as error:
            raise InitError(f"{prefix}fork/exec {shown}: {go_error(error.errno or 0)}") from None
        status, output, errors = _wait(pid, out_fd, err_fd, timeout_s)
        if status is None:
            raise InitError(f"{prefix}hook ran past specified timeout of {timeout_s:.1f}s")
        if status != 0:
            reason = (
                f"exit status {os.WEXITSTATUS(status)}"
                if os.WIFEXITED(status)
                else f"signal: {_signal_text(os.WTERMSIG(status))}"
            )
            raise InitError(f"{prefix}error running hook: {reason}, stdout: {output}, stderr: {errors}")

    return run


def _signal_text(number: int) -> str:
    return (signal.strsignal(number) or f"signal {number}").lower()


def _spawn(
    path: bytes, argv: list[bytes], env: dict[bytes, bytes], state_json: bytes, close_from: int
) -> tuple[int, int, int]:
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        actions: list[Any] = [
            (os.POSIX_SPAWN_DUP2, in_read, 0),
            (os.POSIX_SPAWN_DUP2, out_write, 1),
            (os.POSIX_SPAWN_DUP2, err_write, 2),
        ]
        if close_from >= 0:
            mine = (in_read, in_write, out_read, out_write, err_read, err_write)
            actions += [
                (os.POSIX_SPAWN_CLOSE, fd) for fd in range(close_from, min(mine)) if _is_inheritable(fd)
            ]
        pid = os.posix_spawn(path, argv, env, file_actions=actions, setsigdef=_DEFAULTED, setsigmask=())
        # A state larger than the pipe is written while the hook reads; one that never reads is its own affair.
        _feed(in_write, state_json)
    except BaseException:
        for fd in (out_read, err_read):
            os.close(fd)
        raise
    finally:
        for fd in (in_read, in_write, out_write, err_write):
            os.close(fd)
    return pid, out_read, err_read


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # not open


def _feed(fd: int, data: bytes) -> None:
    try:
        os.write(fd, data)
    except BrokenPipeError:
        return  # the hook doesn't care


def _wait(pid: int, out_fd: int, err_fd: int, timeout_s: float) -> tuple[int | None, str, str]:
    """(wait status or None after a timeout, stdout, stderr); reads both until the hook ends."""
    collected = {out_fd: b"", err_fd: b""}
    deadline = time.monotonic() + timeout_s if timeout_s else None
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    for fd in (out_fd, err_fd, pidfd):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            left_ms = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000))
            events = poll.poll(left_ms)
            if not events:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                return None, "", ""
            for fd, _mask in events:
                if fd != pidfd and not _read_into(collected, fd):
                    poll.unregister(fd)
            if any(fd == pidfd for fd, _mask in events):
                _pid, status = os.waitpid(pid, 0)
                for fd in (out_fd, err_fd):
                    os.set_blocking(fd, False)
                    _read_into(collected, fd)
                return status, _text(collected[out_fd]), _text(collected[err_fd])
    finally:
        for fd in (out_fd, err_fd, pidfd):
            os.close(fd)


def _read_into(collected: dict[int, bytes], fd: int) -> bool:
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return True
    collected[fd] = (collected[fd] + data)[:MAX_OUTPUT]
    return bool(data)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def state_json(
    *, id: str, status: str, pid: int, bundle: str, annotations: dict[str, str], oci_version: str
) -> bytes:
    """The container state that hooks read on their stdin."""
    document: dict[str, Any] = {"ociVersion": oci_version, "id": id, "status": status}
    if pid:
        document["pid"] = pid
    document["bundle"] = bundle
    if annotations:
        document["annotations"] = annotations
    return dumps(document).encode("utf-8", "surrogateescape")
