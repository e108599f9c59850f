"""JSON as Go's encoding/json takes it, with its words for what it doesn't take: scripts and people know those.

Python's parser is asked only for what this scanner has found whole: it takes NaN and bad escapes, and names other places.

Spec: RFC 8259
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, Final

_SPACE: Final = b" \t\r\n"
_DIGITS: Final = b"0123456789"
_HEX: Final = b"0123456789abcdefABCDEF"
_MAX_DEPTH: Final = 10000
_LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}


def loads(data: bytes) -> Any:
    """The value; InvalidArgument with Go's text for what is no JSON."""
    import json

    _Scanner(data).run()
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except RecursionError as error:
        raise InvalidArgument("exceeded max depth") from error


def load_map(data: bytes) -> dict[str, Any]:
    """An object, an empty one for null; InvalidArgument as `loads`, and for any other value."""
    value = loads(data)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument(
            f"json: cannot unmarshal {kind(value)} into Go value of type map[string]interface {{}}"
        )
    return value


def kind(value: object) -> str:
    """What a value is called where it can't be assigned: string, number, bool, array or object."""
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def interface_type(value: object) -> str:
    """The Go type of a decoded value, as %T prints it."""
    names = {
        "string": "string",
        "number": "float64",
        "bool": "bool",
        "array": "[]interface {}",
        "object": "map[string]interface {}",
    }
    return names.get(kind(value), "<nil>")


class _Scanner:
    """One text, read once from its beginning; every method leaves off behind what it has read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def run(self) -> None:
        """Raises InvalidArgument at the first byte that can't stand where it stands."""
        closers: list[int] = []  # of the objects and arrays around, the innermost last
        while True:
            if not self._value(closers):
                continue  # an object or array began: its first value is next
            while closers:
                if self._next() == ord(","):
                    self._at += 1
                    if closers[-1] == ord("}"):
                        self._key()
                    break
                if self._next() != closers[-1]:
                    raise self._invalid(
                        "after object key:value pair" if closers[-1] == ord("}") else "after array element"
                    )
                self._at += 1
                closers.pop()
            else:
                break
        if self._skip_space():
            raise self._invalid("after top-level value")

    def _value(self, closers: list[int]) -> bool:
        """Reads a whole value, or the beginning of one that holds others; whether it is whole."""
        first = self._next()
        if first in b"{[":
            return self._begin(closers, ord("}") if first == ord("{") else ord("]"))
        if first == ord('"'):
            self._string()
        elif first in _LITERALS:
            self._literal(_LITERALS[first])
        elif first == ord("-") or first in _DIGITS:
            self._number()
        else:
            raise self._invalid("looking for beginning of value")
        return True

    def _begin(self, closers: list[int], closer: int) -> bool:
        self._at += 1
        if self._next() == closer:
            self._at += 1
            return True
        if len(closers) >= _MAX_DEPTH:
            raise InvalidArgument("exceeded max depth")
        closers.append(closer)
        if closer == ord("}"):
            self._key()
        return False

    def _key(self) -> None:
        if self._next() != ord('"'):
            raise self._invalid("looking for beginning of object key string")
        self._string()
        if self._next() != ord(":"):
            raise self._invalid("after object key")
        self._at += 1

    def _string(self) -> None:
        self._at += 1
        while (byte := self._byte()) != ord('"'):
            if byte < 0x20:
                raise self._invalid("in string literal")
            self._at += 1
            if byte == ord("\\"):
                self._escape()
        self._at += 1

    def _escape(self) -> None:
        byte = self._byte()
        if byte not in b'bfnrt\\/"u':
            raise self._invalid("in string escape code")
        self._at += 1
        for _ in range(4 if byte == ord("u") else 0):
            if self._byte() not in _HEX:
                raise self._invalid("in \\u hexadecimal character escape")
            self._at += 1

    def _literal(self, word: bytes) -> None:
        for expected in word:
            if self._byte() != expected:
                raise self._invalid(f"in literal {word.decode()} (expecting '{chr(expected)}')")
            self._at += 1

    def _number(self) -> None:
        if self._byte() == ord("-"):
            self._at += 1
        if self._byte() == ord("0"):
            self._at += 1
        else:
            self._digits("in numeric literal")
        if self._peek() == ord("."):
            self._at += 1
            self._digits("after decimal point in numeric literal")
        if self._peek() in (ord("e"), ord("E")):
            self._at += 1
            if self._byte() in b"+-":
                self._at += 1
            self._digits("in exponent of numeric literal")

    def _digits(self, where: str) -> None:
        if self._byte() not in _DIGITS:
            raise self._invalid(where)
        while (byte := self._peek()) is not None and byte in _DIGITS:
            self._at += 1

    def _skip_space(self) -> bool:
        """Whether anything but space is left."""
        while (byte := self._peek()) is not None and byte in _SPACE:
            self._at += 1
        return self._peek() is not None

    def _next(self) -> int:
        """The next byte that is no space, which stays unread."""
        self._skip_space()
        return self._byte()

    def _byte(self) -> int:
        if self._at >= len(self._data):
            raise InvalidArgument("unexpected end of JSON input")
        return self._data[self._at]

    def _peek(self) -> int | None:
        return self._data[self._at] if self._at < len(self._data) else None

    def _invalid(self, where: str) -> InvalidArgument:
        return InvalidArgument(f"invalid character {_quoted(self._data[self._at])} {where}")


def _quoted(byte: int) -> str:
    """A byte in Go's single quotes; one beyond ASCII is shown as the character of that number."""
    named = {
        0x27: "\\'",
        0x5C: "\\\\",
        7: "\\a",
        8: "\\b",
        9: "\\t",
        10: "\\n",
        11: "\\v",
        12: "\\f",
        13: "\\r",
    }
    character = chr(byte)
    if byte in named:
        character = named[byte]
    elif byte < 0x20 or byte == 0x7F:
        character = f"\\x{byte:02x}"
    elif 0x80 <= byte < 0xA1 or byte == 0xAD:
        character = f"\\u{byte:04x}"
    return f"'{character}'"
