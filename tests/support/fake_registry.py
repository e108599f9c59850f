"""A registry that lies, stalls or asks for tokens, as a test tells it to; it writes down every request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]  # an iterator's length goes into the headers
Rule = Callable[["Request"], Answer | None]


class Request:
    """What came in."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body


class FakeRegistry:
    """Serves blobs and tagged documents of memory; `rule` may answer first."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, tuple[str, bytes]] = {}
        self.rule: Rule = lambda request: None
        self.address = ""

    def add_blob(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def add_document(self, tag: str, document: dict[str, Any]) -> tuple[str, int]:
        data = json.dumps(document).encode()
        digest = self.add_blob(data)
        self.tags[tag] = (document.get("mediaType", ""), data)
        return digest, len(data)

    def answer(self, request: Request) -> Answer:
        ruled = self.rule(request)
        if ruled is not None:
            return ruled
        name = request.path.partition("?")[0].rpartition("/")[2]
        if name in self.tags:
            kind, data = self.tags[name]
        elif name in self.blobs:
            kind, data = self._kind(name), self.blobs[name]
        else:
            return 404, {}, b"{}"
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        return 200, {"Content-Type": kind, "Docker-Content-Digest": digest}, data

    def _kind(self, digest: str) -> str:
        return next(
            (kind for kind, data in self.tags.values() if data == self.blobs[digest]),
            "application/octet-stream",
        )

    def credentials_seen(self) -> list[str]:
        """Every Authorization header and every body that came."""
        headers = [
            request.headers["authorization"]
            for request in self.requests
            if "authorization" in request.headers
        ]
        return headers + [request.body.decode() for request in self.requests if request.body]


@contextlib.contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """A running fake on 127.0.0.1; its `address` is host:port."""
    fake = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {key.lower(): value for key, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            fake.requests.append(request)
            status, extra, data = fake.answer(request)
            self.send_response(status)
            length = {"Content-Length": str(len(data))} if isinstance(data, bytes) else {}
            for key, value in {**length, **extra}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                for part in [data] if isinstance(data, bytes) else data:
                    self.wfile.write(part)
            if "X-Cut" in extra:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = _serve  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
