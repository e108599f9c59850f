"""Which hosts serve a registry's name, and how each is spoken to: defaults, hosts.toml, docker's certs.d.

Looked up below --hosts-dir: `<host_port_>`, `<host:port>`, `_default`. Without hosts.toml the same folder may hold
docker's `*.crt`, `*.cert` and `*.key`.

Spec: containerd docs/hosts.md
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.lib.errdefs import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from urllib3 import BaseHTTPResponse

    from pycontainerd.lib.registry.credentials import Credential

STALL_TIMEOUT_S: Final = 60.0
DOCKER_HUB: Final = "docker.io"
DOCKER_HUB_REGISTRY: Final = "registry-1.docker.io"
_LOOPBACK: Final = ("localhost", "127.", "[::1]")
_CAPABILITIES: Final = ("pull", "resolve", "push", "referrers")


class Watch:
    """Told of every request and answer; does nothing by itself (--http-dump and --http-trace print them)."""

    def sending(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        """A request is about to be sent."""

    def received(self, response: BaseHTTPResponse) -> None:
        """An answer's head is there; its body isn't read yet."""


class Options:
    """What the command line says about registries."""

    __slots__ = (
        "ask",
        "ca_file",
        "client_cert",
        "headers",
        "hosts_dir",
        "plain_http",
        "refresh",
        "scheme",
        "secret",
        "skip_verify",
        "stall_timeout_s",
        "username",
        "watch",
    )

    def __init__(
        self,
        *,
        plain_http: bool = False,
        skip_verify: bool = False,
        hosts_dir: str = "",
        ca_file: str = "",
        client_cert: tuple[str, str] | None = None,
        username: str = "",
        secret: str = "",
        refresh: str = "",
        stall_timeout_s: float = STALL_TIMEOUT_S,
        watch: Watch | None = None,
        scheme: str = "",
        headers: Mapping[str, str] | None = None,
        ask: Callable[[str], Credential] | None = None,
    ) -> None:
        """`scheme` is that of hosts nothing else is said about; `ask` gives a host's credential in place of the rest."""
        self.plain_http = plain_http
        self.skip_verify = skip_verify
        self.hosts_dir = hosts_dir
        self.ca_file = ca_file
        self.client_cert = client_cert
        self.username = username
        self.secret = secret
        self.refresh = refresh
        # How long nothing may come over a connection before it counts as broken.
        self.stall_timeout_s = stall_timeout_s
        self.watch = watch or Watch()
        self.scheme = scheme
        self.headers = dict(headers or {})
        self.ask = ask


class Host:
    """One server for a registry's content. `path` is what comes before /<name>/manifests: /v2, or a mirror's own."""

    __slots__ = (
        "address",
        "ca_files",
        "capabilities",
        "client_certs",
        "dial_timeout_s",
        "headers",
        "path",
        "scheme",
        "skip_verify",
        "stall_timeout_s",
        "watch",
    )

    def __init__(self, scheme: str, address: str, path: str = "/v2") -> None:
        self.scheme = scheme
        self.address = address
        self.path = path
        self.capabilities: Sequence[str] = _CAPABILITIES
        self.ca_files: list[str] = []
        self.client_certs: list[tuple[str, str]] = []
        self.headers: dict[str, str] = {}
        self.skip_verify = False
        self.dial_timeout_s = 30.0
        self.stall_timeout_s = STALL_TIMEOUT_S
        self.watch = Watch()

    @property
    def origin(self) -> tuple[str, str]:
        """Scheme and address: what credentials are bound to."""
        return self.scheme, self.address

    @property
    def base(self) -> str:
        """The URL that names are appended to."""
        return f"{self.scheme}://{self.address}{self.path}"


def is_loopback(address: str) -> bool:
    """Whether a host[:port] is this machine: served by plain http unless said otherwise."""
    host = address if address.startswith("[") else address.partition(":")[0]
    return host.startswith(_LOOPBACK[1]) or host == _LOOPBACK[0] or address.startswith(_LOOPBACK[2])


def hosts_for(name: str, options: Options) -> list[Host]:
    """The hosts to ask for a registry's name, in order; InvalidArgument for a bad hosts.toml."""
    folder = _folder(name, options.hosts_dir) if options.hosts_dir else ""
    if folder and os.path.isfile(f"{folder}/hosts.toml"):
        hosts = _from_file(name, folder, options)
    else:
        hosts = [_default(name, options)]
        if folder:
            _add_docker_certs(hosts[0], folder)
            if hosts[0].ca_files or hosts[0].client_certs:
                hosts[0].scheme = "https"  # files for it are there: also the loopback speaks TLS then
    for host in hosts:
        host.stall_timeout_s, host.watch = options.stall_timeout_s, options.watch
        if host.address in {name, DOCKER_HUB_REGISTRY}:  # said to the registry, not to its mirrors
            host.headers.update(options.headers)
        if options.skip_verify:
            host.skip_verify = True
        if options.ca_file:
            host.ca_files.append(options.ca_file)
        if options.client_cert:
            host.client_certs.append(options.client_cert)
    return hosts


