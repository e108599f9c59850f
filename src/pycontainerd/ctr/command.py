"""What a command is: its names, flags and help, and where its code lives; nothing is imported until it runs."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontainerd.ctr.flags import Flag, Values

    Handler = Callable[["Call"], int]


class HelpWanted(Exception):
    """Shows the command's help instead of running it."""


class Command:
    """A leaf of the tree. `run` gets a Call and returns the exit status."""

    __slots__ = (
        "anywhere",
        "arguments",
        "description",
        "flags",
        "names",
        "required",
        "run",
        "subcommands",
        "takes_container",
        "usage",
    )

    def __init__(
        self,
        names: str,
        usage: str,
        run: Handler,
        *,
        arguments: str = "[arguments...]",
        flags: Sequence[Flag] = (),
        description: str = "",
        required: Sequence[str] = (),
        anywhere: bool = True,
        subcommands: Sequence[Command] = (),
        takes_container: bool = False,
    ) -> None:
        self.names = tuple(name.strip() for name in names.split(","))
        self.usage = usage
        self.run = run
        self.arguments = arguments
        self.flags = flags
        self.description = description
        self.required = required
        # False where the arguments hold another program's flags (run, exec, create).
        self.anywhere = anywhere
        # A noun below a noun (`content prune references`): they run, `run` never does.
        self.subcommands = subcommands
        # The first argument is a container: the beginning of its id will do. Not for what removes.
        self.takes_container = takes_container


def at(module: str, function: str = "run") -> Handler:
    """A command's code in `pycontainerd.ctr.<module>`, imported when it runs."""

    def run(call: Call) -> int:
        name = f"pycontainerd.ctr.{module}"
        __import__(name)
        handler: Handler = getattr(sys.modules[name], function)
        return handler(call)

    return run


def only_subcommands(call: Call) -> int:
    """What a command with subcommands has as its own code."""
    raise HelpWanted


class Group:
    """A noun: names and help in the root's table, commands and flags in `pycontainerd.ctr.commands.<module>`."""

    __slots__ = ("module", "names", "usage")

    def __init__(self, names: str, usage: str, module: str) -> None:
        self.names = tuple(name.strip() for name in names.split(","))
        self.usage = usage
        self.module = module


class Call:
    """One command line, taken apart: what a command's code sees."""

    __slots__ = ("arguments", "flags", "group_flags", "root_flags")

    def __init__(self, root_flags: Values, group_flags: Values, flags: Values, arguments: list[str]) -> None:
        self.root_flags = root_flags
        self.group_flags = group_flags
        self.flags = flags
        self.arguments = arguments

    def argument(self, place: int) -> str:
        """An argument, or an empty string where none was given."""
        return self.arguments[place] if place < len(self.arguments) else ""

    @property
    def namespace(self) -> str:
        """The containerd namespace of this call."""
        return self.root_flags.text("namespace")
