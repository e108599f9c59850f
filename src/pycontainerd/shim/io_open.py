"""Opens the streams of a process that has no terminal: FIFOs, files, or a logger program.

Spec: containerd docs/runtime-v2.md#io
"""

from __future__ import annotations

import os

from pycontainerd.lib import errdefs
from pycontainerd.lib.linux import posix_spawn
from pycontainerd.shim.io import ProcessIO, Stdio, open_fifo_writer, split_uri

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.shim.loop import Loop
    from pycontainerd.shim.options import Options
    from pycontainerd.shim.reaper import Reaper

_CLOEXEC: Final = os.O_CLOEXEC
_LOGGER_READY_TIMEOUT_S: Final = 30


class Owner:
    """Whose streams they are: what a logger program is told, and who may use the pipes."""

    __slots__ = ("gid", "id", "namespace", "uid")

    def __init__(self, id: str, namespace: str, options: Options) -> None:
        self.id = id
        self.namespace = namespace
        self.uid = options.io_uid
        self.gid = options.io_gid


async def open_process_io(loop: Loop, reaper: Reaper, stdio: Stdio, owner: Owner) -> ProcessIO:
    """The streams of one process; its three `child_fds` are ready for the runtime. Nothing stays open on an error."""
    io = ProcessIO(loop, reaper)
    try:
        await _open(io, stdio, owner)
    except OSError as e:
        io.close()
        raise errdefs.Unknown(f"failed to create init process I/O: {_go_error(e)}", errno=e.errno or 0) from e
    except BaseException:
        io.close()
        raise
    return io


async def _open(io: ProcessIO, stdio: Stdio, owner: Owner) -> None:
    if stdio.is_null:
        null_fd = os.open(os.devnull, os.O_RDWR | _CLOEXEC)
        io.child_fds = [null_fd, null_fd, null_fd]
        return
    scheme, path, query = split_uri(stdio.stdout)
    if scheme == "fifo":
        _open_fifos(io, Stdio(stdio.stdin, path, split_uri(stdio.stderr)[1], False), owner)
    elif scheme == "file":
        _open_file(io, stdio, path, owner)
    elif scheme in ("binary", "binary-v2"):
        await _open_logger(io, scheme, path, query, owner)
    else:
        raise errdefs.Unknown(f"failed to create init process I/O: unknown STDIO scheme {scheme}")


def _open_fifos(io: ProcessIO, stdio: Stdio, owner: Owner) -> None:
    _add_stdin(io, stdio.stdin, owner)
    if stdio.stdout and stdio.stdout == stdio.stderr:
        # One writer for both, so that lines of the two keep the order in which they were written.
        out_fd = _add_output(io, _open_writer(stdio.stdout), owner)
        io.child_fds.append(out_fd)
        return
    for path in (stdio.stdout, stdio.stderr):
        if path:
            _add_output(io, _open_writer(path), owner)
        else:
            io.child_fds.append(os.open(os.devnull, os.O_WRONLY | _CLOEXEC))


def _open_file(io: ProcessIO, stdio: Stdio, path: str, owner: Owner) -> None:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    _add_stdin(io, stdio.stdin, owner)
    file_fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _CLOEXEC, 0o644)
    # The container gets the pipe, not the file: it could truncate or seek in a log it shares with others.
    out_fd = _add_output(io, file_fd, owner)
    io.child_fds.append(out_fd)


def _open_writer(path: str) -> int:
    if _is_fifo(path):
        return open_fifo_writer(path)
    return os.open(path, os.O_WRONLY | os.O_APPEND | _CLOEXEC)


def _is_fifo(path: str) -> bool:
    return (os.stat(path).st_mode & 0o170000) == 0o010000


def _add_stdin(io: ProcessIO, path: str, owner: Owner) -> None:
    if not path:
        io.child_fds.append(os.open(os.devnull, os.O_RDONLY | _CLOEXEC))
        return
    # The reader first: a writer of a FIFO nobody reads can't be opened without waiting.
    source_fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _CLOEXEC)
    io.own(source_fd)
    io.keep_stdin_open(path)
    read_fd, write_fd = os.pipe2(_CLOEXEC)
    io.child_fds.append(read_fd)
    io.own(write_fd)
    _give(read_fd, owner)
    os.set_blocking(write_fd, False)
    io.set_stdin(source_fd, write_fd)


def _add_output(io: ProcessIO, target_fd: int, owner: Owner) -> int:
    """Owns `target_fd`; gives the container's end of the new pipe, which is in `child_fds` already."""
    io.own(target_fd)
    read_fd, write_fd = os.pipe2(_CLOEXEC)
    io.child_fds.append(write_fd)
    io.own(read_fd)
    _give(write_fd, owner)
    os.set_blocking(read_fd, False)
    io.add_output(read_fd, target_fd, close=(read_fd, target_fd))
    return write_fd


def _give(fd: int, owner: Owner) -> None:
    """IoUid and IoGid own the pipes, so that a user in the container may reopen /dev/stdout."""
    if owner.uid or owner.gid:
        os.fchown(fd, owner.uid, owner.gid)


async def _open_logger(
    io: ProcessIO, scheme: str, path: str, query: list[tuple[str, str]], owner: Owner
) -> None:
    """Starts the logger: fd 3 is stdout, 4 stderr, 5 says that it is ready."""
    io.child_fds.append(os.open(os.devnull, os.O_RDONLY | _CLOEXEC))
    out_read_fd, out_write_fd = os.pipe2(_CLOEXEC)
    io.own(out_read_fd)
    io.child_fds.append(out_write_fd)
    err_read_fd, err_write_fd = os.pipe2(_CLOEXEC)
    io.own(err_read_fd)
    io.child_fds.append(err_write_fd)
    await start_logger(io, scheme, path, query, owner, (out_read_fd, err_read_fd))
    for fd in (out_read_fd, err_read_fd):
        os.close(fd)
    io.disown(out_read_fd, err_read_fd)


async def start_logger(
    io: ProcessIO,
    scheme: str,
    path: str,
    query: list[tuple[str, str]],
    owner: Owner,
    read_fds: tuple[int, int],
) -> None:
    """Runs the program and waits until it says that it is ready; `read_fds` stay the caller's."""
    ready_read_fd, ready_write_fd = os.pipe2(_CLOEXEC)
    io.own(ready_read_fd)
    environment = {"CONTAINER_ID": owner.id, "CONTAINER_NAMESPACE": owner.namespace}
    arguments = [word for pair in query for word in pair]
    try:
        pid = posix_spawn.start(
            [path, *arguments], environment, {3: read_fds[0], 4: read_fds[1], 5: ready_write_fd}
        )
    except OSError as e:
        raise errdefs.Unknown(
            f"failed to create init process I/O: failed to start binary process: {_go_error(e)}"
        ) from e
    finally:
        os.close(ready_write_fd)
    io.set_logger(pid)
    is_ready = await io.loop.readable(ready_read_fd, _LOGGER_READY_TIMEOUT_S)
    said = os.read(ready_read_fd, 1) if is_ready else b""
    if not is_ready or (scheme == "binary-v2" and not said):
        raise errdefs.Unknown(
            "failed to create init process I/O: logging binary did not call ready "
            "(it may have crashed or exited prematurely)"
        )
    os.close(ready_read_fd)
    io.disown(ready_read_fd)


def _go_error(error: OSError) -> str:
    """As Go prints a path error: `open /x: no such file or directory`."""
    text = (error.strerror or str(error)).lower()
    return f"open {error.filename}: {text}" if error.filename else text
