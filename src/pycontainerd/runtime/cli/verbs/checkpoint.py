"""pyrunc checkpoint: refused, with the reason."""

from __future__ import annotations

from pycontainerd.lib.errdefs import FailedPrecondition, Unimplemented
from pycontainerd.runtime.libcontainer.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """Says what is wrong with the container, as runc does first, and else that this runtime makes no checkpoints."""
    container = load(context.root, values.args[0])
    status = container.status()
    if status in ("created", "stopped"):
        raise FailedPrecondition(f"Container cannot be checkpointed in {status} state")
    raise Unimplemented(
        f"checkpoint of {container.id} is not supported: this runtime does not run criu; "
        "the container was left as it is. Stop it and start it again, or run it with runc and criu"
    )
