"""Flags as Go's flag package reads them: one or two dashes, `=value` or the next word, ending at the first argument."""

from __future__ import annotations

from pycontainerd.runtime.cli.flags import BOOL, DURATION, INT, LIST, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class UsageError(Exception):
    """The command line can't be read; the text is Go's."""


class HelpWanted(Exception):
    """-h or --help was given."""


class Values:
    """Flag values by long name, and the arguments after the flags."""

    __slots__ = ("args", "given", "values")

    def __init__(self, values: dict[str, Any], given: set[str], args: list[str]) -> None:
        self.values = values
        self.given = given
        self.args = args

    def text(self, name: str) -> str:
        """A string flag."""
        return str(self.values[name])

    def on(self, name: str) -> bool:
        """A boolean flag."""
        return bool(self.values[name])

    def number(self, name: str) -> int:
        """An integer flag."""
        return int(self.values[name])

    def words(self, name: str) -> list[str]:
        """A flag that may be given many times."""
        return list(self.values[name])

    def seconds(self, name: str) -> float:
        """A duration flag."""
        return float(self.values[name])


def parse(flags: tuple[Flag, ...], argv: list[str], *, version: bool = False) -> Values:
    """Reads flags up to the first word that is none; UsageError, or HelpWanted for -h."""
    by_name = {flag.name: flag for flag in flags}
    by_name.update({flag.alias: flag for flag in flags if flag.alias})
    values: dict[str, Any] = {flag.name: _default(flag) for flag in flags}
    given: set[str] = set()
    at = 0
    while at < len(argv):
        word = argv[at]
        if len(word) < 2 or word[0] != "-":
            break
        at += 1
        if word == "--":
            break
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if not name or name[0] in "-=":
            raise UsageError(f"bad flag syntax: {word}")
        if name in ("h", "help") and name not in by_name:
            raise HelpWanted
        if version and name in ("v", "version"):
            given.add("version")
            continue
        flag = by_name.get(name)
        if flag is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if not equals and flag.kind == BOOL:
            value = "true"
        elif not equals:
            if at >= len(argv):
                raise UsageError(f"flag needs an argument: -{name}")
            value = argv[at]
            at += 1
        _set(values, flag, name, value)
        given.add(flag.name)
    return Values(values, given, argv[at:])


def _default(flag: Flag) -> Any:
    if flag.kind == BOOL:
        return False
    if flag.kind == LIST:
        return []
    if flag.kind == DURATION:
        return parse_duration(str(flag.default))
    return flag.default


def _set(values: dict[str, Any], flag: Flag, name: str, value: str) -> None:
    if flag.kind == BOOL:
        if value not in TRUE | FALSE:
            raise UsageError(f'invalid boolean value "{value}" for -{name}: parse error')
        values[flag.name] = value in TRUE
    elif flag.kind == INT:
        digits = value.removeprefix("-").removeprefix("+")
        if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
            raise UsageError(f'invalid value "{value}" for flag -{name}: parse error')
        values[flag.name] = int(value)
    elif flag.kind == LIST:
        values[flag.name].append(value)
    elif flag.kind == DURATION:
        seconds = parse_duration(value)
        if seconds < 0:
            raise UsageError(f'invalid value "{value}" for flag -{name}: parse error')
        values[flag.name] = seconds
    else:
        values[flag.name] = value


def parse_duration(text: str) -> float:
    """Go's duration words (`1m30s`, `500ms`) as seconds; -1 when it isn't one."""
    from pycontainerd.lib.duration import parse_nanos

    nanos = parse_nanos(text)
    return -1.0 if nanos is None else nanos / 1e9
