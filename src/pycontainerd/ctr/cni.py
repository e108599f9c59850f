"""Networks by CNI: a container attached by the plugins of a network, and taken off it again.

    ADD: each plugin in order, each given the result of the one before      DEL: the same backwards, each given the last result

What the last ADD answered is kept in libcni's own files, /var/lib/cni/results/NETWORK-NAMESPACE-ID-eth0: ctr, podman and
this program take down what another of them has set up. `run -d` leaves the container attached; who removes its task or
container takes it down by that file (`release`).

Spec: CNI specification 1.0 section 2 (execution protocol), section 3 (execution of network configurations)
"""

from __future__ import annotations

import os

from pycontainerd.ctr import text
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, Unknown
from pycontainerd.lib.linux.libc import go_error

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, Final

    from pycontainerd.ctr.cni_config import Network
    from pycontainerd.lib.api.light import containers_v1

RESULTS: Final = "/var/lib/cni/results"
_KIND: Final = "cniCacheV1"
_INTERFACE: Final = "eth0"
_EXTENSION: Final = "ctr.cni-containerd.metadata"
# A name that a path may be made of.
_NAME_START: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME: Final = _NAME_START | frozenset("_.-")


class Attachment:
    """One container on one network. `add` once, `take_down` once, also after a failed `add`; `close` last."""

    __slots__ = ("_id", "_netns_fd", "_network")

    def __init__(self, network: Network, namespace: str, container_id: str) -> None:
        self._network = network
        self._id = f"{namespace}-{container_id}"
        self._netns_fd = -1

    def add(self, pid: int) -> None:
        """Gives the process's network namespace its interface. Raises errdefs in libcni's words."""
        from pycontainerd.ctr import cni_plugin

        network, netns = self._network, f"/proc/{pid}/ns/net"
        # Held until the network is taken down: the process may have ended by then, and its number be another's.
        try:
            self._netns_fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Unknown(f"cannot attach {self._id}: open {netns}: {go_error(error.errno or 0)}") from error
        result: dict[str, Any] | None = None
        for plugin in network.plugins:
            try:
                cni_plugin.find(plugin["type"])
                _check_name(network.name)
                answer = cni_plugin.run("ADD", _part(network, plugin, result), self._environment(netns))
                result = cni_plugin.result(answer, network.version)
            except ContainerdError as error:
                raise Unknown(f"plugin {_describe(plugin)} failed (add): {error}", hint=error.hint) from error
        self._remember(netns, result or {})

    def take_down(self) -> None:
        """Takes the network down; a failure is told, as ctr tells it, and keeps nothing else from being cleaned up."""
        try:
            self._remove()
        except ContainerdError as error:
            text.complain("network review", error=error)

    def _remove(self) -> None:
        """Every plugin is asked, whatever another says; the first failure is raised at the end."""
        from pycontainerd.ctr import cni_plugin

        network, failure = self._network, None
        netns = f"/proc/{os.getpid()}/fd/{self._netns_fd}" if self._netns_fd >= 0 else ""
        previous = _result_for(network, _read_result(self._path))
        for plugin in reversed(network.plugins):
            try:
                cni_plugin.run("DEL", _part(network, plugin, previous), self._environment(netns))
            except ContainerdError as error:
                if _is_gone(str(error), netns):
                    continue
                reason = f"plugin {_describe(plugin)} failed (delete): {error}"
                failure = failure or Unknown(reason, hint=error.hint)
        if failure is not None:
            raise failure
        if _is_name(network.name) and os.path.exists(self._path):
            os.unlink(self._path)

    def close(self) -> None:
        """Lets go of the network namespace."""
        if self._netns_fd >= 0:
            os.close(self._netns_fd)
        self._netns_fd = -1

    @property
    def _path(self) -> str:
        return f"{RESULTS}/{self._network.name}-{self._id}-{_INTERFACE}"

    def _environment(self, netns: str) -> dict[str, str]:
        return {"CNI_CONTAINERID": self._id, "CNI_NETNS": netns, "CNI_IFNAME": _INTERFACE}

    def _remember(self, netns: str, result: dict[str, Any]) -> None:
        import base64
        import json

        document = {
            "kind": _KIND,
            "containerId": self._id,
            "config": base64.b64encode(self._network.source).decode(),
            "ifName": _INTERFACE,
            "networkName": self._network.name,
            "netns": netns,
            "result": result,
        }
        try:
            os.makedirs(RESULTS, 0o700, exist_ok=True)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                json.dump(document, file, separators=(",", ":"))
        except OSError as error:
            what = f'failed to set network "{self._network.name}" cached result'
            raise Unknown(f"{what}: open {self._path}: {go_error(error.errno or 0)}") from error


