"""Containers by the beginning of their id: where no container has the id itself and only one begins so."""

from __future__ import annotations

from pycontainerd.ctr import session
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call


def full_id(call: Call) -> str:
    """The whole id for the command's first argument; empty when nothing (or the very id) is found.

    InvalidArgument when several begin so. Runs after a NotFound only: an exact id costs nothing.
    """
    from pycontainerd.client import containers

    given = call.argument(0)
    if not given:
        return ""
    with session.connect(call) as client:
        known = [record.id for record in containers.walk(client)]
    found = [name for name in known if name.startswith(given)]
    if given in known or not found:
        return ""
    if len(found) > 1:
        some = ", ".join(sorted(found)[:5])
        raise InvalidArgument(
            f'"{given}" is the beginning of several containers: {some}{", ..." if len(found) > 5 else ""}'
        )
    return found[0]
