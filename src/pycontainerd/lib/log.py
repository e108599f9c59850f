"""logrus-shaped log lines, without stdlib logging (18 ms to import).

Text:  time="2006-01-02T15:04:05.000000000+00:00" level=info msg=word key=value
JSON:  {"level":"info","msg":"...","time":"..."}

Spec: logrus TextFormatter as containerd configures it (RFC3339 with 9 digits), runc --log-format json
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

LEVELS: Final = {
    "trace": 6,
    "debug": 5,
    "info": 4,
    "warning": 3,
    "warn": 3,
    "error": 2,
    "fatal": 1,
    "panic": 0,
}
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+")


def format_time(now: float | None = None, *, nanos: bool = True) -> str:
    """RFC 3339 local time, with Go's nine digits or none."""
    stamp_nanos = time.time_ns() if now is None else int(now * 1e9)
    seconds, fraction = divmod(stamp_nanos, 1_000_000_000)
    local = time.localtime(seconds)
    offset = local.tm_gmtoff
    sign = "+" if offset >= 0 else "-"
    zone = f"{sign}{abs(offset) // 3600:02d}:{abs(offset) % 3600 // 60:02d}" if offset else "Z"
    digits = f".{fraction:09d}" if nanos else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + digits + zone


def quote(value: object) -> str:
    """A field value as logrus prints it: bare when every character is plain, else quoted like Go's %q."""
    text = str(value)
    if text and not set(text) - _PLAIN:
        return text
    # The json package behind this function takes 5 ms to import, which every shim would pay with its first line.
    from _json import encode_basestring

    quoted: str = encode_basestring(text)
    return quoted


def format_text(level: str, message: str, fields: Mapping[str, object]) -> str:
    """One text line without its newline; fields in sorted order, as logrus prints them."""
    head = f'time="{format_time()}" level={level} msg={quote(message)}'
    return head + "".join(f" {key}={quote(fields[key])}" for key in sorted(fields))


def format_json(level: str, message: str, fields: Mapping[str, object]) -> str:
    """One JSON line without its newline; keys sorted, as logrus prints them."""
    from pycontainerd.lib.oci import document

    row = {**{k: v if isinstance(v, (int, float, bool)) else str(v) for k, v in fields.items()}}
    row.update(level=level, msg=message, time=format_time(nanos=False))
    return document.dumps(dict(sorted(row.items())))


class Logger:
    """Writes lines to one borrowed fd. Never raises: a full disk must not fail a container."""

    __slots__ = ("fd", "fields", "format", "level")

    def __init__(
        self,
        fd: int = 2,
        level: str = "info",
        format: str = "text",  # noqa: A002 - runc calls it --log-format
        **fields: object,
    ) -> None:
        self.fd = fd
        self.level = LEVELS[level]
        self.format = format_json if format == "json" else format_text
        self.fields = fields

    @property
    def level_name(self) -> str:
        """What is written at least: a name that can be set again."""
        return next(name for name, number in LEVELS.items() if number == self.level)

    def set_level(self, name: str) -> None:
        """Another level from here on; KeyError for a name that is none."""
        self.level = LEVELS[name]

    def log(self, level: str, message: str, **fields: object) -> None:
        """Writes one line when the level is on."""
        if LEVELS[level] > self.level:
            return
        line = self.format(level, message, {**self.fields, **fields})
        try:
            os.write(self.fd, line.encode("utf-8", "surrogateescape") + b"\n")
        except OSError:
            return  # nowhere left to say it

    def debug(self, message: str, **fields: object) -> None:
        """Level debug."""
        if self.level >= LEVELS["debug"]:
            self.log("debug", message, **fields)

    def info(self, message: str, **fields: object) -> None:
        """Level info."""
        self.log("info", message, **fields)

    def warning(self, message: str, **fields: object) -> None:
        """Level warning."""
        self.log("warning", message, **fields)

    def error(self, message: str, **fields: object) -> None:
        """Level error."""
        self.log("error", message, **fields)
