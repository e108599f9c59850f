"""The daemon's settings: containerd's config.toml, versions 1 to 4, the keys that apply here.

Spec: containerd docs/man/containerd-config.toml.5.md, PLUGINS.md
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Final

from pycontainerd.daemon import config_file
from pycontainerd.lib.duration import parse_nanos
from pycontainerd.lib.errdefs import InvalidArgument

DEFAULT_ROOT: Final = "/var/lib/pycontainerd"
DEFAULT_STATE: Final = "/run/pycontainerd"
DEFAULT_ADDRESS: Final = "/run/pycontainerd/pycontainerd.sock"
DEFAULT_CONFIG: Final = "/etc/pycontainerd/config.toml"
_DROP_IN_NAMES: Final = "conf.d/*.toml"
DROP_INS: Final = f"/etc/pycontainerd/{_DROP_IN_NAMES}"

GC: Final = "io.containerd.gc.v1.scheduler"
METADATA: Final = "io.containerd.metadata.v1.bolt"
RUNTIME: Final = "io.containerd.runtime.v2.task"
LINUX_RUNTIME: Final = "io.containerd.runtime.v1.linux"
SHIM_MANAGER: Final = "io.containerd.shim.v1.manager"
OVERLAYFS: Final = "io.containerd.snapshotter.v1.overlayfs"
NATIVE: Final = "io.containerd.snapshotter.v1.native"
OPT: Final = "io.containerd.internal.v1.opt"
RESTART: Final = "io.containerd.monitor.container.v1.restart"
TRANSFER: Final = "io.containerd.transfer.v1.local"
DIFF_SERVICE: Final = "io.containerd.service.v1.diff-service"
_SHAPES: Final[dict[type, str]] = {str: "string", int: "number", bool: "boolean"}

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
    OPT: {"path": ""},
    RUNTIME: {"platforms": []},
    LINUX_RUNTIME: {"shim": "", "runtime": "runc", "runtime_root": "", "shim_debug": False},
    SHIM_MANAGER: {"env": [], "starter": "auto", "runtime_paths": {}},
    OVERLAYFS: {
        "root_path": "",
        "upperdir_label": False,
        "sync_remove": False,
        "slow_chown": False,
        "mount_options": [],
    },
    NATIVE: {"root_path": ""},
    RESTART: {"interval": "10s"},
    DIFF_SERVICE: {"default": ["walking"]},
    TRANSFER: {"config_path": "", "max_concurrent_downloads": 3, "max_concurrent_uploaded_layers": 3},
}
TIMEOUT_DEFAULTS: Final = {
    "io.containerd.timeout.metrics.shimstats": "2s",
    "io.containerd.timeout.shim.cleanup": "5s",
    "io.containerd.timeout.shim.load": "5s",
    "io.containerd.timeout.shim.shutdown": "3s",
    "io.containerd.timeout.task.state": "2s",
}
_SECTIONS: Final = {
    "grpc": {
        "address": "",
        "gid": 0,
        "max_recv_message_size": 16 << 20,
        "max_send_message_size": 16 << 20,
        "tcp_address": "",
        "tcp_tls_ca": "",
        "tcp_tls_cert": "",
        "tcp_tls_common_name": "",
        "tcp_tls_key": "",
        "uid": 0,
    },
    "ttrpc": {"address": "", "gid": 0, "uid": 0},
    "debug": {"address": "", "format": "", "gid": 0, "level": "", "uid": 0},
    "metrics": {"address": "", "grpc_histogram": False},
}
_PROXY: Final[dict[str, Any]] = {"type": "", "address": "", "platform": "", "exports": {}, "capabilities": []}
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
    "proxy_plugins",
    *_SECTIONS,
}


@dataclass(slots=True)
class SocketConfig:
    """A listening socket and who owns its file."""

    address: str = ""
    uid: int = 0
    gid: int = 0


@dataclass(slots=True)
class GrpcConfig(SocketConfig):
    """gRPC: on a unix socket, and on TCP where `tcp_address` says so. Message sizes are in bytes."""

    max_recv_message_size: int = 16 << 20
    max_send_message_size: int = 16 << 20
    tcp_address: str = ""
    tcp_tls_ca: str = ""
    tcp_tls_cert: str = ""
    tcp_tls_key: str = ""
    tcp_tls_common_name: str = ""


@dataclass(slots=True)
class DebugConfig(SocketConfig):
    """The log, and the socket for looking inside."""

    level: str = "info"
    format: str = "text"


@dataclass(slots=True)
class MetricsConfig:
    """Where numbers are served by HTTP; "" for nowhere."""

    address: str = ""
    grpc_histogram: bool = False


@dataclass(slots=True)
class ProxyPlugin:
    """A plugin that another program serves on a socket. `type` is snapshot or content (or diff, sandbox: refused)."""

    type: str
    address: str
    platform: str = ""
    exports: dict[str, str] = field(default_factory=dict)
    capabilities: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Config:
    """Everything the daemon can be told. `warnings` are about keys that were not understood."""

    root: str = DEFAULT_ROOT
    state: str = DEFAULT_STATE
    temp: str = ""
    oom_score: int = 0
    disabled_plugins: list[str] = field(default_factory=list)
    required_plugins: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    grpc: GrpcConfig = field(default_factory=lambda: GrpcConfig(DEFAULT_ADDRESS))
    ttrpc: SocketConfig = field(default_factory=SocketConfig)
    debug: DebugConfig = field(default_factory=DebugConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    proxy_plugins: dict[str, ProxyPlugin] = field(default_factory=dict)
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
    """The configuration in a file and its imports; a missing file is fine unless it was asked for by name.

    Where the file of the usual name is missing, what lies in the usual folder beside it counts: unlike containerd, whose
    drop-ins need a file that imports them.
    """
    config = Config()
    if not os.path.exists(path):
        if required:
            raise InvalidArgument(f"failed to load config file {path}: no such file or directory")
        apply(config, config_file.read_drop_ins(f"{os.path.dirname(path)}/{_DROP_IN_NAMES}"))
        return config
    apply(config, config_file.read(path))
    return config


def apply(config: Config, document: dict[str, Any]) -> None:
    """Puts a document of version 3 into a configuration; what isn't known becomes a warning."""
    for key in sorted(document.keys() - _TOP):
        config.warnings.append(f"unknown key {key}")
    config.root = _text(document, "root", config.root)
    config.state = _text(document, "state", config.state)
    config.temp = _text(document, "temp", config.temp)
    config.oom_score = _number(document, "oom_score", config.oom_score)
    config.disabled_plugins = _texts(document, "disabled_plugins")
    config.required_plugins = _texts(document, "required_plugins")
    config.imports = _texts(document, "imports")
    for name in _SECTIONS:
        _apply_section(config, name, _table(document, name))
    for name, text in _table(document, "timeouts").items():
        if name in TIMEOUT_DEFAULTS:
            config.timeouts_s[name] = parse_duration(text)
        else:
            config.warnings.append(f"unknown key timeouts.{name}")
    for name, values in _table(document, "plugins").items():
        _apply_plugin(config, name, values)
    for name, values in _table(document, "proxy_plugins").items():
        config.proxy_plugins[name] = _proxy_plugin(config, name, values)
    if config.root == config.state:
        raise InvalidArgument("root and state must be different paths")


