"""JSON in and out without the json package, whose import costs more than everything else the shim starts with.

Spec: RFC 8259
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import _json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Document = dict[str, Any]


class _Context:
    """What the scanner in C asks for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: Mapping[str, str] = {}


_scan = _json.make_scanner(_Context())


def loads(text: str) -> Document:
    """One JSON object. Raises ValueError for anything else."""
    stripped = text.strip(" \t\r\n")
    try:
        value, end = _scan(stripped, 0)
    except StopIteration as e:
        raise ValueError(f"unexpected end of JSON at {e.value}") from e
    if end != len(stripped) or not isinstance(value, dict):
        raise ValueError("not one JSON object")
    return value


def dumps(fields: Mapping[str, str | int | bool]) -> str:
    """A flat object in the given order, as Go writes it: no spaces."""
    return "{" + ",".join(f"{_json.encode_basestring_ascii(key)}:{_value(value)}" for key, value in fields.items()) + "}"


def _value(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _json.encode_basestring_ascii(value)
