"""The filter language of every list and subscription: `name==foo,labels."a.b"~=/x.*/`.

    filters   := any of the given strings
    string    := selector ("," selector)*           all must hold
    selector  := fieldpath (operator value)?        no operator: the field is present
    fieldpath := field ("." field)*
    field     := quoted | [A-Za-z0-9_]+
    operator  := "==" | "!=" | "~="
    value     := quoted | [^ ,]+                    ~= also takes /regex/ and |regex|

Spec: containerd filters (grammar and error texts); regular expressions follow Python's re, RE2's common subset.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Adaptor = Callable[[Sequence[str]], str | None]
    Filter = Callable[[Adaptor], bool]

_FIELD: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_OPERATOR: Final = frozenset("=!~")
_QUOTE: Final = frozenset('/|"')
_SEPARATOR: Final = frozenset(",.")
_SIMPLE_ESCAPES: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
}
_DIGIT_ESCAPES: Final = {"x": (16, 2), "u": (16, 4), "U": (16, 8)}


def parse_all(filters: Iterable[str]) -> Filter:
    """A predicate that holds when any of the filters does; with no filter everything matches."""
    parsed = [_Parser(text).parse() if text else _always for text in filters]
    if not parsed:
        return _always
    return lambda adaptor: any(one(adaptor) for one in parsed)


def parse_request(filters: Iterable[str]) -> Filter:
    """`parse_all` for the requests whose error containerd ends with the class's words."""
    try:
        return parse_all(filters)
    except InvalidArgument as e:
        raise InvalidArgument(f"{e}: invalid argument") from e


def map_field(path: Sequence[str], values: Mapping[str, str]) -> str | None:
    """The adaptor's answer for a map such as labels: the rest of the path, joined with dots, is the key."""
    return values.get(".".join(path))


def _always(_adaptor: Adaptor) -> bool:
    return True


class _Selector:
    """One comparison."""

    __slots__ = ("operator", "path", "pattern", "value")

    def __init__(self, path: Sequence[str], operator: str, value: str) -> None:
        self.path = path
        self.operator = operator
        self.value = value
        self.pattern = _compile(value) if operator == "~=" else None

    def __call__(self, adaptor: Adaptor) -> bool:
        value = adaptor(self.path)
        match self.operator:
            case "==":
                return value == self.value
            case "!=":
                return value != self.value
            case "~=":
                return self.pattern is not None and self.pattern.search(value or "") is not None
            case _:
                return value is not None


def _compile(expression: str) -> re.Pattern[str] | None:
    """A bad expression matches nothing, as it does in containerd."""
    try:
        return re.compile(expression)
    except re.error:
        return None


class _Parser:
    """Recursive descent over one filter string; errors carry the offending place."""

    __slots__ = ("position", "text", "wants_value")

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.wants_value = False  # after an operator anything up to a comma or space is a value

    def parse(self) -> Filter:
        selectors = [self._selector()]
        while (character := self._peek()) is not None:
            if character != ",":
                raise self._error(self.position, f"unexpected input: {character}")
            self._scan()
            selectors.append(self._selector())
        return lambda adaptor: all(one(adaptor) for one in selectors)

    def _selector(self) -> _Selector:
        path = [self._field()]
        while self._peek() == ".":
            self._scan()
            path.append(self._field())
        if self._peek() in (",", None):
            return _Selector(path, "", "")
        operator = self._operator()
        return _Selector(path, operator, self._value(alternative_quotes=operator == "~="))

    def _field(self) -> str:
        start, kind, text = self._scan()
        if kind == "field":
            return text
        if kind == "quoted":
            return self._unquote(start, text, alternative=False)
        raise self._error(start, "expected field or quoted")

    def _operator(self) -> str:
        start, kind, text = self._scan()
        if kind != "operator":
            raise self._error(start, 'expected an operator ("=="|"!="|"~=")')
        if text not in ("==", "!=", "~="):
            raise self._error(start, f"unsupported operator {quoted(text)}")
        return text

    def _value(self, *, alternative_quotes: bool) -> str:
        start, kind, text = self._scan()
        if kind in ("value", "field"):
            return text
        if kind == "quoted":
            return self._unquote(start, text, alternative=alternative_quotes)
        raise self._error(start, "expected value or quoted")

    def _peek(self) -> str | None:
        return self.text[self.position] if self.position < len(self.text) else None

    def _scan(self) -> tuple[int, str, str]:
        """The next token as (start, kind, text); kind "" at the end and for characters that begin nothing."""
        while (character := self._peek()) is not None and character.isspace():
            self.position += 1
        start = self.position
        if character is None:
            return start, "", ""
        if character == "\0":
            raise self._error(start, "unexpected null")
        if character in _QUOTE:
            return self._scan_quoted(start, character)
        if character in _SEPARATOR:
            self.position += 1
            self.wants_value = False
            return start, "separator", character
        if character in _OPERATOR:
            self.wants_value = True
            return start, "operator", self._take(lambda c: c in _OPERATOR)
        if self.wants_value:
            self.wants_value = False
            return start, "value", self._take(lambda c: c != "," and not c.isspace() and c.isprintable())
        if character in _FIELD:
            return start, "field", self._take(lambda c: c in _FIELD)
        self.position += 1
        return start, "", character

    def _take(self, accepts: Callable[[str], bool]) -> str:
        start = self.position
        self.position += 1
        while (character := self._peek()) is not None and accepts(character):
            self.position += 1
        return self.text[start : self.position]

    def _scan_quoted(self, start: int, quote: str) -> tuple[int, str, str]:
        self.position += 1
        while True:
            character = self._peek()
            if character is None or character == "\n":
                raise self._error(start, "quoted literal not terminated")
            self.position += 1
            if character == quote:
                return start, "quoted", self.text[start : self.position]
            if character == "\\" and self._peek() is not None:
                self.position += 1

    def _unquote(self, start: int, text: str, *, alternative: bool) -> str:
        quote, body = text[0], text[1:-1]
        if quote != '"' and not alternative:
            raise self._error(start, "invalid quote encountered")
        out: list[str] = []
        index = 0
        while index < len(body):
            character = body[index]
            index += 1
            if character != "\\":
                out.append(character)
                continue
            escape = body[index]
            index += 1
            if escape == quote or escape in _SIMPLE_ESCAPES:
                out.append(_SIMPLE_ESCAPES.get(escape, escape))
                continue
            base, digits = _DIGIT_ESCAPES.get(escape, (8, 3))
            if base == 8:
                index -= 1
            code = _digits(body[index : index + digits], base, digits)
            if code is None:
                raise self._error(start, "illegal escape sequence")
            out.append(chr(code))
            index += digits
        return "".join(out)

    def _error(self, position: int, message: str) -> InvalidArgument:
        where = self.text
        if position < len(self.text):
            raw = self.text.encode()
            at = len(self.text[:position].encode())
            # As in containerd one byte is shown, be it half a character.
            before, byte, after = (
                part.decode(errors="replace") for part in (raw[:at], raw[at : at + 1], raw[at + 1 :])
            )
            where = f"{before} >|{byte}|< {after}"
        return InvalidArgument(f"filters: parse error: [{where}]: {message}: invalid argument")


def _digits(text: str, base: int, count: int) -> int | None:
    allowed = "01234567" if base == 8 else "0123456789abcdefABCDEF"
    if len(text) != count or any(character not in allowed for character in text):
        return None
    code = int(text, base)
    return code if code <= 0x10FFFF else None
