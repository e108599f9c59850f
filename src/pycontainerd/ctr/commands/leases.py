"""`ctr leases`: list, create, delete."""

from __future__ import annotations

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command, HelpWanted
from pycontainerd.ctr.flags import BOOL, DURATION, STRING, Flag

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.ctr.command import Call

_DAY_NANOS = 24 * 3600 * 1_000_000_000


def _list(call: Call) -> int:
    from pycontainerd.client import leases
    from pycontainerd.ctr import session

    with session.connect(call) as client:
        found = leases.walk(client, call.arguments)
    if call.flags.on("quiet"):
        display.write("".join(f"{lease.id}\n" for lease in found))
        return 0
    rows = [
        {
            "id": lease.id,
            "created_at": display.rfc3339_local(lease.created_at.seconds),
            "labels": dict(lease.labels),
        }
        for lease in found
    ]
    display.print_rows(rows, call.flags.text("format"), _table)
    return 0


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [f"{row['id']}\t{row['created_at']}\t{display.label_text(row['labels'])}\t" for row in rows]
    display.table("ID\tCREATED AT\tLABELS\t", lines, display.SPACES)


def _create(call: Call) -> int:
    from pycontainerd.client import leases
    from pycontainerd.ctr import session

    labels = text.labels_from(call.arguments)
    expires_nanos = call.flags.number("expires")
    if expires_nanos:
        labels.update(leases.expiring(expires_nanos // 1_000_000_000))
    with session.connect(call) as client:
        lease = leases.create(client, call.flags.text("id"), labels)
    display.write(f"{lease.id}\n")
    return 0


def _delete(call: Call) -> int:
    from pycontainerd.client import leases
    from pycontainerd.ctr import session

    if not call.arguments:
        raise HelpWanted
    with session.connect(call) as client:
        for place, lease_id in enumerate(call.arguments):
            last = place == len(call.arguments) - 1
            leases.delete(client, lease_id, sync=call.flags.on("sync") and last)
            display.write(f"{lease_id}\n")
    return 0


COMMANDS = (
    Command(
        "list, ls",
        "list the active leases",
        _list,
        arguments="[flags] <filter>",
        flags=(Flag("quiet, q", BOOL, "print ids only"), text.FORMAT_FLAG),
        description="filters are id==ID, labels.KEY==VALUE",
    ),
    Command(
        "create",
        "make a lease",
        _create,
        arguments="[flags] <label>=<value> ...",
        flags=(
            Flag("id", STRING, "id of the lease; made up by default"),
            Flag("expires, x", DURATION, "how long it lasts; 0 for ever", default=_DAY_NANOS),
        ),
        description=(
            "its id is printed; it keeps what its labels name:\n"
            "ctr leases create containerd.io/gc.ref.snapshot.overlayfs=KEY"
        ),
    ),
    Command(
        "delete, del, remove, rm",
        "end leases",
        _delete,
        arguments="[flags] <lease id> ...",
        flags=(Flag("sync", BOOL, "wait until what they kept is collected"),),
        description="what only they kept is collected",
    ),
)
