"""Which proxy a request goes through, read from the environment as every Go program reads it.

    HTTP_PROXY, HTTPS_PROXY   by the scheme of the request: http://[user:password@]host[:port], https://..., or host[:port]
    NO_PROXY                  what is asked directly, separated by commas: * for everything, an address, a network, a domain
                              with what is below it, .domain for only that; an address or a domain may have a port

The names count in small letters where they aren't there in capital ones. This machine itself is never asked through one.

Spec: golang.org/x/net/http/httpproxy
"""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS: Final = {"http": 80, "https": 443}
_CGI: Final = "refusing to use HTTP_PROXY value in CGI environment; see golang.org/s/cgihttpproxy"


class Proxy:
    """One proxy. `url` is without what is secret; `login` is user:password, or empty."""

    __slots__ = ("address", "login", "url")

    def __init__(self, scheme: str, address: str, login: str) -> None:
        self.url = f"{scheme}://{address}"
        self.address = address
        self.login = login


def proxy_for(scheme: str, address: str, environ: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy for requests to host[:port]; None for none. InvalidArgument or Unimplemented for one that can't be used."""
    name = f"{scheme.upper()}_PROXY"
    value = _get(environ, name)
    if not value or _is_direct(scheme, address, _get(environ, "NO_PROXY")):
        return None
    if name == "HTTP_PROXY" and environ.get("REQUEST_METHOD"):
        raise InvalidArgument(_CGI, hint="a web server sets HTTP_PROXY to what its clients send")
    return _parse(name, value)


def _get(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower(), "")


def _parse(name: str, value: str) -> Proxy:
    # Without the value: it may hold a password.
    bad = InvalidArgument(f"{name} is not the address of a proxy", hint="http://[user:password@]host[:port]")
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise bad from None
    if not host or any(letter.isspace() for letter in value):
        raise bad
    if parts.scheme.startswith("socks"):
        raise Unimplemented(
            f"{name}: proxies of the kind {parts.scheme} are not supported: not implemented",
            hint="most of them speak HTTP on another port",
        )
    if parts.scheme not in _PORTS:
        raise InvalidArgument(f"{name}: {parts.scheme} is not a kind of proxy", hint="http or https")
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    shown = f"[{host}]" if ":" in host else host
    return Proxy(parts.scheme, f"{shown}:{port}", "" if login == ":" else login)


def _is_direct(scheme: str, address: str, no_proxy: str) -> bool:
    host, port = _split(address)
    port = port or str(_PORTS[scheme])
    ip = _ip(host)
    if host == "localhost" or (ip is not None and ip.is_loopback):
        return True
    return any(_matches(word.strip().lower(), host, port, ip) for word in no_proxy.split(","))


def _matches(word: str, host: str, port: str, ip: Address | None) -> bool:
    """Whether one word of NO_PROXY means the host; one that means nothing doesn't."""
    if word == "*":
        return True
    if "/" in word:
        return ip is not None and _is_in(ip, word)
    name, its_port = _split(word)
    if not name or its_port not in ("", port):
        return False
    its_ip = _ip(name)
    if its_ip is not None:
        return ip == its_ip
    domain = name.removeprefix("*")
    return host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith(f".{domain}")


def _split(address: str) -> tuple[str, str]:
    """host and port of host[:port], [address]:port or an address, in small letters."""
    address = address.lower()
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = address.rpartition(":") if address.count(":") == 1 else (address, "", "")
    return host, port


def _ip(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_in(ip: Address, network: str) -> bool:
    try:
        return ip in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
