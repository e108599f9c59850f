"""The network that --cni means: the first configuration in /etc/cni/net.d, checked and refused as ctr does.

    *.conflist          {name, cniVersion, plugins: [{type, ...}, ...]}
    *.conf, *.json      {name, cniVersion, type, ...}     one plugin: a list of one

Spec: CNI specification 1.0 section 1 (network configuration format)
"""

from __future__ import annotations

import os

from pycontainerd.lib import go_json
from pycontainerd.lib.errdefs import InvalidArgument, NotFound, Unknown
from pycontainerd.lib.linux.libc import go_error

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, Final

FOLDER: Final = "/etc/cni/net.d"
_MAX_SIZE: Final = 2 << 20
# What libcni itself reads of a plugin's part, with the Go types that its errors name; the rest is the plugin's.
_FIELDS: Final = {
    "cniVersion": ("string", "string"),
    "name": ("string", "string"),
    "type": ("string", "string"),
    "capabilities": ("object", "map[string]bool"),
    "ipam": ("object", "types.IPAM"),
    "dns": ("object", "types.DNS"),
    "prevResult": ("object", "map[string]interface {}"),
}


class Network:
    """A network: its name, the version its plugins speak, their parts in order, and the text of all (`source`)."""

    __slots__ = ("name", "plugins", "source", "version")

    def __init__(self, name: str, version: str, plugins: list[dict[str, Any]], source: bytes) -> None:
        self.name = name
        self.version = version
        self.plugins = plugins
        self.source = source


def load() -> Network:
    """The first configuration by name; NotFound where there is none, InvalidArgument for one that can't be."""
    try:
        names = sorted(os.listdir(FOLDER))
    except FileNotFoundError:
        names = []
    except OSError as error:
        text = f"open {FOLDER}: {go_error(error.errno or 0)}"
        raise Unknown(f"failed to read config file: {text}: failed to read config file") from error
    for name in names:
        path = f"{FOLDER}/{name}"
        if os.path.splitext(name)[1] in {".conf", ".conflist", ".json"} and not os.path.isdir(path):
            return _from_file(path)
    raise NotFound(
        f"no network config found in {FOLDER}: cni plugin not initialized",
        hint=f"put a CNI configuration into {FOLDER}, or leave --cni out",
    )


def from_list(data: bytes) -> Network:
    """The network of a .conflist's text. Raises InvalidArgument."""
    where = "error parsing configuration list"
    try:
        document = go_json.load_map(data)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {error}") from error
    if "name" not in document:
        raise InvalidArgument(f"{where}: no name")
    for key, wanted in (("name", str), ("cniVersion", str), ("disableCheck", bool)):
        if key in document and not isinstance(document[key], wanted):
            raise InvalidArgument(f"{where}: invalid {_phrase(key, document[key])}")
    if "plugins" not in document:
        raise InvalidArgument(f"{where}: no 'plugins' key")
    plugins = document["plugins"]
    if not isinstance(plugins, list):
        raise InvalidArgument(f"{where}: invalid 'plugins' type {go_json.interface_type(plugins)}")
    if not plugins:
        raise InvalidArgument(f"{where}: no plugins in list")
    for number, plugin in enumerate(plugins):
        try:
            _check_plugin(plugin)
        except InvalidArgument as error:
            raise InvalidArgument(f"failed to parse plugin config {number}: {error}") from error
    return Network(document["name"], document.get("cniVersion", ""), plugins, data)


def _phrase(key: str, value: object) -> str:
    return f"{key} type {go_json.interface_type(value)}"


def _from_file(path: str) -> Network:
    is_list = path.endswith(".conflist")
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_SIZE + 1)
        if len(data) > _MAX_SIZE:
            raise InvalidArgument(f"CNI config in {path} exceeded max size of {_MAX_SIZE}")
        return from_list(data) if is_list else _from_plugin(data)
    except InvalidArgument as error:
        raise _refused(path, str(error)) from error
    except OSError as error:
        raise _refused(path, f"error reading {path}: open {path}: {go_error(error.errno or 0)}") from error


def _refused(path: str, text: str) -> InvalidArgument:
    what = "config list file" if path.endswith(".conflist") else "config file"
    return InvalidArgument(f"failed to load CNI {what} {path}: {text}: invalid cni config")


def _from_plugin(data: bytes) -> Network:
    """The network of a .conf's text: a list of one plugin."""
    import json

    try:
        plugin = go_json.loads(data)
    except InvalidArgument as error:
        raise InvalidArgument(f"error parsing configuration: {error}") from error
    plugin = {} if plugin is None else plugin
    _check_plugin(plugin)
    document = {
        "cniVersion": plugin.get("cniVersion") or "",
        "name": plugin.get("name") or "",
        "plugins": [plugin],
    }
    return from_list(json.dumps(document, separators=(",", ":")).encode())


def _check_plugin(plugin: object) -> None:
    where = "error parsing configuration"
    if plugin is None:
        plugin = {}
    if not isinstance(plugin, dict):
        raise InvalidArgument(
            f"{where}: json: cannot unmarshal {go_json.kind(plugin)} into Go value of type types.NetConf"
        )
    for key, value in plugin.items():
        wanted, go_type = _FIELDS.get(key, ("", ""))
        if wanted and go_json.kind(value) not in (wanted, "null"):
            into = f"Go struct field NetConf.{key} of type {go_type}"
            raise InvalidArgument(f"{where}: json: cannot unmarshal {go_json.kind(value)} into {into}")
    if not plugin.get("type"):
        raise InvalidArgument(f"{where}: missing 'type'")
