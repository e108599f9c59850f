"""A value with its type URL: google.protobuf.Any as the stores keep it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TypedValue:
    """Opaque to the daemon: specs, runtime options and extensions belong to clients and shims."""

    type_url: str = ""
    value: bytes = b""
