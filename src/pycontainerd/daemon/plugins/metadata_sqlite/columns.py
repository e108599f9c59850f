"""Maps and typed values as column text."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from pycontainerd.daemon.core.typed import TypedValue

if TYPE_CHECKING:
    from collections.abc import Mapping


def dump_map(values: Mapping[str, str]) -> str:
    """A map of strings as JSON, keys sorted."""
    return json.dumps(dict(sorted(values.items())), separators=(",", ":")) if values else "{}"


def load_map(text: str) -> dict[str, str]:
    """The inverse of `dump_map`."""
    return json.loads(text) if text != "{}" else {}


def dump_extensions(values: Mapping[str, TypedValue]) -> str:
    """Typed values as JSON; their bytes in base64."""
    rows = {key: [v.type_url, base64.b64encode(v.value).decode()] for key, v in sorted(values.items())}
    return json.dumps(rows, separators=(",", ":"))


def load_extensions(text: str) -> dict[str, TypedValue]:
    """The inverse of `dump_extensions`."""
    return {key: TypedValue(url, base64.b64decode(value)) for key, (url, value) in json.loads(text).items()}
