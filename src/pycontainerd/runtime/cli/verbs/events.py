"""pyrunc events."""

from __future__ import annotations

import os
import select

from pycontainerd.lib.errdefs import FailedPrecondition, InvalidArgument
from pycontainerd.lib.oci.document import dumps
from pycontainerd.runtime.cli.main import write_out
from pycontainerd.runtime.libcontainer.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values
    from pycontainerd.runtime.libcontainer.container import Container


def run(context: Context, values: Values) -> int:
    """One JSON line for each sample and each out-of-memory event, until the container ends."""
    interval_s = values.seconds("interval")
    if interval_s <= 0:
        raise InvalidArgument("duration interval must be greater than 0")
    container = load(context.root, values.args[0])
    if container.status() == "stopped":
        raise FailedPrecondition(f"container with id {container.id} is not running")
    _sample(container)
    if values.on("stats"):
        return 0
    _follow(container, interval_s)
    return 0


def _sample(container: Container) -> None:
    event = {"type": "stats", "id": container.id, "data": container.stats()}
    write_out(dumps(event) + "\n")


def _follow(container: Container, interval_s: float) -> None:
    from pycontainerd.lib.cgroups.oom import OomWatch

    pidfd = os.pidfd_open(container.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    watch = OomWatch(container.cgroups.paths)
    poll.register(watch.fileno(), watch.events)
    try:
        while True:
            ready = dict(poll.poll(interval_s * 1000))
            # Before the end, which it may be the reason of.
            if watch.fileno() in ready and watch.count():
                write_out(dumps({"type": "oom", "id": container.id}) + "\n")
            if pidfd in ready:
                return
            if not ready:
                _sample(container)
    finally:
        watch.close()
        os.close(pidfd)
