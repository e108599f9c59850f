"""`ctr oci spec`: the default runtime spec."""

from __future__ import annotations

from pycontainerd.ctr.command import Command

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call


def _spec(call: Call) -> int:
    from pycontainerd.client import spec_opts
    from pycontainerd.ctr import display

    display.write_json(spec_opts.ordered(spec_opts.default_spec(call.namespace)))
    return 0


COMMANDS = (Command("spec", "print the default OCI spec", _spec),)
