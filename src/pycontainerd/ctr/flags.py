"""Flags as ctr takes them: Go's flag syntax, urfave/cli's help and reordering, from tables of plain values.

    -name  --name  -name=value  --name value  --  (ends flags)

A bool takes a value only after `=`. Where a command allows it, known flags may also follow arguments.
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

BOOL: Final = "bool"
STRING: Final = "string"
STRINGS: Final = "strings"
INT: Final = "int"
UINT: Final = "uint"
INTS: Final = "ints"
FLOAT: Final = "float"
DURATION: Final = "duration"

_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class UsageError(InvalidArgument):
    """The command line isn't one: printed with the command's help."""


class Flag:
    """One flag: `names` with the long one first. `default` is the parsed value; durations are nanoseconds."""

    __slots__ = ("default", "env", "hidden", "kind", "names", "usage")

    def __init__(
        self, names: str, kind: str, usage: str, *, default: Any = None, env: str = "", hidden: bool = False
    ) -> None:
        self.names = tuple(name.strip() for name in names.split(","))
        self.kind = kind
        self.usage = usage
        self.default = _ZERO[kind] if default is None else default
        self.env = env
        self.hidden = hidden


_ZERO: Final[dict[str, Any]] = {
    BOOL: False,
    STRING: "",
    STRINGS: (),
    INT: 0,
    UINT: 0,
    INTS: (),
    FLOAT: 0.0,
    DURATION: 0,
}


class Values:
    """What was given for one command's flags, with defaults and environment behind it.

    `noun`: what was given for the noun above a noun (`shim --id ID pprof ...`), which is read here too.
    """

    __slots__ = ("_given", "_known", "_noun")

    def __init__(self, flags: Sequence[Flag], environ: Mapping[str, str], noun: Values | None = None) -> None:
        self._noun = noun
        self._known = {name: flag for flag in flags for name in flag.names}
        self._given: dict[str, Any] = {}
        for flag in flags:
            if flag.env and environ.get(flag.env):
                self._given[flag.names[0]] = convert(flag, flag.names[0], environ[flag.env])

    def flag(self, name: str) -> Flag | None:
        """The flag behind any of its names."""
        return self._known.get(name)

    def set(self, name: str, text: str) -> None:
        """Stores one occurrence; lists grow, everything else is overwritten."""
        flag = self._known[name]
        value = convert(flag, name, text)
        if flag.kind in {STRINGS, INTS}:
            value = (*self._given.get(flag.names[0], ()), *value)
        self._given[flag.names[0]] = value

    def is_set(self, name: str) -> bool:
        """Whether it was given, by flag or environment."""
        return name in self._given

    def raw(self, name: str) -> Any:
        """A flag of any kind, as it was parsed."""
        if self._noun is not None and name not in self._known:
            return self._noun.raw(name)
        return self._given.get(name, self._known[name].default)

    def on(self, name: str) -> bool:
        """A bool flag."""
        return bool(self.raw(name))

    def text(self, name: str) -> str:
        """A string flag."""
        return str(self.raw(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """A repeated string flag."""
        return tuple(self.raw(name))

    def number(self, name: str) -> int:
        """An integer flag, signed or not; durations in nanoseconds."""
        return int(self.raw(name))

    def real(self, name: str) -> float:
        """A float flag."""
        return float(self.raw(name))


def convert(flag: Flag, name: str, text: str) -> Any:
    """The value of one occurrence; UsageError with Go's words when it isn't one."""
    if flag.kind == STRING:
        return text
    if flag.kind == STRINGS:
        return (text,)
    if flag.kind == BOOL:
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise UsageError(f'invalid boolean value "{text}" for -{name}: parse error')
    try:
        value = _CONVERTERS[flag.kind](text)
    except OverflowError as error:
        raise UsageError(f'invalid value "{text}" for flag -{name}: value out of range') from error
    except ValueError as error:
        raise UsageError(f'invalid value "{text}" for flag -{name}: parse error') from error
    return (value,) if flag.kind == INTS else value


def parse_int(text: str, *, signed: bool = True) -> int:
    """A Go integer literal (0x, 0o, 0b, underscores only inside those): 64 bits; ValueError or OverflowError."""
    digits = text[1:] if signed and text[:1] in {"-", "+"} else text
    if (
        not digits
        or not digits.isascii()
        or not digits[0].isdigit()
        or digits.endswith("_")
        or "__" in digits
    ):
        raise ValueError(text)
    is_old_octal = digits.isdigit() and digits[0] == "0"
    number = int(digits, 8 if is_old_octal else 0)
    number = -number if text[0] == "-" else number
    low, high = (-(1 << 63), 1 << 63) if signed else (0, 1 << 64)
    if not low <= number < high:
        raise OverflowError(text)
    return number


def parse_duration(text: str) -> int:
    """Go's time.ParseDuration, in nanoseconds: `1h30m`, `1.5s`, `0`; ValueError otherwise."""
    from pycontainerd.lib.duration import parse_nanos

    nanos = parse_nanos(text)
    if nanos is None:
        raise ValueError(text)
    return nanos


