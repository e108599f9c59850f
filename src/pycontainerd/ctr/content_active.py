"""`ctr content active`: ingests under way, from the daemon, or with --root from a content store's own files.

Spec: containerd content/local (ingest/<id>/{ref,startedat,data})
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from pycontainerd.ctr.command import Call

_MAX_FILE: Final = 64 << 10


def find(call: Call) -> Iterator[tuple[str, int, float]]:
    """(ref, bytes so far, start in seconds since the epoch) of the ingests whose ref matches the first argument."""
    root = call.flags.text("root")
    pattern = call.argument(0)
    return _from_files(root, pattern) if root else _from_daemon(call, pattern)


def _from_daemon(call: Call, pattern: str) -> Iterator[tuple[str, int, float]]:
    from pycontainerd.client import content
    from pycontainerd.ctr import session

    timeout_s = call.flags.number("timeout") / 1e9
    with session.connect(call) as client:
        found = content.statuses(client, [f"ref~={pattern}"] if pattern else [], timeout_s=timeout_s)
    for status in found:
        yield status.ref, status.offset, status.started_at.seconds + status.started_at.nanos / 1e9


def _from_files(root: str, pattern: str) -> Iterator[tuple[str, int, float]]:
    import re

    from pycontainerd.lib.errdefs import InvalidArgument

    try:
        matches = re.compile(pattern).search
    except re.error as error:
        raise InvalidArgument(f"bad expression {pattern}: {error}") from error
    folder = f"{root}/ingest"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        try:
            ref = _read(f"{folder}/{name}/ref")
            size = os.stat(f"{folder}/{name}/data").st_size
            started_at = _seconds(_read(f"{folder}/{name}/startedat"))
        except FileNotFoundError:
            continue  # it ended while we looked
        if matches(ref):
            yield ref, size, started_at


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(_MAX_FILE).decode("utf-8", "surrogateescape")


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