def is_recorded(record: containers_v1.Container) -> bool:
    """Whether a container is to have a network: ctr keeps that with it from 1.7 on, for every later `task start`."""
    from pycontainerd.lib import go_json

    extension = record.extensions.get(_EXTENSION)
    try:
        document = go_json.loads(extension.value) if extension is not None else {}
    except InvalidArgument as error:
        raise InvalidArgument(f"the extension {_EXTENSION} of container {record.id}: {error}") from error
    return isinstance(document, dict) and document.get("EnableCni") is True


def release(namespace: str, container_id: str) -> None:
    """Takes a removed container off the networks it was left on, and gives its addresses back.

    Only where the process whose network namespace it was is gone: another daemon may have a container of this name.
    A failure is told; nothing happens for a container without a network.
    """
    try:
        names = os.listdir(RESULTS)
    except OSError:
        return
    ending = f"-{namespace}-{container_id}-{_INTERFACE}"
    for name in names:
        if name.endswith(ending) and (network := _left_network(f"{RESULTS}/{name}", ending[1:])):
            Attachment(network, namespace, container_id).take_down()


def _left_network(path: str, names: str) -> Network | None:
    """The network of a kept result, if it is of this container (and interface) and its process is gone."""
    import base64

    from pycontainerd.ctr import cni_config

    document = _read_document(path)
    netns = document.get("netns") or _sandbox_of(document.get("result"))
    if f"{document.get('containerId')}-{document.get('ifName')}" != names:
        return None
    if not _is_of_a_process(netns) or os.path.exists(netns):
        return None
    try:
        network = cni_config.from_list(base64.b64decode(document.get("config") or ""))
    except (InvalidArgument, TypeError, ValueError):
        return None
    return network if path == f"{RESULTS}/{network.name}-{names}" else None


def _read_document(path: str) -> dict[str, Any]:
    """A kept result as it is on disk; empty where there is none, or it can't be read."""
    from pycontainerd.lib import go_json

    try:
        with open(path, "rb") as file:
            document = go_json.loads(file.read())
    except (OSError, InvalidArgument):
        return {}
    is_one = isinstance(document, dict) and document.get("kind") == _KIND
    return document if is_one else {}


def _read_result(path: str) -> dict[str, Any] | None:
    result = _read_document(path).get("result")
    return result if isinstance(result, dict) else None


def _result_for(network: Network, result: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a plugin is told at DEL: nothing before 0.4.0, and no result in the words of another version."""
    parts = network.version.split(".")
    knows = all(part.isdecimal() for part in parts) and [int(part) for part in parts] >= [0, 4, 0]
    return result if knows and result and result.get("cniVersion") == network.version else None


def _part(network: Network, plugin: dict[str, Any], previous: dict[str, Any] | None) -> dict[str, Any]:
    part = {**plugin, "name": network.name, "cniVersion": network.version}
    return part if previous is None else {**part, "prevResult": previous}


def _sandbox_of(result: object) -> str:
    """Where the interface in the container is, as its plugin has said; libcni 1.1 keeps it nowhere else."""
    interfaces = result.get("interfaces") if isinstance(result, dict) else None
    for interface in interfaces if isinstance(interfaces, list) else ():
        if isinstance(interface, dict) and isinstance(sandbox := interface.get("sandbox"), str) and sandbox:
            return sandbox
    return ""


def _is_of_a_process(netns: object) -> bool:
    """Whether it is /proc/PID/ns/net."""
    if not isinstance(netns, str):
        return False
    return netns.startswith("/proc/") and netns.endswith("/ns/net") and netns[6:-7].isdecimal()


def _is_gone(text: str, netns: str) -> bool:
    """Whether a failure at DEL says only that there was nothing left, which ctr passes over, too."""
    return "not found" in text or (not netns and "no such file or directory" in text)


def _check_name(name: str) -> None:
    if not name:
        raise InvalidArgument("missing network name:")
    if not _is_name(name):
        raise InvalidArgument(f"invalid characters found in network name; {name}")


def _is_name(name: str) -> bool:
    return bool(name) and name[0] in _NAME_START and not set(name) - _NAME


def _describe(plugin: dict[str, Any]) -> str:
    name = f' name="{plugin["name"]}"' if plugin.get("name") else ""
    return f'type="{plugin["type"]}"{name}'
