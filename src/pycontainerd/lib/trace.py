"""Spans of every step that takes time or can fail, cheap enough to be always on.

A span is a row in a bounded ring: (trace_id, span_id, parent_id, name, start_nanos, duration_nanos, attributes, error).
Context crosses process borders as a W3C traceparent: gRPC/ttrpc metadata key `traceparent`, environment TRACEPARENT.
Finished spans stay in this process (`finished()`). Whoever looks on names a folder, in the environment for a process or
in the metadata key `pycontainerd-trace-dir` for one request: every process that takes part appends its finished spans
there, one JSON line each, to `<dir>/<pid>.jsonl`, which is how one tree is put together from five programs.

Spec: W3C trace-context
"""

from __future__ import annotations

import os
from _collections import deque  # collections itself costs 1 ms
from time import monotonic_ns

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextvars import ContextVar
    from types import TracebackType
    from typing import Final

    Attribute = str | int | float | bool | None
else:
    from _contextvars import ContextVar  # the C module: contextvars itself imports collections.abc

RING_SIZE: Final = 4096
HEADER: Final = "traceparent"
ENV: Final = "TRACEPARENT"
DIR_HEADER: Final = "pycontainerd-trace-dir"
DIR_ENV: Final = "PYCONTAINERD_TRACE_DIR"
WAIT: Final = "wait for answer"  # on another program, whose own steps stand beside this one


class Span:
    """One step: a context manager that measures itself. Read-only for callers after exit."""

    __slots__ = (
        "_token",
        "attributes",
        "duration_nanos",
        "error",
        "name",
        "parent_id",
        "span_id",
        "start_nanos",
        "trace_id",
    )

    def __init__(self, name: str, attributes: dict[str, Attribute]) -> None:
        self.name = name
        self.attributes = attributes
        self.trace_id = ""
        self.span_id = ""
        self.parent_id = ""
        self.start_nanos = 0
        self.duration_nanos = 0
        self.error = ""

    def __enter__(self) -> Span:
        self.trace_id, self.parent_id = _parent()
        self.span_id = _next_span_id()
        self._token = _current.set(self)
        self.start_nanos = monotonic_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.duration_nanos = monotonic_ns() - self.start_nanos
        if error is not None:
            self.error = str(error) or type(error).__name__
        try:
            _current.reset(self._token)
        except ValueError:  # a generator that was closed in another context than it began in
            _current.set(None)
        _ring.append(self)
        directory = _sink.get()
        if directory:
            _write(self, directory)


class _State:
    """Per process: the ids given out."""

    __slots__ = ("counter", "prefix")

    def __init__(self) -> None:
        self.counter = 0
        self.prefix = ""


_state = _State()
# Per context: every thread and every asyncio task has a chain of its own, so that a daemon's requests don't mix.
_current: ContextVar[Span | None] = ContextVar("span", default=None)
_remote: ContextVar[tuple[str, str] | None] = ContextVar("remote", default=None)
_sink: ContextVar[str] = ContextVar("sink", default="")
_ring: deque[Span] = deque(maxlen=RING_SIZE)


def _parent() -> tuple[str, str]:
    """(trace_id, span_id) of what runs now; a new trace when nothing does."""
    span = _current.get()
    if span is not None:
        return span.trace_id, span.span_id
    return _remote.get() or (_new_id(16), "")


def _new_id(size: int) -> str:
    return os.urandom(size).hex()


def _next_span_id() -> str:
    if not _state.prefix:
        _state.prefix = _new_id(4)
    _state.counter += 1
    return f"{_state.prefix}{_state.counter & 0xFFFFFFFF:08x}"


def span(name: str, **attributes: Attribute) -> Span:
    """A new span, to be used as `with span("mount", target=path):`. About a microsecond."""
    return Span(name, attributes)


