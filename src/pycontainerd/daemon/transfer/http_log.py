"""HTTP debugging of a transfer: what is said to its registry, to the client's stream or to the daemon's log.

Spec: containerd core/transfer/registry (http_debug, logs_stream)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.transfer.bytestream import ByteWriter
from pycontainerd.lib.errdefs import ContainerdError
from pycontainerd.lib.registry.head_watch import HeadWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.streams import Stream
    from pycontainerd.lib.log import Logger


class TransferWatch(HeadWatch):
    """Heads go to the stream, if there is one; connections to the log, as in containerd. Never a credential."""

    def __init__(self, stream: Stream | None, log: Logger, *, dump: bool, trace: bool) -> None:
        super().__init__(dump=dump, trace=trace)
        self._writer = None if stream is None else ByteWriter(stream)
        self._log = log

    def tell(self, lines: Sequence[str]) -> None:
        if self._writer is None:
            for line in lines:
                self._log.info(line)
            return
        try:
            self._writer.write("".join(f"{line}\n" for line in [*lines, ""]).encode())
        except ContainerdError:
            # Who doesn't read any more needn't be told: the transfer goes on, and the log has it.
            self._writer = None

    def tell_connection(self, remote: str, *, reused: bool) -> None:
        self._log.info("Connection successful", remote_addr=remote, reused=str(reused).lower())
