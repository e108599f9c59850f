"""Runs a program by posix_spawn: nothing of our memory is copied, no fork hook runs, and no fd but the named ones goes along.

Man: posix_spawn(3)
"""

from __future__ import annotations

import _signal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

# Python ignores these; a program must find them as a shell would leave them.
_DEFAULT_SIGNALS: Final = (_signal.SIGPIPE, _signal.SIGXFSZ)


def start(
    argv: Sequence[str], environ: Mapping[str, str], fds: Mapping[int, int], *, own_group: bool = False
) -> int:
    """Runs a program found on PATH with exactly `fds` (number in the child -> borrowed fd); 0-2 default to /dev/null.

    own_group: whether it leads a process group of its own. Gives its pid. Raises OSError when it can't be executed.
    """
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    numbers = sorted({0, 1, 2, *fds})
    # Everything is parked above all sources and targets first: one dup2 may not overwrite the source of the next.
    parked = max(*numbers, *fds.values(), 2) + 1
    for number in numbers:
        if number in fds:
            actions.append((os.POSIX_SPAWN_DUP2, fds[number], parked + number))
        else:
            actions.append((os.POSIX_SPAWN_OPEN, parked + number, os.devnull, os.O_RDWR, 0))
    for number in numbers:
        actions.append((os.POSIX_SPAWN_DUP2, parked + number, number))
        actions.append((os.POSIX_SPAWN_CLOSE, parked + number))
    group = {"setpgroup": 0} if own_group else {}
    return os.posix_spawnp(
        argv[0],
        list(argv),
        dict(environ),
        file_actions=actions,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
        **group,  # type: ignore[arg-type]  # mypy takes them for any keyword
    )


def environment() -> dict[str, str]:
    """The shim's own, less the socket of a service manager it doesn't answer for, with the trace's parent."""
    from pycontainerd.lib import trace

    environ = dict(os.environ)
    environ.pop("NOTIFY_SOCKET", None)
    return {**environ, **trace.environment()}
