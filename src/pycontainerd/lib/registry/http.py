"""HTTP for registries: urllib3 with redirects followed by hand, bounded bodies, and retries that know when to stop.

A header that carries a credential never leaves its origin (scheme, host, port): it is dropped on the first redirect to
another one (CVE-2020-15157 and its family). Through which proxy, if any, the environment says (proxies.py).

Runs in: pulling threads; a Connection is shared by them
"""

from __future__ import annotations

import contextlib
import socket
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

import urllib3
from urllib3 import BaseHTTPResponse as Response
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, ProxyError, SSLError

from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import Canceled, ContainerdError, InvalidArgument, Unavailable
from pycontainerd.lib.registry.proxies import proxy_for
from pycontainerd.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pycontainerd.lib.registry.hosts import Host
    from pycontainerd.lib.registry.proxies import Proxy

    # Bytes in memory, or a function that gives them from the start each time a request is sent.
    Body = bytes | Callable[[], Iterable[bytes]] | None

MAX_REDIRECTS: Final = 10
RETRIES: Final = 4
_SMALL_REST: Final = 64 << 10
_MAX_RETRY_AFTER_S: Final = 30.0
_RETRY_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})
_SECRETS: Final = frozenset(
    {"authorization", "cookie", "proxy-authorization", "x-registry-auth", "x-identity-token"}
)
USER_AGENT: Final = f"containerd/{__version__}"


class _Tracked:
    """Mixed into urllib3's connections: each socket is written down when it is there."""

    sockets: weakref.WeakSet[socket.socket]
    sock: socket.socket

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sockets.add(self.sock)


