"""Transfers: what moves images between registries, archives and the stores.

Spec: containerd core/transfer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.streams import Stream


class Job(Protocol):
    """One transfer."""

    def run(self) -> None:
        """Blocking; raises errdefs. Closes the streams it was given."""
        ...

    def cancel(self) -> None:
        """From any thread: `run` fails soon with Canceled."""
        ...


class Transferrer(Protocol):
    """Makes jobs."""

    def job(
        self,
        scope: Scope,
        source: Any,
        destination: Any,
        streams: Mapping[str, Stream],
        report: Callable[[Any], None],
    ) -> Job | None:
        """The job from one containerd.types.transfer message to another; None for a pair that means nothing.

        `streams` are those that the messages name, `report` takes Progress messages. Unimplemented and InvalidArgument
        for options that cannot be kept.
        """
        ...
