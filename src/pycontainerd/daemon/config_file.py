"""config.toml as a document: read with its imports, brought to version 3, written again.

Spec: containerd docs/man/containerd-config.toml.5.md, PLUGINS.md#version-header
"""

from __future__ import annotations

import glob
import os
import tomllib
from typing import Any, Final

from pycontainerd.lib.errdefs import InvalidArgument

VERSION: Final = 3
NEWEST_VERSION: Final = 4
_SERVER: Final = "io.containerd.server.v1."

# Version 1 named plugins by id alone; 3 calls some by other names than 2. What stands here already is left as it is.
_RENAMED: Final = {
    "bolt": "io.containerd.metadata.v1.bolt",
    "cgroups": "io.containerd.monitor.task.v1.cgroups",
    "cri": "io.containerd.grpc.v1.cri",
    "diff-service": "io.containerd.service.v1.diff-service",
    "linux": "io.containerd.runtime.v1.linux",
    "native": "io.containerd.snapshotter.v1.native",
    "opt": "io.containerd.internal.v1.opt",
    "overlayfs": "io.containerd.snapshotter.v1.overlayfs",
    "restart": "io.containerd.monitor.container.v1.restart",
    "scheduler": "io.containerd.gc.v1.scheduler",
    "io.containerd.internal.v1.restart": "io.containerd.monitor.container.v1.restart",
    "io.containerd.metadata.v1.sqlite": "io.containerd.metadata.v1.bolt",
    "io.containerd.monitor.v1.cgroups": "io.containerd.monitor.task.v1.cgroups",
    "io.containerd.runtime.v2.shim": "io.containerd.shim.v1.manager",
}
# Where version 4 keeps the sockets: plugin -> (table of version 3, key -> key).
_SERVERS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    f"{_SERVER}grpc": ("grpc", {}),
    f"{_SERVER}grpc-tcp": (
        "grpc",
        {
            "address": "tcp_address",
            "tls_ca": "tcp_tls_ca",
            "tls_cert": "tcp_tls_cert",
            "tls_key": "tcp_tls_key",
            "tls_common_name": "tcp_tls_common_name",
        },
    ),
    f"{_SERVER}ttrpc": ("ttrpc", {}),
    f"{_SERVER}debug": ("debug", {}),
    f"{_SERVER}metrics": ("metrics", {}),
}
# These tables of an import take the place of the main file's as a whole, name by name.
_WHOLE: Final = ("plugins", "proxy_plugins", "stream_processors", "timeouts")


def read(path: str, *, imports: bool = True) -> dict[str, Any]:
    """The file as version 3, with its imports merged in and `imports` naming every file that was read.

    InvalidArgument for what cannot be read, a version that isn't known, or an import that isn't there; only a pattern
    with a `*` may match nothing.
    """
    return _read_all([path]) if imports else _parse(path)


def read_drop_ins(pattern: str) -> dict[str, Any]:
    """The files that a pattern matches, in the order of their names, as `read` reads imports. InvalidArgument."""
    return _read_all(sorted(glob.glob(pattern)))


def _read_all(waiting: list[str]) -> dict[str, Any]:
    read_paths: list[str] = []
    merged: dict[str, Any] = {}
    while waiting:
        name = waiting.pop(0)
        if any(os.path.samefile(name, seen) for seen in read_paths):
            continue
        read_paths.append(name)
        part = _parse(name)
        patterns = part.pop("imports", [])
        _merge(merged, part)
        waiting += _resolve(name, patterns)
    merged["imports"] = read_paths
    return merged


def migrated(document: dict[str, Any], path: str) -> dict[str, Any]:
    """A document of any version as version 3; keys nobody knows stay where they are."""
    version = document.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= NEWEST_VERSION:
        raise InvalidArgument(f"unsupported config file version {version}: this daemon reads 1 to 4")
    for kind in ("disabled", "required"):
        uris = document.get(f"{kind}_plugins", [])
        for uri in uris if isinstance(uris, list) and version > 1 else ():
            if str(uri).count(".") < 3:
                raise InvalidArgument(
                    f'failed to load TOML from {path}: invalid {kind} plugin URI "{uri}" expect io.containerd.x.vx'
                )
    result = {**document, "version": VERSION}
    plugins = document.get("plugins")
    if not isinstance(plugins, dict):
        return result
    result["plugins"] = {}
    for name, values in plugins.items():
        if name in _SERVERS and isinstance(values, dict):
            table, keys = _SERVERS[name]
            result[table] = {**result.get(table, {}), **{keys.get(k, k): v for k, v in values.items()}}
        else:
            result["plugins"][_RENAMED.get(name, name)] = values
    return result


def format_toml(document: dict[str, Any]) -> str:
    """TOML text: scalars first, then tables."""
    return "\n".join(_lines(document, ()))


def _parse(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as f:
            document = tomllib.load(f)
    except OSError as e:
        raise InvalidArgument(
            f"failed to load TOML: {path}: open {path}: {(e.strerror or '').lower()}"
        ) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InvalidArgument(f"failed to load TOML: {path}: {e}") from e
    return migrated(document, path)


def _resolve(path: str, patterns: Any) -> list[str]:
    """The files an `imports` key means; a name without `*` must exist, which reading it then says."""
    if not isinstance(patterns, list) or not all(isinstance(item, str) for item in patterns):
        raise InvalidArgument("imports must be a list of strings")
    found: list[str] = []
    for pattern in patterns:
        absolute = os.path.join(os.path.dirname(path), pattern)
        found += sorted(glob.glob(absolute)) if "*" in pattern else [os.path.normpath(absolute)]
    for name in found:
        if not os.path.exists(name):
            raise InvalidArgument(f"failed to load TOML: {name}: open {name}: no such file or directory")
    return found


def _merge(target: dict[str, Any], extra: dict[str, Any]) -> None:
    """As containerd merges: lists add up, later values win, but empty ones say nothing; some tables are replaced whole."""
    for key, value in extra.items():
        if key in _WHOLE and isinstance(value, dict):
            target[key] = {**target.get(key, {}), **value}
        elif isinstance(value, list):
            target[key] = [*target.get(key, []), *value]
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        elif key not in target or value or isinstance(value, bool):
            target[key] = value


def _lines(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = [f"{_key(k)} = {_value(v)}" for k, v in table.items() if not isinstance(v, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            inner = (*path, _key(key))
            lines += ["", f"[{'.'.join(inner)}]", *_lines(value, inner)]
    return lines


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _value(key)


def _value(value: Any) -> str:
    """Also lists of tables (stream processors of plugins), as inline tables."""
    import json

    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str | bool | int):
        return json.dumps(value)
    return str(value)  # floats and dates print as TOML writes them
