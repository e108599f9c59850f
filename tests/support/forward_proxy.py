"""A forward proxy for HTTP: absolute requests and CONNECT, names looked up in its own table, everything written down."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from support.http_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOP_BY_HOP = {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "proxy-authorization"}


class ForwardProxy:
    """`names` says where host:port leads; `requests` are "METHOD target" in order; `login` is user:password, if it asks for one."""

    def __init__(self) -> None:
        self.address = ""
        self.names: dict[str, str] = {}
        self.requests: list[str] = []
        self.login = ""

    def admits(self, header: str) -> bool:
        """Whether a Proxy-Authorization header is the right one."""
        return not self.login or header == "Basic " + base64.b64encode(self.login.encode()).decode()


@contextlib.contextmanager
def forward_proxy() -> Iterator[ForwardProxy]:
    """One on a port of 127.0.0.1."""
    proxy = ForwardProxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            """Tests read what was written down."""

        def _is_refused(self) -> bool:
            proxy.requests.append(f"{self.command} {self.path}")
            if proxy.admits(self.headers.get("Proxy-Authorization", "")):
                return False
            self.send_response(407)
            self.send_header("Proxy-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True

        def do_CONNECT(self) -> None:
            if self._is_refused():
                return
            host, _, port = proxy.names.get(self.path, self.path).rpartition(":")
            with socket.create_connection((host, int(port)), timeout=20) as far:
                self.send_response(200)
                self.end_headers()
                _copy_both(self.connection, far)
            self.close_connection = True

        def do_GET(self) -> None:
            if self._is_refused():
                return
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
            far = HTTPConnection(proxy.names.get(url.netloc, url.netloc), timeout=20)
            with contextlib.closing(far):
                target = url.path + (f"?{url.query}" if url.query else "")
                far.request(self.command, target, self.rfile.read(length), headers)
                answer = far.getresponse()
                body = answer.read()
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in {*_HOP_BY_HOP, "content-length", "date", "server"}:
                        self.send_header(key, value)
                size = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(body))
                self.send_header("Content-Length", size)
                self.end_headers()
                self.wfile.write(body)

    for method in ("HEAD", "POST", "PUT", "PATCH"):
        setattr(Handler, f"do_{method}", Handler.do_GET)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server) as proxy.address:
        yield proxy


def _copy_both(one: socket.socket, other: socket.socket) -> None:
    while True:
        for ready in select.select([one, other], [], [], 20)[0]:
            data = ready.recv(64 << 10)
            if not data:
                return
            (other if ready is one else one).sendall(data)
