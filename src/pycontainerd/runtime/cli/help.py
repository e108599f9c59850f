"""Help texts in the shape of urfave/cli version 1, from the table."""

from __future__ import annotations

from pycontainerd.runtime.cli.flags import BOOL, COMMANDS, GLOBAL, INT, STRING, Command, Flag
from pycontainerd.runtime.cli.version import version_text

_INTRO = """\
pyrunc runs containers that are described by OCI bundles: a directory with a config.json and a root
filesystem. It takes the commands, flags and state folder of runc, and each works on the other's containers."""


def _names(flag: Flag) -> str:
    value = "" if flag.kind == BOOL else " value"
    names = f"--{flag.name}{value}"
    return f"{names}, -{flag.alias}{value}" if flag.alias else names


def _usage(flag: Flag) -> str:
    if flag.kind == INT or (flag.default and flag.kind != STRING):
        return f"{flag.usage} (default: {flag.default})"
    return f'{flag.usage} (default: "{flag.default}")' if flag.default else flag.usage


def _options(flags: tuple[Flag, ...], extra: tuple[tuple[str, str], ...] = ()) -> str:
    rows = [(_names(flag), _usage(flag)) for flag in flags if not flag.hidden] + list(extra)
    width = max(len(left) for left, _right in rows) + 2
    return "".join(f"   {left:<{width}}{right}\n" for left, right in rows)


def app_help(name: str, root: str) -> str:
    """`--help` of the program."""
    width = max(len(command.name) for command in COMMANDS) + 2
    commands = "".join(f"   {command.name:<{width}}{command.usage}\n" for command in COMMANDS)
    flags = tuple(
        Flag(flag.name, flag.alias, flag.kind, flag.usage, root) if flag.name == "root" else flag
        for flag in GLOBAL
    )
    options = _options(flags, (("--help, -h", "show help"), ("--version, -v", "print the version")))
    return (
        f"NAME:\n   {name} - Open Container Initiative runtime\n\n{_INTRO}\n\n"
        f"USAGE:\n   {name} [global options] command [command options] [arguments...]\n\n"
        f"VERSION:\n   {version_text()}\n\nCOMMANDS:\n{commands}\nGLOBAL OPTIONS:\n{options}"
    )


def command_help(name: str, command: Command) -> str:
    """`--help` of one command."""
    text = f"NAME:\n   {name} {command.name} - {command.usage}\n\nUSAGE:\n   {name} {command.name} {command.arguments}\n"
    if command.description:
        text += f"\nDESCRIPTION:\n   {command.description}\n"
    if command.flags:
        text += f"\nOPTIONS:\n{_options(command.flags)}   \n"
    return text
