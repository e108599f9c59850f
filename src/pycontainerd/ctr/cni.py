"""Networks by CNI: the plugins of the first configuration in /etc/cni/net.d, run by argv and environment.

    ADD: each plugin in order, each given the result of the one before      DEL: the same backwards

Spec: CNI specification 1.0 section 2 (execution protocol)
"""

from __future__ import annotations

import os

from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import FailedPrecondition, InvalidArgument, NotFound, Unknown

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, Final

CONFIG_FOLDER: Final = "/etc/cni/net.d"
PLUGIN_FOLDERS: Final = ("/opt/cni/bin", "/usr/lib/cni")
_INTERFACE: Final = "eth0"
_TIMEOUT_S: Final = 60


class Network:
    """A network configuration: a name and its plugins in order."""

    __slots__ = ("_document",)

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def attach(self, namespace: str, container_id: str, pid: int) -> None:
        """Gives the container its network. What a failing plugin leaves is taken down again."""
        result: Any = None
        try:
            for plugin in self._document["plugins"]:
                result = _run("ADD", self._document, plugin, f"{namespace}-{container_id}", pid, result)
        except BaseException:
            self.detach(namespace, container_id, pid)
            raise

    def detach(self, namespace: str, container_id: str, pid: int) -> None:
        """Takes the network down; every plugin is asked, the first failure is raised at the end."""
        failure: Exception | None = None
        for plugin in reversed(self._document["plugins"]):
            try:
                _run("DEL", self._document, plugin, f"{namespace}-{container_id}", pid, None)
            except (Unknown, FailedPrecondition) as error:
                failure = failure or error
        if failure is not None:
            raise failure


def load() -> Network:
    """The first network configuration, as a list of plugins; NotFound when there is none."""
    import json

    try:
        names = sorted(os.listdir(CONFIG_FOLDER))
    except OSError:
        names = []
    for name in names:
        if not name.endswith((".conf", ".conflist", ".json")):
            continue
        with open(f"{CONFIG_FOLDER}/{name}", "rb") as file:
            try:
                document = json.load(file)
            except ValueError as error:
                raise InvalidArgument(f"{CONFIG_FOLDER}/{name} is not JSON: {error}") from error
        if "plugins" in document:
            return Network(document)
        return Network(
            {"cniVersion": document.get("cniVersion", ""), "name": document["name"], "plugins": [document]}
        )
    raise NotFound(
        f"no network config found in {CONFIG_FOLDER}: cni plugin not initialized",
        hint=f"put a CNI configuration into {CONFIG_FOLDER}, or leave --cni out",
    )


def _run(
    command: str, network: dict[str, Any], plugin: dict[str, Any], container_id: str, pid: int, previous: Any
) -> Any:
    import json
    import subprocess

    program = _find(plugin.get("type", ""))
    config = {**plugin, "name": network["name"], "cniVersion": network.get("cniVersion", "")}
    if previous is not None:
        config["prevResult"] = previous
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": f"/proc/{pid}/ns/net",
        "CNI_IFNAME": _INTERFACE,
        "CNI_PATH": ":".join(PLUGIN_FOLDERS),
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    }
    with trace.span("cni", plugin=plugin.get("type", ""), command=command):
        done = subprocess.run(
            [program],
            input=json.dumps(config).encode(),
            capture_output=True,
            env=environment,
            timeout=_TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        raise Unknown(f'plugin type="{plugin["type"]}" failed ({command.lower()}): {_reason(done)}')
    return json.loads(done.stdout) if done.stdout.strip() else None


def _reason(done: Any) -> str:
    import json

    try:
        reply = json.loads(done.stdout)
        return f"{reply.get('msg', '')} {reply.get('details', '')}".strip()
    except ValueError:
        return done.stderr.decode("utf-8", "replace").strip() or f"exit status {done.returncode}"


def _find(name: str) -> str:
    if not name or "/" in name:
        raise InvalidArgument(f'bad CNI plugin type "{name}"')
    for folder in PLUGIN_FOLDERS:
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise FailedPrecondition(
        f'failed to find plugin "{name}" in path [{" ".join(PLUGIN_FOLDERS)}]',
        hint="install the CNI plugins",
    )
