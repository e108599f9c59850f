"""pyrunc start."""

from __future__ import annotations

from pycontainerd.runtime.libcontainer.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """Lets a created container's init go on."""
    load(context.root, values.args[0]).start()
    return 0
