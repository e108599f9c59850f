"""HTTP/1.1 for looking inside a process: heads and answers as bytes, and the paths that debug sockets have.

The paths are those of Go's net/http/pprof and expvar that have a meaning here; profiles in Go's format don't.

Spec: RFC 9112; the answers to unknown paths are net/http's
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json; charset=utf-8"
HEAD_LIMIT: Final = 16 << 10
REQUEST_TIMEOUT_S: Final = 10.0
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    501: "Not Implemented",
}

INDEX: Final = b"""stacks of all threads and tasks   /debug/pprof/goroutine
command line                      /debug/pprof/cmdline
numbers of the interpreter        /debug/vars
"""
PROFILES: Final = ("allocs", "block", "heap", "mutex", "profile", "symbol", "threadcreate", "trace")


class Answer:
    """What is answered to one request."""

    __slots__ = ("body", "content_type", "status")

    def __init__(self, body: bytes, content_type: str = TEXT, status: int = 200) -> None:
        self.body = body
        self.content_type = content_type
        self.status = status


NO_PROFILE: Final = Answer(b"a Go profile cannot be made here: see /debug/pprof/goroutine\n", TEXT, 501)
BAD_REQUEST: Final = Answer(b"400 Bad Request", TEXT, 400)
NOT_FOUND: Final = Answer(b"404 page not found\n", TEXT, 404)
WRONG_METHOD: Final = Answer(b"Method Not Allowed\n", TEXT, 405)


def parse_head(head: bytes) -> tuple[str, str]:
    """Method and target; empty ones for what is no HTTP request."""
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        return "", ""
    return words[0], words[1]


def format_answer(answer: Answer, *, with_body: bool) -> bytes:
    """The bytes of an answer, after which the connection is closed."""
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\nX-Content-Type-Options: nosniff\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (answer.body if with_body else b"")
