"""The daemon's own pulls, pushes, imports and exports: the client library, working on the daemon's own socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.streams import Stream
    from pycontainerd.daemon.core.transfer import Job
    from pycontainerd.lib.log import Logger


class LazyTransferrer:
    """Implements core.transfer.Transferrer; the registry client behind it (100 ms to import) waits for the first job."""

    def __init__(self, address: str, kind: str, settings: Mapping[str, Any], log: Logger) -> None:
        self._log = log
        self._address = address
        self._kind = kind
        self._settings = settings

    def job(
        self,
        scope: Scope,
        source: Any,
        destination: Any,
        streams: Mapping[str, Stream],
        report: Callable[[Any], None],
    ) -> Job | None:
        from pycontainerd.daemon.transfer.local import LocalTransferrer

        transferrer = LocalTransferrer(self._address, self._kind, self._settings, self._log)
        return transferrer.job(scope, source, destination, streams, report)
