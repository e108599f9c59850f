"""`ctr oci spec`: the default runtime spec."""

from __future__ import annotations

from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import STRING, Flag

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call


def _spec(call: Call) -> int:
    from pycontainerd.client import spec_opts
    from pycontainerd.ctr import display

    _require_linux(call.flags.text("platform"))
    display.write_json(spec_opts.ordered(spec_opts.default_spec(call.namespace)))
    return 0


def _require_linux(wanted: str) -> None:
    """Linux's spec is the same for every architecture; others have specs of their own."""
    if not wanted:
        return
    from pycontainerd.lib import platforms
    from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented

    try:
        platform = platforms.parse(wanted)
    except InvalidArgument as error:
        raise InvalidArgument(f"failed to generate spec: {error}", hint=error.hint) from error
    if platform.os != "linux":
        raise Unimplemented(
            f"failed to generate spec: {platform.os} is not supported: not implemented",
            hint="containers here are Linux's: --platform linux/ARCHITECTURE",
        )


COMMANDS = (
    Command(
        "spec",
        "print the default OCI spec",
        _spec,
        arguments="[flags]",
        flags=(Flag("platform", STRING, "platform of the spec: linux/ and an architecture"),),
        description="what run starts from; a bundle's config.json, for --config, can be made of it",
    ),
)
