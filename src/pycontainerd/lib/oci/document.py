"""Strict JSON for documents from outside: size cap, no duplicate keys, no NaN; and Go-shaped output.

The decoder is the C scanner below the json module, without the module: importing it costs 5 ms (it brings re).

Spec: RFC 8259; encoding/json (HTML escaping, key order as given)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

MAX_BYTES = 16 << 20
_WHITESPACE = " \t\r\n"


class DocumentError(ValueError):
    """The bytes are not the JSON document they should be."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _value in pairs:
            if key in seen:
                raise DocumentError(f"duplicate key {key!r}")
            seen.add(key)
    return found


def _constant(name: str) -> Any:
    raise DocumentError(f"invalid value {name}")


class _Context:
    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_pairs)
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_constant)
    memo: Mapping[str, str] = {}


def _make_scanner() -> Callable[[str, int], tuple[Any, int]]:
    try:
        from _json import make_scanner
    except ImportError:
        import json

        decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)
        return decoder.scan_once  # type: ignore[attr-defined,no-any-return]
    return make_scanner(_Context)  # type: ignore[arg-type]


_scan = _make_scanner()


def loads(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> Any:
    """Decodes one JSON value; DocumentError in Go's words where Go has some."""
    if len(data) > max_bytes:
        raise DocumentError(f"document is larger than {max_bytes} bytes")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"invalid UTF-8 at byte {error.start}") from None
    start = len(text) - len(text.lstrip(_WHITESPACE))
    try:
        value, end = _scan(text, start)
    except RecursionError:
        raise DocumentError("exceeded max depth") from None
    except DocumentError:
        raise
    except (StopIteration, SystemError, ValueError):
        raise DocumentError(_syntax(text, _error_position(text, start))) from None
    if text[end:].strip(_WHITESPACE):
        raise DocumentError(_syntax(text, end))
    return value


def _error_position(text: str, start: int) -> int:
    """Where the text stops being JSON. The scanner says so with json's own error, which must be imported for that."""
    import json

    try:
        _scan(text, start)
    except StopIteration as stop:
        return int(stop.value)
    except json.JSONDecodeError as error:
        return error.pos
    return len(text)


def _syntax(text: str, position: int) -> str:
    rest = text[position:].lstrip(_WHITESPACE)
    if not rest:
        return "unexpected EOF"
    return f"invalid character {rest[0]!r} at byte {len(text[:position].encode())}"


def dumps(value: Any, indent: str = "") -> str:
    """Encodes as Go's encoding/json does: `<`, `>`, `&` and two line separators escaped; with indent, one item a line."""
    if not indent:
        # The C encoder below the json module; what Go escapes can only stand inside strings.
        return _escape("".join(_encode(value, 0)))
    out: list[str] = []
    _write(value, out, indent, "\n")
    return "".join(out)


def _make_encoder() -> Callable[[Any, int], Iterable[str]]:
    from _json import encode_basestring, make_encoder

    def refuse(value: object) -> None:
        raise TypeError(f"{type(value).__name__} is no value of a JSON document")

    encoder: Callable[[Any, int], Iterable[str]] = make_encoder(
        None, refuse, encode_basestring, None, ":", ",", False, False, False
    )
    return encoder


_encode = _make_encoder()


def _escape(text: str) -> str:
    for character in "<>&\u2028\u2029":
        if character in text:
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def quote(text: str) -> str:
    """A JSON string with Go's escapes."""
    from _json import encode_basestring

    return _escape(encode_basestring(text))


def _write(value: Any, out: list[str], indent: str, newline: str) -> None:
    if isinstance(value, str):
        out.append(quote(value))
    elif value is None:
        out.append("null")
    elif value is True or value is False:
        out.append("true" if value else "false")
    elif isinstance(value, (int, float)):
        out.append(str(value))
    elif isinstance(value, dict):
        _write_items([(quote(key) + ": ", item) for key, item in value.items()], "{}", out, indent, newline)
    else:
        _write_items([("", item) for item in value], "[]", out, indent, newline)


def _write_items(
    items: list[tuple[str, Any]], brackets: str, out: list[str], indent: str, newline: str
) -> None:
    if not items:
        out.append(brackets)
        return
    inner = newline + indent
    separator = brackets[0] + inner
    for key, item in items:
        out.append(separator + key)
        _write(item, out, indent, inner)
        separator = "," + inner
    out.append(newline + brackets[1])