def _default(name: str, options: Options) -> Host:
    address = DOCKER_HUB_REGISTRY if name == DOCKER_HUB else name
    # No fall-back from https: a server in between could bring it about.
    scheme = options.scheme or ("http" if options.plain_http or is_loopback(address) else "https")
    return Host(scheme, address)


def _folder(name: str, root: str) -> str:
    host, colon, port = name.rpartition(":")
    has_port = colon and not name.endswith("]")  # the colons of an IPv6 address end with a bracket
    candidates = [f"{host}_{port}_", name] if has_port else [name]
    for candidate in (*candidates, "_default"):
        if os.path.isdir(f"{root}/{candidate}"):
            return f"{root}/{candidate}"
    return ""


def _add_docker_certs(host: Host, folder: str) -> None:
    names = sorted(os.listdir(folder))
    host.ca_files += [f"{folder}/{name}" for name in names if name.endswith(".crt")]
    for name in names:
        if name.endswith(".cert"):
            key = f"{folder}/{name.removesuffix('.cert')}.key"
            if not os.path.exists(key):
                raise InvalidArgument(f"{folder}/{name} has no key beside it")
            host.client_certs.append((f"{folder}/{name}", key))


def _from_file(name: str, folder: str, options: Options) -> list[Host]:
    import tomllib

    path = f"{folder}/hosts.toml"
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"failed to decode {path}: {error}") from error
    found = [
        _host(url, table, name, folder, options)
        for url, table in _tables(document.get("host", {}), path).items()
    ]
    server = document.get("server", "")
    last = _default(name, options) if not server else None
    found.append(last or _host(server, document, name, folder, options))
    if last is not None:
        _apply(last, document, folder)
    return found


def _tables(value: Any, path: str) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
        raise InvalidArgument(f"{path}: host must be a table of tables")
    return value


def _host(url: str, table: dict[str, Any], name: str, folder: str, options: Options) -> Host:
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = ("http" if options.plain_http or is_loopback(url) else "https"), url
    if scheme not in {"http", "https"}:
        raise InvalidArgument(f"unsupported scheme {scheme} of host {url}")
    address, slash, path = rest.partition("/")
    path = f"/{path}".rstrip("/") if slash else ""
    if not table.get("override_path") and not path.endswith("/v2"):
        path += "/v2"
    host = Host(scheme, DOCKER_HUB_REGISTRY if address == DOCKER_HUB else address or name, path)
    _apply(host, table, folder)
    return host


def _apply(host: Host, table: dict[str, Any], folder: str) -> None:
    capabilities = table.get("capabilities")
    if capabilities is not None:
        wanted = _strings(capabilities, "capabilities")
        unknown = [one for one in wanted if one not in _CAPABILITIES]
        if unknown:
            raise InvalidArgument(f"unknown capability {unknown[0]}")
        host.capabilities = tuple(wanted)
    host.skip_verify = bool(table.get("skip_verify", False))
    host.ca_files += [_absolute(path, folder) for path in _strings(table.get("ca", []), "ca")]
    host.client_certs += _client_pairs(table.get("client", []), folder)
    headers = table.get("header", {})
    for key, value in headers.items():
        host.headers[key] = ", ".join(_strings(value, "header"))
    if "dial_timeout" in table:
        host.dial_timeout_s = _seconds(str(table["dial_timeout"]))


def _strings(value: Any, what: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise InvalidArgument(f"hosts.toml: {what} must be a string or a list of strings")
    return values


def _client_pairs(value: Any, folder: str) -> list[tuple[str, str]]:
    entries = [value] if isinstance(value, str) else value
    pairs: list[tuple[str, str]] = []
    for entry in entries:
        parts = [entry, entry] if isinstance(entry, str) else list(entry)
        if len(parts) != 2:
            raise InvalidArgument("hosts.toml: client must be files, or pairs of certificate and key")
        certificate, key = parts
        pairs.append((_absolute(certificate, folder), _absolute(key or certificate, folder)))
    return pairs


def _absolute(path: str, folder: str) -> str:
    return path if path.startswith("/") else f"{folder}/{path}"


def _seconds(text: str) -> float:
    """A Go duration: `10s`, `1m30s`, `250ms`."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    total, rest = 0.0, text
    while rest or not text:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest.removeprefix(number)
        unit = next((unit for unit in units if rest.startswith(unit)), "")
        if not unit or not number.replace(".", "", 1).isdigit():
            raise InvalidArgument(f'hosts.toml: bad dial_timeout "{text}"')
        total += float(number) * units[unit]
        rest = rest.removeprefix(unit)
    return total
