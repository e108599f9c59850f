"""Go flag syntax, from a table: `-flag v`, `--flag v`, `-flag=v`; the rest is left to the caller."""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument


class Flag:
    """A flag by all its names; `takes_value` False makes it a switch."""

    __slots__ = ("help", "names", "takes_value")

    def __init__(self, names: tuple[str, ...], help: str, *, takes_value: bool = True) -> None:
        self.names = names
        self.help = help
        self.takes_value = takes_value


def parse(argv: list[str], flags: tuple[Flag, ...]) -> tuple[dict[str, str], list[str]]:
    """Values by each flag's first name, and the arguments from the first that is no flag on."""
    by_name = {name: flag for flag in flags for name in flag.names}
    values: dict[str, str] = {}
    index = 0
    while index < len(argv):
        argument = argv[index]
        if argument == "--":
            return values, argv[index + 1 :]
        if len(argument) < 2 or not argument.startswith("-"):
            break
        name, equals, value = argument.removeprefix("-").removeprefix("-").partition("=")
        flag = by_name.get(name)
        if flag is None:
            raise InvalidArgument(f"flag provided but not defined: -{name}")
        index += 1
        if not flag.takes_value:
            values[flag.names[0]] = value if equals else "true"
        elif equals:
            values[flag.names[0]] = value
        elif index < len(argv):
            values[flag.names[0]] = argv[index]
            index += 1
        else:
            raise InvalidArgument(f"flag needs an argument: -{name}")
    return values, argv[index:]
