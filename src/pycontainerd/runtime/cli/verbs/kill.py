"""pyrunc kill."""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.runtime.libcontainer.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def parse_signal(text: str) -> int:
    """A number, or a name with or without SIG, in any case; InvalidArgument for another word."""
    if text.isascii() and text.isdigit() and len(text) < 4:
        return int(text)
    import _signal  # the signal module costs 3 ms: it makes enums

    name = text.upper()
    number = getattr(_signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if not isinstance(number, int):
        raise InvalidArgument(f'unknown signal "{text}"')
    return number


def run(context: Context, values: Values) -> int:
    """Signals init, or all processes."""
    container = load(context.root, values.args[0])
    signal = parse_signal(values.args[1] if len(values.args) > 1 else "SIGTERM")
    container.kill(signal, values.on("all"))
    return 0
