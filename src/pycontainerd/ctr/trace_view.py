"""`run --trace`: the tree of steps of one command, put together from every process that took part.

Each process appends its finished spans to `$PYCONTAINERD_TRACE_DIR/<pid>.jsonl`. Without that variable only this
process's own steps (and those of a daemon it starts) can be shown.
"""

from __future__ import annotations

import os
import sys
import time

from pycontainerd.ctr import LOADED_OS_NANOS, main
from pycontainerd.lib import launcher, trace

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final

    from pycontainerd.ctr.command import Call

_SETTLE_S: Final = 0.1  # the shim's last spans are written after its answer


def traced(call: Call, run: Callable[[Call], int]) -> int:
    """Runs a command and prints its tree on stderr, whether it succeeds or not."""
    folder = os.environ.get(trace.DIR_ENV, "")
    own = "" if folder else _make_folder()
    if own:
        os.environ[trace.DIR_ENV] = own  # for a daemon that this command starts
        trace.open_sink(own)
    with trace.span("run") as root:
        root.start_nanos = _record_beginning()
        try:
            return run(call)
        finally:
            total = time.monotonic_ns() - root.start_nanos
            time.sleep(_SETTLE_S)
            spans = [span for span in _read(folder or own) if span["trace_id"] == root.trace_id]
            sys.stderr.write("".join(_lines(spans, root.span_id, total)))
            if own:
                _remove(own)


def _record_beginning() -> int:
    """What came before this command could look on, as two steps; when the first of them began."""
    marks = (launcher.BEGAN_NANOS, LOADED_OS_NANOS, main.BEGAN_NANOS, time.monotonic_ns())
    names = ("load os", "load pyctr", "parse command line")
    for name, began, ended in zip(names, marks, marks[1:], strict=False):
        trace.record(name, began, ended - began)
    return marks[0]


def _make_folder() -> str:
    folder = f"{os.environ.get('TMPDIR') or '/tmp'}/pycontainerd-trace-{os.urandom(8).hex()}"
    os.mkdir(folder, 0o700)  # fails on a name that somebody planted
    return folder


def _remove(folder: str) -> None:
    for name in os.listdir(folder):
        os.unlink(f"{folder}/{name}")
    os.rmdir(folder)


def _read(folder: str) -> Iterator[dict[str, Any]]:
    import json

    for name in sorted(os.listdir(folder)):
        if not name.endswith(".jsonl"):
            continue
        with open(f"{folder}/{name}", encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):  # a line being written now is left out
                    yield json.loads(line)


def _lines(spans: list[dict[str, Any]], root_id: str, total_nanos: int) -> Iterator[str]:
    known = {span["span_id"] for span in spans}
    children: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda span: span["start_nanos"]):
        parent = span["parent_id"] if span["parent_id"] in known else root_id
        children.setdefault(parent, []).append(span)
    yield f"{total_nanos / 1e6:9.2f} ms  run\n"
    stack = [(span, 1) for span in reversed(children.get(root_id, []))]
    while stack:
        span, depth = stack.pop()
        yield _line(span, depth)
        below = children.get(span["span_id"], [])
        if len(below) > 1:  # what was waited for stands beside the wait, and says more
            below = [child for child in below if child["name"] != trace.WAIT]
        stack += [(child, depth + 1) for child in reversed(below)]


def _line(span: dict[str, Any], depth: int) -> str:
    attributes = " ".join(f"{key}={value}" for key, value in span["attributes"].items())
    error = f"  FAILED: {span['error']}" if span["error"] else ""
    return f"{span['duration_nanos'] / 1e6:9.2f} ms  {'  ' * depth}{span['name']} {attributes} [{span['pid']}]{error}\n"
