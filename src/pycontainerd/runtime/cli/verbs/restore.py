"""pyrunc restore: refused, with the reason."""

from __future__ import annotations

from pycontainerd.lib.errdefs import Unimplemented
from pycontainerd.runtime.libcontainer.state import require_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """Says that this runtime restores nothing: an image of criu is a process tree that nobody has checked."""
    id = values.args[0]
    require_id(id)
    raise Unimplemented(
        f"restore of {id} is not supported: this runtime does not run criu, and does not trust its images; "
        "nothing was made. Create the container anew from its bundle, or restore it with runc and criu"
    )
