"""pyrunc delete."""

from __future__ import annotations

from pycontainerd.lib.errdefs import NotFound
from pycontainerd.runtime.libcontainer.container import load
from pycontainerd.runtime.libcontainer.state import require_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """Removes a container; with --force one that isn't there is fine."""
    id, force = values.args[0], values.on("force")
    try:
        container = load(context.root, id)
    except NotFound:
        if not force:
            raise
        require_id(id)
        _remove_rest(context.root, id)
        return 0
    container.delete(force)
    return 0


def _remove_rest(root: str, id: str) -> None:
    import os

    from pycontainerd.lib.linux.tree import remove_tree

    try:
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(root_fd, id)
    finally:
        os.close(root_fd)
