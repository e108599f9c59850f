"""The way in for scripts: a daemon in one namespace, ours or a stock containerd.

with Containerd() as containerd:
    with containerd.run("busybox", ["echo", "hello"]) as task:
        output, errors = task.communicate()
"""

from __future__ import annotations

import os

from pycontainerd.client.client import Client
from pycontainerd.client.objects.containers import Containers
from pycontainerd.client.objects.events import Events
from pycontainerd.client.objects.images import Images
from pycontainerd.lib.api.light import version_v1, wkt

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Final, Self

    from pycontainerd.client.objects.images import Image
    from pycontainerd.client.objects.processes import Task

DEFAULT_ADDRESS: Final = "/run/pycontainerd/pycontainerd.sock"


class Containerd:
    """A connection, for one thread; `another` is the next thread's. A context manager.

    Errors are those of `pycontainerd.lib.errdefs`: NotFound, AlreadyExists, Unavailable, ...
    """

    def __init__(
        self, address: str = "", namespace: str = "", *, timeout_s: float = 0, client: Client | None = None
    ) -> None:
        """Connects to $CONTAINERD_ADDRESS, in $CONTAINERD_NAMESPACE, where nothing is said; Unavailable when nobody answers.

        `timeout_s` bounds each call; 0 lets them take as long as they need. `client` is a connection that is there
        already, instead of all that; it is owned from now on.
        """
        self.client = client or Client(
            address or os.environ.get("CONTAINERD_ADDRESS") or DEFAULT_ADDRESS,
            namespace or default_namespace(),
            timeout_s=timeout_s,
        )
        self.images = Images(self.client)
        self.containers = Containers(self.client, self.images)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.client.__exit__(kind, error, tb)

    def another(self) -> Containerd:
        """The same daemon and namespace on a connection of its own."""
        return Containerd(client=self.client.another())

    def version(self) -> str:
        """The daemon's version."""
        reply: version_v1.VersionResponse = self.client.call(version_v1.VERSION, "Version", wkt.Empty())
        return reply.version

    def run(
        self, image: Image | str, args: Sequence[str] = (), *, pipes: bool = True, **options: Any
    ) -> Task:
        """Makes a container and starts it; leaving the task removes both. Options are those of `containers.create`."""
        container = self.containers.create(image, args, **options)
        try:
            task = container.start(pipes=pipes)
        except BaseException:
            container.delete(force=True)
            raise
        task.and_then(lambda: container.delete(force=True))
        return task

    def events(self, *filters: str) -> Events:
        """What happens from now on, of every namespace, or what any of the filters holds for (`topic~=^/tasks/`)."""
        return Events(self.client.another(), filters)


def default_namespace() -> str:
    """Where objects are when nothing is said."""
    return os.environ.get("CONTAINERD_NAMESPACE") or "default"
