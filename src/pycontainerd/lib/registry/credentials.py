"""Whose name and secret a registry is given: --user for the one it was said to, else docker's config.json.

Spec: docker config.json (auths, credHelpers, credsStore), docker-credential-helpers protocol
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.lib.errdefs import InvalidArgument, Unavailable
from pycontainerd.lib.oci import document
from pycontainerd.lib.registry.hosts import DOCKER_HUB_REGISTRY

if TYPE_CHECKING:
    from pycontainerd.lib.registry.hosts import Options

_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_HUB: Final = frozenset({"docker.io", "registry-1.docker.io", "index.docker.io"})
_HELPER_TIMEOUT_S: Final = 60
_MAX_CONFIG: Final = 1 << 20


class Credential:
    """A name and a secret; without a name the secret is an identity (refresh) token. Never printed."""

    __slots__ = ("secret", "username")

    def __init__(self, username: str, secret: str) -> None:
        self.username = username
        self.secret = secret

    def __bool__(self) -> bool:
        return bool(self.username or self.secret)


def for_host(address: str, registry: str, options: Options) -> Credential:
    """The credential for one of the hosts that serve a registry's content.

    What the command line says was said to the registry, not to its mirrors.
    """
    if (options.username or options.refresh) and address not in {registry, DOCKER_HUB_REGISTRY}:
        return Credential("", "")
    return find(address, options)


def find(address: str, options: Options) -> Credential:
    """The credential for a registry's address; an empty one when there is none."""
    if options.ask is not None:
        return options.ask(address)
    if options.refresh:
        return Credential("", options.refresh)
    if options.username:
        return Credential(options.username, options.secret)
    return _from_docker(address)


def _from_docker(address: str) -> Credential:
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.environ.get("HOME", ""), ".docker")
    path = f"{folder}/config.json"
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_CONFIG)
    except OSError:
        return Credential("", "")  # nobody logged in
    from pycontainerd.lib.oci.runtime import S

    entry = dict.fromkeys(("auth", "identitytoken", "username", "password"), S)
    config = _parse(data, {"auths": {"*": entry}, "credHelpers": {"*": S}, "credsStore": S}, path)
    keys = (
        _HUB_KEYS
        if address in _HUB
        else (address, f"https://{address}", f"https://{address}/v1/", f"http://{address}")
    )
    helpers = config.get("credHelpers", {})
    for key in keys:
        if key in helpers:
            return _ask_helper(helpers[key], key)
    auths = config.get("auths", {})
    for key in keys:
        found = _from_entry(auths.get(key, {}))
        if found:
            return found
    if config.get("credsStore"):
        return _ask_helper(config["credsStore"], keys[0])
    return Credential("", "")


def _parse(data: bytes, schema: dict[str, Any], what: str) -> dict[str, Any]:
    """A document of a schema as lib.oci.runtime has it; InvalidArgument for another one, without what is in it."""
    from pycontainerd.lib.oci.runtime import checked

    try:
        found: dict[str, Any] = checked(document.loads(data), schema)
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from error
    except document.DocumentError as error:
        raise InvalidArgument(f"{what} is not JSON: {error}") from error
    return found


def _from_entry(entry: dict[str, Any]) -> Credential:
    import base64

    if entry.get("identitytoken"):
        return Credential("", entry["identitytoken"])
    if entry.get("auth"):
        try:
            username, _, secret = base64.b64decode(entry["auth"]).decode().partition(":")
        except ValueError as error:
            raise InvalidArgument("docker's config.json holds an auth that is not base64") from error
        return Credential(username, secret.rstrip("\0"))
    return Credential(entry.get("username", ""), entry.get("password", ""))


def _ask_helper(name: str, server: str) -> Credential:
    """docker-credential-NAME get. "Not found" is no credential; any other failure is the user's to know."""
    import subprocess

    from pycontainerd.lib.oci.runtime import S

    if "/" in name:
        raise InvalidArgument(f'bad credential helper "{name}"')
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{program} failed: {error}", hint="docker's config.json names it") from error
    if done.returncode:
        return Credential("", "")
    reply = _parse(done.stdout, {"Username": S, "Secret": S}, f"the answer of {program}")
    username = reply.get("Username", "")
    return Credential("" if username == "<token>" else username, reply.get("Secret", ""))