class Connection:
    """A pool of connections by one host's TLS rules; other origins (redirects, token servers) get the default rules."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._own = self._tracked(_pool(host))
        self._foreign: dict[
            str, Any
        ] = {}  # by the proxy they go through; urllib3 bounds how many origins each knows
        self.canceled = False

    def cancel(self) -> None:
        """Makes every further request fail with Canceled, and those under way break off. From any thread."""
        self.canceled = True
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):  # it may have ended by itself
                # Of the plain socket: TLS would take its state away from under the thread that reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _tracked(self, manager: urllib3.PoolManager) -> urllib3.PoolManager:
        """The manager with connections that `cancel` knows of."""
        pools: tuple[tuple[str, Any], ...] = (
            ("http", urllib3.HTTPConnectionPool),
            ("https", urllib3.HTTPSConnectionPool),
        )
        kinds = {}
        for scheme, pool in pools:
            kind = type("Connection", (_Tracked, pool.ConnectionCls), {"sockets": self._sockets})
            kinds[scheme] = type("Pool", (pool,), {"ConnectionCls": kind})
        manager.pool_classes_by_scheme = kinds
        return manager

    def request(self, method: str, url: str, headers: Mapping[str, str], *, body: Body = None) -> Response:
        """One request, redirected and retried; the answer's body isn't read yet. Unavailable when nobody answers.

        A streamed body is sent once: whether it arrived is for the caller to find out. A server that asks for a longer
        pause than we make (Retry-After) gets its answer handed to the caller.
        """
        for attempt in range(RETRIES):
            last = attempt == RETRIES - 1
            try:
                response = self._follow(method, url, dict(headers), body)
            except Unavailable as error:
                if last or callable(body) or not _is_transient(error):
                    raise
                self._pause(0.2 * 2**attempt)
                continue
            if response.status not in _RETRY_STATUS or last or callable(body):
                return response
            wait_s = retry_after_s(response.headers.get("Retry-After", ""))
            if wait_s is not None and wait_s > _MAX_RETRY_AFTER_S:
                return response
            discard(response)
            self._pause(0.2 * 2**attempt if wait_s is None else wait_s)
        raise AssertionError("unreachable")

    def _follow(self, method: str, url: str, headers: dict[str, str], body: Body) -> Response:
        headers = {"User-Agent": USER_AGENT, **headers}
        first = url
        for _ in range(MAX_REDIRECTS):
            response = self._send(method, url, headers, body, first)
            location = response.headers.get("Location", "")
            if response.status not in {301, 302, 303, 307, 308} or not location:
                return response
            discard(response)
            target = join(url, location)
            if origin(target) != origin(url):
                headers = {key: value for key, value in headers.items() if not _stays(key, self._host)}
            if origin(target)[0] == "http" and origin(url)[0] == "https":
                raise InvalidArgument(f"{url} redirects to plain http: refused")
            url = target
        raise Unavailable(f"{method} {first}: more than {MAX_REDIRECTS} redirects")

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body, first: str) -> Response:
        if self.canceled:
            raise Canceled("context canceled")
        pool = self._own if origin(url) == self._host.origin else self._other(*origin(url))
        self._host.watch.sending(method, url, headers)
        with trace.span("http", method=method, url=url.partition("?")[0]):
            try:
                response: Response = pool.request(
                    method,
                    url,
                    body=body() if callable(body) else body,
                    headers=dict(headers),
                    preload_content=False,
                    redirect=False,
                    retries=False,
                    decode_content=False,
                    timeout=urllib3.Timeout(
                        connect=self._host.dial_timeout_s, read=self._host.stall_timeout_s
                    ),
                )
            except (HTTPError, OSError) as error:
                raise request_error(method, first, error) from error
        self._host.watch.received(response)
        return response

    def _other(self, scheme: str, address: str) -> Any:
        proxy = proxy_for(scheme, address)
        key = "" if proxy is None else proxy.url
        if key not in self._foreign:
            # Its own pool: the host's CA, client certificate and skip_verify are for the host alone.
            self._foreign[key] = self._tracked(_manager(proxy, cert_reqs="CERT_REQUIRED"))
        return self._foreign[key]

    def _pause(self, delay_s: float) -> None:
        deadline = time.monotonic() + delay_s
        while time.monotonic() < deadline and not self.canceled:
            time.sleep(min(0.05, delay_s))

    def close(self) -> None:
        """Closes the connections."""
        self._own.clear()
        for manager in self._foreign.values():
            manager.clear()


def read(response: Response, limit: int) -> bytes:
    """At most `limit` bytes of an answer; Unavailable when the connection breaks, stalls or ends too early."""
    parts: list[bytes] = []
    left = limit
    try:
        while left > 0 and (data := response.read(left)):
            parts.append(data)
            left -= len(data)
    except (HTTPError, OSError) as error:
        raise Unavailable(f"connection broke: {error}", step="transfer") from error
    return b"".join(parts)


def retry_after_s(text: str) -> float | None:
    """Seconds of a Retry-After header, given as a number or as a date; None for anything else. Spec: RFC 9110 10.2.3"""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    if not text:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def status_words(response: Response) -> str:
    """`404 Not Found`, as Go prints a status."""
    from http.client import responses

    return f"{response.status} {responses.get(response.status, response.reason or '')}".rstrip()


def discard(response: Response) -> None:
    """Gives the connection back: a small rest of the body is read away, a larger one costs the connection."""
    try:
        response.read(_SMALL_REST)
        if response.read(1):
            response.close()
    except (HTTPError, OSError):
        response.close()
    response.release_conn()


def _pool(host: Host) -> Any:
    import ssl

    if host.scheme == "http":
        return _manager(proxy_for(*host.origin))
    context = ssl.create_default_context()
    try:
        for path in host.ca_files:
            context.load_verify_locations(cafile=path)
        for certificate, key in host.client_certs:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"certificate files of {host.address} can't be loaded: {error}") from error
    if host.skip_verify:
        # Who gives --skip-verify knows; a warning at each request helps nobody.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return _manager(
        proxy_for(*host.origin),
        ssl_context=context,
        assert_hostname=False if host.skip_verify else None,
    )


def _manager(proxy: Proxy | None, **rules: Any) -> Any:
    """Connections, all of them through the proxy if there is one."""
    if proxy is None:
        return urllib3.PoolManager(maxsize=8, **rules)
    headers = urllib3.make_headers(proxy_basic_auth=proxy.login) if proxy.login else None
    return urllib3.ProxyManager(proxy.url, proxy_headers=headers, maxsize=8, **rules)


def origin(url: str) -> tuple[str, str]:
    """(scheme, host:port as written) of a URL, default ports left out."""
    scheme, _, rest = url.partition("://")
    address = rest.partition("/")[0].partition("?")[0].rpartition("@")[2].lower()
    default = ":443" if scheme == "https" else ":80"
    return scheme.lower(), address.removesuffix(default)


def is_secret(name: str) -> bool:
    """Whether a header of this name carries a credential."""
    return name.lower() in _SECRETS or name.lower().endswith("token")


def _stays(name: str, host: Host) -> bool:
    """Whether a header is for the host alone: credentials, and what hosts.toml adds."""
    return is_secret(name) or name in host.headers


def join(base: str, location: str) -> str:
    """Where a Location header leads, seen from `base`; InvalidArgument for anything but http and https."""
    from urllib.parse import urljoin

    target = urljoin(base, location)
    if origin(target)[0] not in {"http", "https"}:
        raise InvalidArgument(f"{base} redirects to {target.partition(':')[0]}: refused")
    return target


def _is_transient(error: ContainerdError) -> bool:
    """A refused or unknown address won't change in a second; a reset connection may."""
    return error.step == "transfer"


