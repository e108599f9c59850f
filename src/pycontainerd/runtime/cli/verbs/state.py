"""pyrunc state."""

from __future__ import annotations

from pycontainerd.lib.oci.document import dumps
from pycontainerd.runtime.cli.main import write_out
from pycontainerd.runtime.libcontainer.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """The state as JSON, without a final newline."""
    write_out(dumps(load(context.root, values.args[0]).state(), "  "))
    return 0
