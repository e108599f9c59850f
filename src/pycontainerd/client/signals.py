"""Signals by name or number, as containerd parses them."""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument


def parse(text: str) -> int:
    """`9`, `KILL`, `SIGKILL`, `sigkill`, `SIGRTMIN+3`; InvalidArgument otherwise."""
    import signal

    if text.isascii() and text.isdigit() and 0 < int(text[:6]) < signal.NSIG:
        return int(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    base, plus, offset = name.partition("+")
    found = signal.Signals.__members__.get(base)
    if found is not None and (not plus or (base == "SIGRTMIN" and offset.isascii() and offset.isdigit())):
        number = int(found) + (int(offset[:3]) if plus else 0)
        if number < signal.NSIG:
            return number
    raise InvalidArgument(f"invalid signal: {text}", hint="give a name such as TERM or KILL, or a number")