def _parse_float(text: str) -> float:
    if not text.isascii() or text != text.strip() or "_" in text:
        raise ValueError(text)
    return float(text)


_CONVERTERS: Final = {
    INT: parse_int,
    INTS: parse_int,
    UINT: lambda text: parse_int(text, signed=False),
    FLOAT: _parse_float,
    DURATION: parse_duration,
}


def parse(values: Values, argv: Sequence[str], *, anywhere: bool = False) -> list[str]:
    """Fills `values` from argv and returns the arguments.

    `anywhere` lets known flags follow arguments too, as urfave/cli does for commands that run nothing.
    """
    arguments: list[str] = []
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if word == "--":
            arguments += argv[position:]
            break
        if not word.startswith("-") or word == "-":
            if not anywhere:
                return [*arguments, word, *argv[position:]]
            arguments.append(word)
            continue
        name, equals, text = word[2 if word.startswith("--") else 1 :].partition("=")
        flag = values.flag(name)
        if flag is None and arguments:  # after an argument an unknown flag is one more argument
            arguments.append(word)
            continue
        position = _store(values, word, argv, position, (name, equals, text))
    return arguments


def _store(values: Values, word: str, argv: Sequence[str], position: int, parts: tuple[str, str, str]) -> int:
    name, equals, text = parts
    if not name or name.startswith(("-", "=")):
        raise UsageError(f"bad flag syntax: {word}")
    flag = values.flag(name)
    if flag is None:
        raise UsageError(f"flag provided but not defined: -{name}")
    if equals:
        values.set(name, text)
    elif flag.kind == BOOL:
        values.set(name, "true")
    elif position < len(argv):
        values.set(name, argv[position])
        return position + 1
    else:
        raise UsageError(f"flag needs an argument: -{name}")
    return position


def help_rows(flags: Sequence[Flag]) -> list[tuple[str, str]]:
    """(left, right) columns of a help text."""
    return [(_left(flag), _right(flag)) for flag in flags if not flag.hidden]


def _left(flag: Flag) -> str:
    usage, _, _ = flag.usage.partition("`")
    placeholder = flag.usage.split("`")[1] if usage != flag.usage else "value"
    suffix = "" if flag.kind == BOOL else f" {placeholder}"
    return ", ".join(f"{'-' if len(name) == 1 else '--'}{name}{suffix}" for name in flag.names)


def _right(flag: Flag) -> str:
    text = flag.usage.replace("`", "")
    if flag.kind in {INT, UINT, FLOAT, DURATION}:
        default = format_duration(flag.default) if flag.kind == DURATION else f"{flag.default:g}"
        text += f" (default: {default})"
    elif flag.kind == STRING and flag.default:
        text += f' (default: "{flag.default}")'
    return f"{text} [${flag.env}]" if flag.env else text


def format_duration(nanos: int) -> str:
    """Go's Duration.String(): `1h0m0s`, `39.108269ms`, `0s`."""
    if nanos == 0:
        return "0s"
    sign, left = ("-", -nanos) if nanos < 0 else ("", nanos)
    if left < 1_000_000_000:
        for unit, nanos_of_it in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
            if left < 1000 * nanos_of_it:
                return f"{sign}{_fraction(left, nanos_of_it)}{unit}"
    seconds, below = divmod(left, 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{_fraction(seconds * 1_000_000_000 + below, 1_000_000_000)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def _fraction(value: int, unit: int) -> str:
    whole, below = divmod(value, unit)
    digits = f"{below:0{len(str(unit)) - 1}d}".rstrip("0") if below else ""
    return f"{whole}.{digits}" if digits else str(whole)