def record(
    name: str, start_nanos: int, duration_nanos: int, parent: Span | None = None, **attributes: Attribute
) -> None:
    """Adds a span that was measured elsewhere (a pre-exec child's steps), below `parent` or else the current one."""
    done = Span(name, attributes)
    done.trace_id, done.parent_id = _parent() if parent is None else (parent.trace_id, parent.span_id)
    done.span_id = _next_span_id()
    done.start_nanos, done.duration_nanos = start_nanos, duration_nanos
    _ring.append(done)
    directory = _sink.get()
    if directory:
        _write(done, directory)


def traceparent() -> str:
    """The W3C header for the step that is running now; empty when nothing is."""
    span = _current.get()
    context = (span.trace_id, span.span_id) if span is not None else _remote.get()
    return f"00-{context[0]}-{context[1]}-01" if context else ""


def parse_traceparent(value: str) -> tuple[str, str] | None:
    """(trace_id, span_id) of a header, or None when it isn't one: a foreign header never fails a request."""
    parts = value.split("-")
    if len(parts) < 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    if set(parts[1] + parts[2]) - set("0123456789abcdef"):
        return None
    return parts[1], parts[2]


def adopt(value: str) -> None:
    """Makes the spans of this context (in a daemon: this request) children of a caller's; an empty or foreign value
    starts a trace of its own."""
    _remote.set(parse_traceparent(value))


def adopt_metadata(metadata: Mapping[str, str]) -> None:
    """Makes the spans of this context children of the caller's request, and tells them where it looks on."""
    adopt(metadata.get(HEADER, ""))
    _sink.set(metadata.get(DIR_HEADER, ""))


def metadata() -> dict[str, str]:
    """What a request carries so that the other side's spans belong to the step that is running now."""
    parent = traceparent()
    if not parent:
        return {}
    directory = _sink.get()
    return {HEADER: parent, DIR_HEADER: directory} if directory else {HEADER: parent}


def environment() -> dict[str, str]:
    """The same for a child process's environment."""
    parent = traceparent()
    if not parent:
        return {}
    directory = _sink.get()
    return {ENV: parent, DIR_ENV: directory} if directory else {ENV: parent}


def start(environ: Mapping[str, str]) -> None:
    """Called once at the top of every program: takes the parent and the folder from the environment."""
    adopt(environ.get(ENV, ""))
    open_sink(environ.get(DIR_ENV, ""))


def open_sink(directory: str) -> None:
    """Appends the spans that finish in this context to `<directory>/<pid>.jsonl` from now on; "" ends that."""
    _sink.set(directory)


def after_fork() -> None:
    """In a forked child: same parent span, own ids and own file."""
    span = _current.get()
    if span is not None:
        _remote.set((span.trace_id, span.span_id))
    _current.set(None)
    _state.prefix = ""
    _ring.clear()


def finished() -> Iterable[Span]:
    """The last finished spans of this process, oldest first."""
    return tuple(_ring)


def _write(done: Span, directory: str) -> None:
    # Opened for each line: a daemon traces many requests into many folders, and a span is rarely looked at.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(f"{directory}/{os.getpid()}.jsonl", flags, 0o600)
    except OSError:
        return  # whoever looked on has gone; that is no reason to fail what is traced
    try:
        os.write(fd, _format(done).encode())
    finally:
        os.close(fd)


def _format(done: Span) -> str:
    """The span as a JSON line; json itself costs 3 ms to import, which the next span would show."""
    from _json import encode_basestring_ascii as quoted

    def value(item: Attribute) -> str:
        if isinstance(item, (bool, int, float)):
            return repr(item).lower()
        return "null" if item is None else quoted(str(item))

    attributes = ",".join(f"{quoted(key)}:{value(item)}" for key, item in done.attributes.items())
    return (
        f'{{"trace_id":"{done.trace_id}","span_id":"{done.span_id}","parent_id":"{done.parent_id}",'
        f'"name":{quoted(done.name)},"start_nanos":{done.start_nanos},"duration_nanos":{done.duration_nanos},'
        f'"pid":{os.getpid()},"attributes":{{{attributes}}},"error":{quoted(done.error)}}}\n'
    )
