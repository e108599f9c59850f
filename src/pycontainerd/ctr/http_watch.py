"""`--http-dump` and `--http-trace`: what is said to registries, as log lines on stderr; never a credential."""

from __future__ import annotations

from pycontainerd.ctr import text
from pycontainerd.lib.registry.head_watch import HeadWatch

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence


class PrintedWatch(HeadWatch):
    """Prints heads (dump) and connections (trace)."""

    def tell(self, lines: Sequence[str]) -> None:
        for line in [*lines, ""]:
            text.inform(line)

    def tell_connection(self, remote: str, *, reused: bool) -> None:
        text.trace("Connection successful", remote_addr=remote, reused=str(reused).lower())
