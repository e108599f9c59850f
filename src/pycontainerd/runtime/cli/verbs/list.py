"""pyrunc list."""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument
from pycontainerd.lib.oci.document import dumps
from pycontainerd.runtime.cli.main import write_out
from pycontainerd.runtime.libcontainer.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
_MIN_WIDTH, _PADDING = 12, 3


def run(context: Context, values: Values) -> int:
    """The containers of this root as a table, ids or JSON."""
    rows = _states(context.root)
    if values.on("quiet"):
        write_out("".join(row["id"] + "\n" for row in rows))
        return 0
    form = values.text("format")
    if form == "json":
        write_out((dumps(rows) if rows else "null") + "\n")
        return 0
    if form != "table":
        raise InvalidArgument("invalid format option")
    cells = [_COLUMNS] + [
        (row["id"], str(row["pid"]), row["status"], row["bundle"], row["created"], row["owner"])
        for row in rows
    ]
    write_out(format_table(cells))
    return 0


def format_table(rows: list[tuple[str, ...]]) -> str:
    """As Go's tabwriter with minimum width 12 and three spaces between; the last column is as it is."""
    widths = [max(_MIN_WIDTH, *(len(row[at]) + _PADDING for row in rows)) for at in range(len(rows[0]) - 1)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )


def _states(root: str) -> list[dict[str, Any]]:
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        directory = f"{root}/{name}"
        if not os.path.isdir(directory):
            continue
        try:
            state = load(root, name).state()
        except ContainerdError as error:
            os.write(2, f"load container {name}: {error}\n".encode())
            continue
        state["owner"] = _owner(os.stat(directory).st_uid)
        found.append(state)
    return found


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