def dump(config: Config) -> str:
    """The configuration as version 3 of containerd's format."""
    timeouts = {name: f"{seconds:g}s" for name, seconds in config.timeouts_s.items()}
    document: dict[str, Any] = {
        "version": config_file.VERSION,
        "root": config.root,
        "state": config.state,
        "temp": config.temp,
        "oom_score": config.oom_score,
        "disabled_plugins": config.disabled_plugins,
        "required_plugins": config.required_plugins,
        "imports": config.imports,
        **{
            name: {key: getattr(getattr(config, name), key) for key in keys}
            for name, keys in _SECTIONS.items()
        },
        "timeouts": timeouts,
        "plugins": config.plugins,
        "proxy_plugins": {
            name: {key: getattr(proxy, key) for key in _PROXY} for name, proxy in config.proxy_plugins.items()
        },
    }
    return config_file.format_toml(document)


def parse_duration(text: object) -> float:
    """Seconds of a Go duration such as 100ms or 1m30s; InvalidArgument for anything else."""
    nanos = 0 if text == "" else parse_nanos(str(text))
    if nanos is None or nanos < 0:
        raise InvalidArgument(f'time: invalid duration "{text}"')
    return nanos / 1e9


def _apply_section(config: Config, name: str, section: dict[str, Any]) -> None:
    """One of the fixed tables; an empty text or a zero leaves the default, as in containerd."""
    target, known = getattr(config, name), _SECTIONS[name]
    for key, value in section.items():
        if key not in known:
            config.warnings.append(f"unknown key {name}.{key}")
        elif not _same_shape(known[key], value):
            raise InvalidArgument(f"{name}.{key} must be a {_SHAPES[type(known[key])]}")
        elif value or isinstance(value, bool):
            setattr(target, key, value)
    for key in ("max_recv_message_size", "max_send_message_size"):
        if section.get(key, 0) < 0:
            raise InvalidArgument(f"{name}.{key} must not be negative")


def _proxy_plugin(config: Config, name: str, values: Any) -> ProxyPlugin:
    if not isinstance(values, dict):
        raise InvalidArgument(f"proxy_plugins.{name} must be a table")
    for key, value in values.items():
        if key not in _PROXY:
            config.warnings.append(f"unknown key proxy_plugins.{name}.{key}")
        elif not _same_shape(_PROXY[key], value):
            raise InvalidArgument(f"proxy_plugins.{name}.{key} must be a {type(_PROXY[key]).__name__}")
    for key in ("type", "address"):
        if not values.get(key):
            raise InvalidArgument(f"proxy_plugins.{name} needs {key}")
    return ProxyPlugin(**{key: values.get(key, default) for key, default in _PROXY.items()})


def _apply_plugin(config: Config, name: str, values: Any) -> None:
    if not isinstance(values, dict):
        raise InvalidArgument(f"plugins.{name} must be a table")
    target = config.plugins.get(name)
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
