"""Registry authorization: Basic and Bearer, tokens kept per scope, credentials never sent where they don't belong.

A realm (token server) must be https, or the very origin of a registry that is itself spoken to by http.

Spec: distribution token authentication (GET and POST oauth2)
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.lib.errdefs import PermissionDenied, Unauthenticated
from pycontainerd.lib.oci import document
from pycontainerd.lib.registry import http

if TYPE_CHECKING:
    from pycontainerd.lib.registry.credentials import Credential
    from pycontainerd.lib.registry.hosts import Host

CLIENT_ID: Final = "containerd-client"
_MAX_REPLY: Final = 1 << 20
_DEFAULT_LIFE_S: Final = 60
_LONGEST_LIFE_S: Final = 24 * 3600


class Challenge:
    """One WWW-Authenticate header: scheme in lower case, parameters."""

    __slots__ = ("parameters", "scheme")

    def __init__(self, scheme: str, parameters: dict[str, str]) -> None:
        self.scheme = scheme
        self.parameters = parameters


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header; what can't be read is left out. Spec: RFC 9110 11.6.1."""
    found: list[Challenge] = []
    rest = header.strip()
    while rest:
        word, _, after = rest.partition(" ")
        if "=" in word.partition('"')[0]:
            break
        parameters, rest = _parameters(after.strip())
        found.append(Challenge(word.rstrip(",").lower(), parameters))
    return found


def _parameters(text: str) -> tuple[dict[str, str], str]:
    out: dict[str, str] = {}
    while text:
        name, equals, after = text.partition("=")
        name = name.strip().lower()
        if not equals or " " in name:  # the next scheme's word
            break
        if after.startswith('"'):
            end = 1
            value = ""
            while end < len(after) and after[end] != '"':
                if after[end] == "\\" and end + 1 < len(after):
                    end += 1
                value += after[end]
                end += 1
            text = after[end + 1 :].lstrip(" ,")
        else:
            value, _, text = after.partition(",")
            text = text.strip()
        out[name] = value.strip()
    return out, text


def merge_scopes(*texts: str) -> list[str]:
    """Scopes (`type:name:action,action`, apart by spaces) with the actions of equal resources put together."""
    actions: dict[str, list[str]] = {}
    for one in " ".join(texts).split():
        resource, _, wanted = one.rpartition(":")
        known = actions.setdefault(resource, [])
        known += [action for action in wanted.split(",") if action not in known]
    return [
        f"{resource}:{','.join(found)}" if resource else ",".join(found)
        for resource, found in actions.items()
    ]


class Authorizer:
    """The Authorization header for one host, learnt from its 401 answers. Shared by threads."""

    def __init__(self, host: Host, connection: http.Connection, credential: Credential) -> None:
        self._host = host
        self._connection = connection
        self._credential = credential
        self._lock = threading.Lock()
        self._basic = ""
        self._challenge: Challenge | None = None
        self._tokens: dict[str, tuple[str, float]] = {}

    def header(self, scope: str) -> dict[str, str]:
        """What is known already for a scope; nothing before the first challenge."""
        if self._basic:
            return {"Authorization": self._basic}
        with self._lock:
            token, until = self._tokens.get(scope, ("", 0.0))
        return {"Authorization": f"Bearer {token}"} if token and time.monotonic() < until else {}

    def answer(self, challenge_header: str, scope: str) -> None:
        """Takes a 401's challenge; Unauthenticated when there is no credential that could meet it."""
        challenges = parse_challenges(challenge_header)
        for challenge in challenges:
            if challenge.scheme == "bearer":
                with self._lock:
                    self._tokens[scope] = self._fetch_token(challenge, scope)
                return
        for challenge in challenges:
            if challenge.scheme == "basic":
                self._basic = self._basic_header()
                return
        raise Unauthenticated(f"{self._host.address} asks for an unknown kind of authorization")

    def _basic_header(self) -> str:
        import base64

        if not self._credential.username:
            raise Unauthenticated(
                "authorization failed: no basic auth credentials",
                hint=f"log in: --user NAME:PASSWORD, or docker's config.json for {self._host.address}",
            )
        pair = f"{self._credential.username}:{self._credential.secret}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def _require_trusted(self, realm: str) -> None:
        scheme, _ = http.origin(realm)
        if scheme == "https" or http.origin(realm) == http.origin(self._host.base):
            return
        raise PermissionDenied(
            f"{self._host.address} sends us to the token server {realm}, which is neither https nor itself: refused",
            hint="the registry's configuration is unsafe, or somebody in between wants your password",
        )

    def _fetch_token(self, challenge: Challenge, scope: str) -> tuple[str, float]:
        realm = challenge.parameters.get("realm", "")
        self._require_trusted(realm)
        fields = {
            "service": challenge.parameters.get("service", ""),
            "scope": " ".join(merge_scopes(scope, challenge.parameters.get("scope", ""))),
        }
        reply = self._post(realm, fields) if self._credential else None
        if reply is None:
            reply = self._get(realm, fields)
        token = reply.get("token") or reply.get("access_token") or ""
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise Unauthenticated(f"token server {realm} sent no token")
        life_s = reply.get("expires_in") or _DEFAULT_LIFE_S
        if type(life_s) is not int:
            life_s = _DEFAULT_LIFE_S
        life_s = max(_DEFAULT_LIFE_S, min(life_s, _LONGEST_LIFE_S))  # shorter than the first it may not be
        return token, time.monotonic() + life_s - 5

    def _post(self, realm: str, fields: dict[str, str]) -> dict[str, Any] | None:
        """OAuth2; None where the server has no such thing and GET is to be tried."""
        from urllib.parse import urlencode

        form = {**fields, "client_id": CLIENT_ID}
        if self._credential.username:
            form.update(
                grant_type="password", username=self._credential.username, password=self._credential.secret
            )
        else:
            form.update(grant_type="refresh_token", refresh_token=self._credential.secret)
        response = self._connection.request(
            "POST",
            realm,
            {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
            body=urlencode(form).encode(),
        )
        if response.status in {401, 404, 405}:
            http.discard(response)
            return None
        return self._reply(realm, response)

    def _get(self, realm: str, fields: dict[str, str]) -> dict[str, Any]:
        from urllib.parse import urlencode

        # Over GET each scope is a parameter of its own; over POST they are one, with spaces.
        scopes = [("scope", one) for one in fields["scope"].split()]
        service = [("service", fields["service"])] if fields["service"] else []
        query = urlencode([*service, *scopes])
        headers = {"Authorization": self._basic_header()} if self._credential.username else {}
        separator = "&" if "?" in realm else "?"
        response = self._connection.request("GET", f"{realm}{separator}{query}", headers)
        return self._reply(realm, response)

    def _reply(self, realm: str, response: Any) -> dict[str, Any]:
        try:
            data = http.read(response, _MAX_REPLY)
        finally:
            http.discard(response)
        if response.status != 200:
            raise Unauthenticated(
                f"authorization failed: token server {realm} answered {response.status}",
                hint="are name and password right (--user NAME:PASSWORD)?",
            )
        try:
            reply = document.loads(data)
        except document.DocumentError as error:
            raise Unauthenticated(f"token server {realm} sent no JSON") from error
        return reply if isinstance(reply, dict) else {}
