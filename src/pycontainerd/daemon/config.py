"""The daemon's settings: containerd's config.toml, versions 1 to 4, the keys that apply here.

Spec: containerd docs/man/containerd-config.toml.5.md, PLUGINS.md
"""

from __future__ import annotations

import glob
import os
import tomllib
from dataclasses import dataclass, field
from typing import Any, Final

from pycontainerd.lib.errdefs import InvalidArgument

DEFAULT_ROOT: Final = "/var/lib/pycontainerd"
DEFAULT_STATE: Final = "/run/pycontainerd"
DEFAULT_ADDRESS: Final = "/run/pycontainerd/pycontainerd.sock"
DEFAULT_CONFIG: Final = "/etc/pycontainerd/config.toml"

GC: Final = "io.containerd.gc.v1.scheduler"
METADATA: Final = "io.containerd.metadata.v1.bolt"
RUNTIME: Final = "io.containerd.runtime.v2.task"
SHIM_MANAGER: Final = "io.containerd.shim.v1.manager"
OVERLAYFS: Final = "io.containerd.snapshotter.v1.overlayfs"
NATIVE: Final = "io.containerd.snapshotter.v1.native"
DIFF_SERVICE: Final = "io.containerd.service.v1.diff-service"
GRPC_SERVER: Final = "io.containerd.server.v1.grpc"
TTRPC_SERVER: Final = "io.containerd.server.v1.ttrpc"

# Every plugin key that applies, with its default; the rest of containerd's plugins have nothing to set here.
PLUGIN_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    GC: {
        "pause_threshold": 0.02,
        "deletion_threshold": 0,
        "mutation_threshold": 100,
        "schedule_delay": "0s",
        "startup_delay": "100ms",
    },
    METADATA: {"content_sharing_policy": "shared"},
    RUNTIME: {"platforms": []},
    SHIM_MANAGER: {"env": [], "starter": "auto", "runtime_paths": {}},
    OVERLAYFS: {"root_path": "", "sync_remove": False},
    NATIVE: {"root_path": ""},
    DIFF_SERVICE: {"default": ["walking"]},
}
TIMEOUT_DEFAULTS: Final = {
    "io.containerd.timeout.shim.cleanup": "5s",
    "io.containerd.timeout.shim.load": "5s",
    "io.containerd.timeout.shim.shutdown": "3s",
    "io.containerd.timeout.task.state": "2s",
}
# Version 1 named plugins by id alone; 2 split what 3 calls by other names.
_RENAMED: Final = {
    "scheduler": GC,
    "bolt": METADATA,
    "overlayfs": OVERLAYFS,
    "native": NATIVE,
    "diff-service": DIFF_SERVICE,
    "io.containerd.metadata.v1.sqlite": METADATA,
}
_SECTIONS: Final = {
    "grpc": {"address", "uid", "gid", "max_recv_message_size", "max_send_message_size"},
    "ttrpc": {"address", "uid", "gid"},
    "debug": {"level", "format"},
}
_TOP: Final = {
    "version",
    "root",
    "state",
    "temp",
    "oom_score",
    "disabled_plugins",
    "required_plugins",
    "imports",
    "timeouts",
    "plugins",
    *_SECTIONS,
}


@dataclass(slots=True)
class SocketConfig:
    """A listening socket."""

    address: str = ""
    uid: int = 0
    gid: int = 0
    max_recv_message_size: int = 16 << 20


@dataclass(slots=True)
class Config:
    """Everything the daemon can be told. `warnings` are about keys that were not understood."""

    root: str = DEFAULT_ROOT
    state: str = DEFAULT_STATE
    oom_score: int = 0
    disabled_plugins: list[str] = field(default_factory=list)
    required_plugins: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    grpc: SocketConfig = field(default_factory=lambda: SocketConfig(DEFAULT_ADDRESS))
    ttrpc: SocketConfig = field(default_factory=SocketConfig)
    log_level: str = "info"
    log_format: str = "text"
    timeouts_s: dict[str, float] = field(
        default_factory=lambda: {name: parse_duration(text) for name, text in TIMEOUT_DEFAULTS.items()}
    )
    plugins: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: dict(values) for name, values in PLUGIN_DEFAULTS.items()}
    )
    warnings: list[str] = field(default_factory=list)

    @property
    def ttrpc_address(self) -> str:
        """Where ttrpc is served: next to gRPC unless said otherwise."""
        return self.ttrpc.address or f"{self.grpc.address}.ttrpc"


def load(path: str, *, required: bool) -> Config:
    """The configuration in a file and its imports; a missing file is fine unless it was asked for by name."""
    config = Config()
    if not os.path.exists(path):
        if required:
            raise InvalidArgument(f"failed to load config file {path}: no such file or directory")
        return config
    document = _read(path, seen=set())
    apply(config, document)
    return config