def request_error(method: str, url: str, error: Exception) -> Unavailable:
    """Go's words for a request that got no answer, and what to try."""
    shown = f'failed to do request: {method.capitalize()} "{url}": '
    scheme, address = origin(url)
    target = address if ":" in address else f"{address}:{443 if scheme == 'https' else 80}"
    cause: BaseException | None = error.reason if isinstance(error, MaxRetryError) else error
    if isinstance(cause, ProxyError):
        return _proxy_error(shown, scheme, address, cause.original_error)
    text = str(cause)
    if isinstance(cause, NewConnectionError) and "refused" in text:
        return Unavailable(
            f"{shown}dial tcp {target}: connect: connection refused",
            hint=f"is the registry at {address} running?",
            step="dial",
        )
    if "Name or service not known" in text or "name resolution" in text or "Failed to resolve" in text:
        return Unavailable(
            f"{shown}dial tcp: lookup {address.partition(':')[0]}: no such host",
            hint="is the registry's name right, and the network up?",
            step="dial",
        )
    if isinstance(cause, SSLError):
        reason = (
            "http: server gave HTTP response to HTTPS client"
            if "WRONG_VERSION" in text or "HTTP_REQUEST" in text
            else f"tls: {text}"
        )
        return Unavailable(
            f"{shown}{reason}",
            hint="--plain-http for a registry without TLS; --tlscacert or --hosts-dir for a private CA",
            step="tls",
        )
    return Unavailable(
        f"{shown}{text}", hint="try again; the registry or the network failed", step="transfer"
    )


def _proxy_error(shown: str, scheme: str, address: str, cause: Exception) -> Unavailable:
    """The proxy didn't answer, or wouldn't lead there."""
    proxy = proxy_for(scheme, address)
    where = proxy.address if proxy is not None else "?"
    hint = f"{scheme.upper()}_PROXY names the proxy {where}; NO_PROXY lists what is asked directly"
    text = str(cause)
    if "Tunnel connection failed: " in text:
        words = text.partition("Tunnel connection failed: ")[2].partition(" ")[2]
        return Unavailable(f"{shown}{words}", hint=hint, step="proxy")
    if "refused" in text:
        text = f"dial tcp {where}: connect: connection refused"
    elif "Name or service not known" in text or "name resolution" in text or "Failed to resolve" in text:
        text = f"dial tcp: lookup {where.rpartition(':')[0]}: no such host"
    return Unavailable(f"{shown}proxyconnect tcp: {text}", hint=hint, step="proxy")
