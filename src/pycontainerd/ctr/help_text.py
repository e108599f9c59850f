"""Help texts, laid out as urfave/cli lays them out."""

from __future__ import annotations

from pycontainerd.ctr import tree
from pycontainerd.ctr.flags import help_rows

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.ctr.command import Command, Group
    from pycontainerd.ctr.flags import Flag


def root(program: str) -> str:
    """Help of the program itself."""
    from pycontainerd.version import __version__

    commands = [(", ".join(group.names), group.usage) for group in tree.GROUPS]
    commands.append(("help, h", "list the commands, or help for one of them"))
    return _sections(
        [
            ("NAME", f"{program} - containers by hand: a client for containerd and pycontainerd"),
            ("USAGE", f"{program} [global options] command [command options] [arguments...]"),
            ("VERSION", __version__),
            ("COMMANDS", _columns(commands)),
            ("GLOBAL OPTIONS", _columns(help_rows((*tree.FLAGS, *tree.COMMON_FLAGS)))),
        ]
    )


def group(title: str, noun: Group | Command, commands: Sequence[Command], flags: Sequence[Flag]) -> str:
    """Help of a noun: its verbs."""
    rows = [(", ".join(command.names), command.usage) for command in commands]
    return _sections(
        [
            ("NAME", f"{title} - {noun.usage}"),
            ("USAGE", f"{title} command [command options] [arguments...]"),
            ("COMMANDS", _columns(rows)),
            ("OPTIONS", _columns(help_rows((*flags, *tree.GROUP_HELP)))),
        ]
    )


def command(title: str, verb: Command) -> str:
    """Help of one verb."""
    options = " [command options]" if verb.flags else ""
    sections = [("NAME", f"{title} - {verb.usage}"), ("USAGE", f"{title}{options} {verb.arguments}")]
    if verb.description:
        sections.append(("DESCRIPTION", verb.description.replace("\n", "\n   ")))
    if verb.flags:
        sections.append(("OPTIONS", _columns(help_rows(verb.flags))))
    return _sections(sections)


def _sections(sections: Sequence[tuple[str, str]]) -> str:
    return "\n\n".join(f"{name}:\n   {body}" for name, body in sections) + "\n"


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows) + 2
    return "\n   ".join(f"{left:<{width}}{right}".rstrip() for left, right in rows)
