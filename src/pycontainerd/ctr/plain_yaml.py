"""The YAML of configuration files: mappings, lists and plain values, in blocks or (as JSON) in braces; every value is a text.

Anchors, tags and texts over several lines are refused: no file that is read here has a use for them.
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_NOT_HERE = ("&", "*", "!", "|", ">", "%", "@", "`", "---", "? ")


class _Line:
    __slots__ = ("indent", "number", "text")

    def __init__(self, number: int, indent: int, text: str) -> None:
        self.number = number
        self.indent = indent
        self.text = text


def parse(document: str) -> Any:
    """Nested dicts and lists of texts; InvalidArgument with the line for what isn't understood."""
    if document.lstrip()[:1] in {"{", "["}:
        import json

        try:
            return _texts(json.loads(document))
        except ValueError as error:
            raise InvalidArgument(f"it is not JSON: {error}") from error
    lines = [line for number, raw in enumerate(document.splitlines(), 1) if (line := _line(number, raw))]
    if not lines:
        return {}
    value, end = _block(lines, 0)
    if end < len(lines):
        raise _bad(lines[end], "it is indented like nothing above it")
    return value


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _texts(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_texts(one) for one in value]
    return "" if value is None else str(value)


def _line(number: int, raw: str) -> _Line | None:
    text = raw.lstrip(" ")
    cut = 0 if text.startswith("#") else text.find(" #")
    text = (text if cut < 0 else text[:cut]).rstrip()
    line = _Line(number, len(raw) - len(raw.lstrip(" ")), text)
    if text.startswith("\t"):
        raise _bad(line, "a tab indents it")
    return line if text else None


def _bad(line: _Line, why: str) -> InvalidArgument:
    return InvalidArgument(f'line {line.number} "{line.text}" is not understood: {why}')


def _block(lines: Sequence[_Line], at: int) -> tuple[Any, int]:
    """The value that begins on a line, and the place of the first line after it."""
    return _list(lines, at) if _is_item(lines[at]) else _mapping(lines, at)


def _is_item(line: _Line) -> bool:
    return line.text == "-" or line.text.startswith("- ")


def _list(lines: Sequence[_Line], at: int) -> tuple[list[Any], int]:
    indent = lines[at].indent
    found: list[Any] = []
    while at < len(lines) and lines[at].indent == indent and _is_item(lines[at]):
        line = lines[at]
        rest = line.text[1:].lstrip()
        if rest and _key(rest) is None:
            found.append(_value(line, rest))
            at += 1
            continue
        # What follows the dash is the first line of a value that is indented as far as it stands.
        inner = [_Line(line.number, line.indent + len(line.text) - len(rest), rest)] if rest else []
        inner += lines[at + 1 :]
        if not inner or inner[0].indent <= indent:
            raise _bad(line, "nothing follows the dash")
        value, used = _block(inner, 0)
        found.append(value)
        at += used if rest else used + 1
    return found, at


def _mapping(lines: Sequence[_Line], at: int) -> tuple[dict[str, Any], int]:
    indent = lines[at].indent
    found: dict[str, Any] = {}
    while at < len(lines) and lines[at].indent == indent and not _is_item(lines[at]):
        line = lines[at]
        key = _key(line.text)
        if key is None:
            raise _bad(line, "it is neither KEY: VALUE nor a list's - VALUE")
        name, rest = _value(line, key[0]), key[1]
        if name in found:
            raise _bad(line, "the key stands there twice")
        at += 1
        if rest:
            found[name] = _value(line, rest)
        elif at < len(lines) and (
            lines[at].indent > indent or (lines[at].indent == indent and _is_item(lines[at]))
        ):
            found[name], at = _block(lines, at)
        else:
            found[name] = ""
    return found, at


def _key(text: str) -> tuple[str, str] | None:
    """KEY and what follows it; None for a line that isn't `KEY: VALUE`."""
    name, colon, rest = text.partition(": ")
    if not colon and text.endswith(":"):
        return text[:-1], ""
    return (name.rstrip(), rest.strip()) if colon and name[:1] not in {'"', "'", "["} else None


def _value(line: _Line, text: str) -> Any:
    if text.startswith("["):
        if not text.endswith("]"):
            raise _bad(line, "the list doesn't end on its line")
        return [_value(line, one.strip()) for one in text[1:-1].split(",") if one.strip()]
    if text[:1] in {'"', "'"}:
        if len(text) < 2 or text[-1] != text[0] or "\\" in text:
            raise _bad(line, "the quoted text doesn't end on its line, or has escapes")
        return text[1:-1]
    if text.startswith(_NOT_HERE) or text.startswith("{"):
        raise _bad(line, "only plain values are taken")
    return text
