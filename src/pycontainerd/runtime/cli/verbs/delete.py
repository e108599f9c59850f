"""pyrunc delete."""

from __future__ import annotations

from pycontainerd.runtime.libcontainer.container import delete_by_force, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """Removes a container; with --force one that isn't there is fine."""
    if values.on("force"):
        delete_by_force(context.root, values.args[0], context.log)
    else:
        load(context.root, values.args[0], context.log).delete(False)
    return 0
