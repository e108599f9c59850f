"""One repository of one registry: its hosts in order, their authorization, and requests below its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pycontainerd.lib import reference
from pycontainerd.lib.errdefs import (
    ContainerdError,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from pycontainerd.lib.oci import document
from pycontainerd.lib.registry import credentials, hosts, http
from pycontainerd.lib.registry.auth import Authorizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3 import BaseHTTPResponse

    from pycontainerd.lib.registry.http import Body

_MAX_ERROR: Final = 16 << 10


class Endpoint:
    """One host with its connection and authorizer."""

    __slots__ = ("authorizer", "connection", "host")

    def __init__(self, host: hosts.Host, options: hosts.Options, registry: str) -> None:
        self.host = host
        self.connection = http.Connection(host)
        credential = credentials.for_host(host.address, registry, options)
        self.authorizer = Authorizer(host, self.connection, credential)


class Repository:
    """What pulling from a repository and pushing to it share. `cancel` may be called from any thread."""

    actions = "pull"

    def __init__(self, ref: str, options: hosts.Options, log: Callable[..., None] | None = None) -> None:
        """InvalidArgument, with containerd's text, for a reference without a host or a bad hosts.toml."""
        self.spec = reference.parse_spec(ref)
        self.ref = ref
        self._log = log or (lambda *_args, **_fields: None)
        self._registry = self.spec.hostname
        self._endpoints = [
            Endpoint(host, options, self._registry) for host in hosts.hosts_for(self._registry, options)
        ]
        self._scope = f"repository:{self.spec.path}:{self.actions}"

    def cancel(self) -> None:
        """Makes every further request fail with Canceled, and those under way break off."""
        for endpoint in self._endpoints:
            endpoint.connection.cancel()

    def close(self) -> None:
        """Closes the connections."""
        for endpoint in self._endpoints:
            endpoint.connection.close()

    @property
    def _denied(self) -> str:
        verb = "push" if "push" in self.actions else "pull"
        return f"{verb} access denied, repository does not exist or may require authorization"

    def _url(self, endpoint: Endpoint, path: str) -> str:
        host = endpoint.host
        url = f"{host.base}/{self.spec.path}/{path}"
        if host.address in {self._registry, hosts.DOCKER_HUB_REGISTRY}:
            return url
        return f"{url}{'&' if '?' in url else '?'}ns={self._registry}"

    def _request(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        body: Body = None,
        scope: str = "",
    ) -> BaseHTTPResponse:
        """A request below the repository's name; a 401 is answered once by what its challenge asks for."""
        return self._request_url(
            endpoint, method, self._url(endpoint, path), headers, body=body, scope=scope or self._scope
        )

    def _request_url(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: Body = None,
        scope: str = "",
    ) -> BaseHTTPResponse:
        """The same for a whole URL. One of another origin gets none of the host's headers and no authorization."""
        host = endpoint.host
        scope = scope or self._scope
        if http.origin(url) != http.origin(host.base):
            return endpoint.connection.request(method, url, headers, body=body)
        response: BaseHTTPResponse | None = None
        for _ in range(2):
            authorization = endpoint.authorizer.header(scope)
            response = endpoint.connection.request(
                method, url, {**host.headers, **headers, **authorization}, body=body
            )
            if response.status != 401:
                break
            challenge = response.headers.get("WWW-Authenticate", "")
            http.discard(response)
            if not challenge:
                break
            try:
                endpoint.authorizer.answer(challenge, scope)
            except Unauthenticated as error:
                raise Unauthenticated(f"{self._denied}: {error}", hint=error.hint) from error
        assert response is not None
        return response

    def _refusal(self, endpoint: Endpoint, response: BaseHTTPResponse, what: str) -> ContainerdError:
        """The error for an answer that is none; `what` is the method and path that was asked for."""
        status = response.status
        if status in {401, 403}:
            kind = Unauthenticated if status == 401 else PermissionDenied
            return kind(
                f"{self._denied}: {'authorization failed' if status == 401 else 'server message: denied'}",
                hint="is the name right? log in with --user NAME:PASSWORD or docker's config.json",
            )
        if status == 429:
            return too_many(endpoint.host.base, response.headers.get("Retry-After", ""))
        words = http.status_words(response)
        return Unavailable(
            f"unexpected status from {what.partition(' ')[0]} request to {self._url(endpoint, what.partition(' ')[2])}: {words}",
            hint="the registry failed",
        )


def too_many(where: str, retry_after: str) -> ResourceExhausted:
    """The registry limits us, and says for how long or doesn't."""
    wait_s = http.retry_after_s(retry_after)
    when = f": retry after {wait_s:.0f} s" if wait_s is not None else ""
    return ResourceExhausted(
        f"{where}: 429 Too Many Requests{when}", hint="the registry limits requests: wait, or log in"
    )


def server_message(response: BaseHTTPResponse) -> str:
    """What a registry's error document says, in one line; nothing of a secret is in it. Spec: distribution-spec errors."""
    try:
        errors = document.loads(http.read(response, _MAX_ERROR) or b"{}").get("errors") or []
        parts = [f"{one.get('code', '')}: {one.get('message', '')}" for one in errors[:3]]
    except (ValueError, AttributeError, TypeError, KeyError, Unavailable):
        return ""  # not a registry's document: the status alone is said
    return "".join(char if char.isprintable() else " " for char in "; ".join(parts))[:500]
