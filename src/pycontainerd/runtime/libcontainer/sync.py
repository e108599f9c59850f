"""The wire between the process that makes a container and the init it made.

One AF_UNIX SOCK_SEQPACKET pair; a message is one byte of kind and a payload.

    parent                               init
      |  clone3                            |
      |  id maps, limits                    |
      |                                    |   writes itself into the cgroups
      |------------- GO + its pid -------->|   enter namespaces, mount; where nothing has to be made for it
      |                                    |   first (InitPlan.starts_at_once) it does so without waiting
      |<------------ HOOKS ----------------|   mounts are made
      |  prestart, createRuntime hooks     |
      |------------- GO + its pid -------->|   createContainer hooks, pivot_root, identity, PATH search
      |<------------ READY + spans --------|   only the exec FIFO and execve are left
      |  state.json with the pid, pid file |
      |------------- GO ------------------>|   opens exec.fifo: blocked until start
      |<------------ ERROR + text ---------|   instead of any of init's messages; init is gone then

The end of the stream is an order to init (the parent died: exit) and an error to the parent (init was killed). A process
for exec has no HOOKS step. Where the caller isn't root, exec's first child only enters the user and pid namespaces, clones
the process as its own sibling, answers PID with its number and leaves; so does init's where a user namespace is joined
and the pid namespace is new.
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    # What was done, when it began and how long it took, in CLOCK_MONOTONIC's nanoseconds.
    Step = tuple[str, int, int]

GO = b"G"
HOOKS = b"H"
READY = b"R"
ERROR = b"E"
PID = b"P"
MESSAGES = (GO, HOOKS, READY, ERROR, PID)

MAX_MESSAGE = 64 << 10


def make_pair() -> tuple[int, int]:
    """(parent end, init end), both close-on-exec and the caller's."""
    return sockets.socketpair(sockets.SOCK_SEQPACKET)


def send(fd: int, kind: bytes, payload: bytes = b"") -> None:
    """One message; a payload too long for one is cut."""
    os.write(fd, kind + payload[: MAX_MESSAGE - 1])


def pack_steps(steps: Iterable[Step]) -> bytes:
    """READY's payload, as many steps as fit: a line each. Uses nothing that would have to be loaded."""
    lines, size = [], 0
    for name, began, duration in steps:
        one_line = name.replace("\n", "?")  # a mount point may be called anything
        line = f"{began} {duration} {one_line}\n".encode("utf-8", "replace")
        size += len(line)
        if size >= MAX_MESSAGE:
            break
        lines.append(line)
    return b"".join(lines)


def unpack_steps(payload: bytes) -> Iterator[Step]:
    """What `pack_steps` made."""
    for line in payload.decode("utf-8", "replace").split("\n")[:-1]:
        began, duration, name = line.split(" ", 2)
        yield name, int(began), int(duration)


def receive(fd: int) -> tuple[bytes, bytes]:
    """(kind, payload); two empty strings at the end of the stream."""
    try:
        data = os.read(fd, MAX_MESSAGE)
    except ConnectionResetError:
        return b"", b""
    return data[:1], data[1:]
