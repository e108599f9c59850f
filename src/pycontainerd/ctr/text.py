"""What several commands read from their arguments and print the same way."""

from __future__ import annotations

import os
import sys

from pycontainerd.ctr.flags import BOOL, STRING, Flag
from pycontainerd.lib import log

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT_FLAG = Flag("format", STRING, 'how to print the list: "table" or "json"', default="table")
SYNC_FS_FLAG = Flag("sync-fs", BOOL, "wait until what is unpacked is on the disk")
SNAPSHOTTER_FLAG = Flag(
    "snapshotter",
    STRING,
    "name of the snapshotter; empty for the daemon's usual one",
    env="CONTAINERD_SNAPSHOTTER",
)


def labels_from(arguments: Iterable[str]) -> dict[str, str]:
    """`key=value` arguments; one without `=` means `key=true`, as ctr takes them."""
    labels: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        labels[key] = value if equals else "true"
    return labels


def warn(message: str, **fields: object) -> None:
    """One logrus line on stderr (whole seconds, as ctr prints them)."""
    _log("warning", message, fields)


def inform(message: str, **fields: object) -> None:
    """One logrus info line on stderr."""
    _log("info", message, fields)


def trace(message: str, **fields: object) -> None:
    """One logrus debug line on stderr."""
    _log("debug", message, fields)


def complain(message: str, **fields: object) -> None:
    """One logrus error line on stderr."""
    _log("error", message, fields)


def _log(level: str, message: str, fields: dict[str, object]) -> None:
    said = f" msg={log.quote(message)}" if message else ""
    head = f'time="{log.format_time(nanos=False)}" level={level}{said}'
    sys.stdout.flush()
    sys.stderr.write(head + "".join(f" {key}={log.quote(fields[key])}" for key in sorted(fields)) + "\n")


def os_text(error: OSError, verb: str = "open") -> str:
    """An OSError in Go's words: `open /x: no such file or directory`."""
    if error.strerror is None:
        return str(error)
    text = error.strerror[:1].lower() + error.strerror[1:]
    return f"{verb} {os.fsdecode(error.filename)}: {text}" if error.filename is not None else text