def apply(config: Config, document: dict[str, Any]) -> None:
    """Puts a parsed document into a configuration; what isn't known becomes a warning."""
    version = document.get("version", 1)
    if not isinstance(version, int) or not 1 <= version <= 4:
        raise InvalidArgument(f"unsupported config file version {version}: this daemon reads 1 to 4")
    for key in document.keys() - _TOP:
        config.warnings.append(f"unknown key {key}")
    config.root = _text(document, "root", config.root)
    config.state = _text(document, "state", config.state)
    config.oom_score = _number(document, "oom_score", config.oom_score)
    config.disabled_plugins = _texts(document, "disabled_plugins")
    config.required_plugins = _texts(document, "required_plugins")
    config.imports = _texts(document, "imports")
    for name, known in _SECTIONS.items():
        section = _table(document, name)
        for key in section.keys() - known:
            config.warnings.append(f"unknown key {name}.{key}")
        if name == "debug":
            config.log_level = _text(section, "level", config.log_level) or "info"
            config.log_format = _text(section, "format", config.log_format) or "text"
        else:
            _apply_socket(config.grpc if name == "grpc" else config.ttrpc, section)
    for name, text in _table(document, "timeouts").items():
        if name in TIMEOUT_DEFAULTS:
            config.timeouts_s[name] = parse_duration(text)
        else:
            config.warnings.append(f"unknown key timeouts.{name}")
    for name, values in _table(document, "plugins").items():
        _apply_plugin(config, name, values)


def dump(config: Config) -> str:
    """The configuration as version 3 of containerd's format."""
    timeouts = {name: f"{seconds:g}s" for name, seconds in config.timeouts_s.items()}
    sockets = {"address", "uid", "gid"}
    document: dict[str, Any] = {
        "version": 3,
        "root": config.root,
        "state": config.state,
        "oom_score": config.oom_score,
        "disabled_plugins": config.disabled_plugins,
        "required_plugins": config.required_plugins,
        "imports": config.imports,
        "grpc": {k: getattr(config.grpc, k) for k in sorted(sockets | {"max_recv_message_size"})},
        "ttrpc": {k: getattr(config.ttrpc, k) for k in sorted(sockets)},
        "debug": {"level": config.log_level, "format": config.log_format},
        "timeouts": timeouts,
        "plugins": config.plugins,
    }
    return "\n".join(_toml_lines(document, ()))


def parse_duration(text: object) -> float:
    """Seconds of a Go duration such as 100ms or 1m30s; InvalidArgument for anything else."""
    units = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    rest, total = str(text), 0.0
    if rest in ("0", ""):
        return 0.0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("nuµmsh"))]
        rest = rest[len(unit) :]
        if unit not in units or not number.strip(".") or number.count(".") > 1:
            raise InvalidArgument(f'time: invalid duration "{text}"')
        total += float(number) * units[unit]
    return total


def _read(path: str, seen: set[str]) -> dict[str, Any]:
    """A document with its imports merged in: lists add up, later scalars win."""
    real = os.path.realpath(path)
    if real in seen:
        return {}
    seen.add(real)
    try:
        with open(path, "rb") as f:
            document = tomllib.load(f)
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise InvalidArgument(f"failed to load TOML: {path}: {e}") from e
    for pattern in _texts(document, "imports"):
        absolute = os.path.join(os.path.dirname(real), pattern)
        for name in sorted(glob.glob(absolute)):
            _merge(document, _read(name, seen))
    return document


def _merge(target: dict[str, Any], extra: dict[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, list):
            target[key] = [*target.get(key, []), *value]
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


def _apply_socket(socket: SocketConfig, section: dict[str, Any]) -> None:
    socket.address = _text(section, "address", socket.address)
    socket.uid = _number(section, "uid", socket.uid)
    socket.gid = _number(section, "gid", socket.gid)
    size = _number(section, "max_recv_message_size", 0)
    socket.max_recv_message_size = size if size > 0 else socket.max_recv_message_size


def _apply_plugin(config: Config, name: str, values: Any) -> None:
    if not isinstance(values, dict):
        raise InvalidArgument(f"plugins.{name} must be a table")
    if name in (GRPC_SERVER, TTRPC_SERVER):  # where version 4 keeps the sockets
        _apply_socket(config.grpc if name == GRPC_SERVER else config.ttrpc, values)
        return
    target = config.plugins.get(_RENAMED.get(name, name))
    if target is None:
        config.warnings.append(f"no settings apply to plugin {name}")
        return
    for key, value in values.items():
        if key not in target:
            config.warnings.append(f"unknown key plugins.{name}.{key}")
        elif not _same_shape(target[key], value):
            raise InvalidArgument(f"plugins.{name}.{key} must be a {type(target[key]).__name__}")
        else:
            target[key] = value


def _same_shape(default: Any, value: Any) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(default) is type(value)


def _text(table: dict[str, Any], key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise InvalidArgument(f"{key} must be a string")
    return value


def _number(table: dict[str, Any], key: str, default: int) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(f"{key} must be a number")
    return value


def _texts(table: dict[str, Any], key: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidArgument(f"{key} must be a list of strings")
    return list(value)


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise InvalidArgument(f"{key} must be a table")
    return value


def _toml_lines(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    """Scalars first, then sub-tables, as TOML wants them."""
    lines = [f"{_toml_key(k)} = {_toml_value(v)}" for k, v in table.items() if not isinstance(v, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            inner = (*path, _toml_key(key))
            lines += ["", f"[{'.'.join(inner)}]", *_toml_lines(value, inner)]
    return lines


def _toml_key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else f'"{key}"'


def _toml_value(value: Any) -> str:
    import json

    return json.dumps(value)
