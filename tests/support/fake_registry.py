"""A registry that lies, stalls, breaks off or asks for tokens, as a test tells it to; it writes down every request.

Headers of an answer that order the server about: `X-Cut` closes the connection after the body, `X-Stall` sends the body
and then nothing until the test is over, `X-Reset` resets the connection after the body.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from support.http_server import serving

if TYPE_CHECKING:
    import ssl

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
        self.over = threading.Event()
        # Uploads: what came so far; the next ones break off after so many bytes; what can be mounted from where.
        self.uploads: dict[str, bytearray] = {}
        self.cuts: list[int] = []
        self.mountable: set[tuple[str, str]] = set()

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
        path, _, query = request.path.partition("?")
        if "/blobs/uploads/" in path:
            return self._upload(request, path, dict(parse_qsl(query)))
        name = path.rpartition("/")[2]
        if request.method == "PUT":
            digest = self.add_blob(request.body)
            self.tags[name] = (request.headers["content-type"], request.body)
            return 201, {"Docker-Content-Digest": digest}, b""
        if name in self.tags:
            kind, data = self.tags[name]
        elif name in self.blobs:
            kind, data = self._kind(name), self.blobs[name]
        else:
            return 404, {}, b"{}"
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        return 200, {"Content-Type": kind, "Docker-Content-Digest": digest}, data

    def _upload(self, request: Request, path: str, query: dict[str, str]) -> Answer:
        if request.method == "POST":
            if (query.get("from", ""), query.get("mount", "")) in self.mountable:
                return 201, {"Location": f"/v2/blobs/{query['mount']}"}, b""
            name = f"u{len(self.uploads)}"
            self.uploads[name] = bytearray()
            return 202, {"Location": f"{path}{name}?state=s0"}, b""
        name = path.rpartition("/")[2]
        if name not in self.uploads:
            return 404, {}, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}'
        data = self.uploads[name]
        data += request.body
        where = {"Location": f"{path}?state=s{len(data)}", "Range": f"0-{len(data) - 1}"}
        if request.method != "PUT":
            return (204 if request.method == "GET" else 202), where, b""
        digest = self.add_blob(bytes(data))
        if digest != query.get("digest"):
            return (
                400,
                {},
                b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}',
            )
        return 201, {"Docker-Content-Digest": digest}, b""

    def break_off(self, path: str, body: bytes) -> None:
        """Keeps what came of an upload before its connection broke."""
        self.uploads.get(path.partition("?")[0].rpartition("/")[2], bytearray()).extend(body)

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
def fake_registry(tls: ssl.SSLContext | None = None) -> Iterator[FakeRegistry]:
    """A running fake on 127.0.0.1; its `address` is host:port. With `tls` it speaks https."""
    fake = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if self.command in {"PUT", "PATCH"} and "/uploads/" in self.path and fake.cuts:
                fake.break_off(self.path, self.rfile.read(fake.cuts.pop(0)))
                self._reset()
                return
            body = self.rfile.read(length)
            headers = {key.lower(): value for key, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            fake.requests.append(request)
            status, extra, data = fake.answer(request)
            self.send_response(status)
            sizes = {"Content-Length": str(len(data))} if isinstance(data, bytes) else {}
            for key, value in {**sizes, **extra}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                for part in [data] if isinstance(data, bytes) else data:
                    self.wfile.write(part)
            self.wfile.flush()
            if "X-Stall" in extra:
                fake.over.wait(60)
            if "X-Reset" in extra:
                self._reset()
            if "X-Cut" in extra or "X-Stall" in extra:
                self.close_connection = True

        def _reset(self) -> None:
            """The next close sends RST. Man: socket(7), SO_LINGER"""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.rfile.close()
            self.connection.close()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Quiet: what clients break off is what tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        # The handshake is each connection's own: one that fails must not end the server.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with serving(server) as fake.address:
        try:
            yield fake
        finally:
            fake.over.set()
