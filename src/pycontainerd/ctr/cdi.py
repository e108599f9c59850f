"""`--device vendor/class=name`: a device as the Container Device Interface describes it, from /etc/cdi and /run/cdi.

Spec: CDI SPEC.md (kind, devices, containerEdits); containerd 2 pkg/cdi
"""

from __future__ import annotations

import os

from pycontainerd.client import spec_opts
from pycontainerd.ctr import host, plain_yaml, text
from pycontainerd.lib.errdefs import InvalidArgument, NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Final

    from pycontainerd.client.spec_opts import Spec

    # The file, its document, and the device's entry there.
    _Device = tuple[str, dict[str, Any], dict[str, Any]]

# What lies in the later one takes the place of what the earlier one calls the same.
FOLDERS: Final = ("/etc/cdi", "/run/cdi")
_MAX_FILE: Final = 4 << 20
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_ALNUM: Final = _LETTERS | frozenset("0123456789")
_EDITS: Final = frozenset({"env", "deviceNodes", "mounts", "hooks", "additionalGids"})
_HOOKS: Final = frozenset(
    {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
)


def _require_qualified(name: str) -> None:
    kind, equals, device = name.partition("=")
    vendor, slash, class_ = kind.partition("/")
    words = ((vendor, _LETTERS, ".-_"), (class_, _LETTERS, ".-_"), (device, _ALNUM, ".-_:"))
    if not (equals and slash and all(_is_word(*word) for word in words)):
        raise InvalidArgument(f'"{name}" is neither a path nor a CDI device (vendor/class=name)')


def _is_word(word: str, first: frozenset[str], marks: str) -> bool:
    return bool(word) and word[0] in first and word[-1] in _ALNUM and set(word) <= _ALNUM | set(marks)


def with_devices(spec: Spec, names: Sequence[str], folders: Sequence[str] = FOLDERS) -> Spec:
    """The Spec with the edits of the devices, and once each of the files that describe them.

    NotFound for devices that no file describes, InvalidArgument where a file that can't be read may be why. Such a file
    is only warned of while it isn't missed, as containerd does.
    """
    for name in names:
        _require_qualified(name)
    known, broken = _devices(folders, {name.partition("=")[0] for name in names})
    missing = [name for name in names if name not in known]
    for error in broken:
        if missing:
            raise error
        text.warn(f"CDI registry refresh failed: {error}")
    if missing:
        raise NotFound(
            f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}",
            hint=f"files that describe devices are in {' and '.join(folders)}",
        )
    done: list[str] = []
    for name in names:
        path, document, device = known[name]
        if path not in done:
            done.append(path)
            spec = _edited(spec, document, path)
        spec = _edited(spec, device, path)
    return spec


def _devices(folders: Sequence[str], kinds: set[str]) -> tuple[dict[str, _Device], list[InvalidArgument]]:
    """The devices of the kinds that are wanted, by full name; what is wrong with files that can't be read."""
    found: dict[str, _Device] = {}
    broken: list[InvalidArgument] = []
    for path in _files(folders):
        try:
            found.update(_described(path, kinds))
        except InvalidArgument as error:
            broken.append(error)
    return found, broken


def _described(path: str, kinds: set[str]) -> dict[str, _Device]:
    """The devices in one file."""
    try:
        document = plain_yaml.load(path, _MAX_FILE)
        if document.get("kind") not in kinds:
            return {}
        devices = document.get("devices") or ()
        return {f"{document['kind']}={device['name']}": (path, document, device) for device in devices}
    except OSError as error:
        raise InvalidArgument(f"CDI file: {text.os_text(error)}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"CDI file {path}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:  # another shape than the specification's
        raise InvalidArgument(f"CDI file {path}: it lacks or misplaces {error}") from error


def _files(folders: Sequence[str]) -> Iterator[str]:
    for folder in folders:
        if os.path.isdir(folder):
            yield from (
                f"{folder}/{name}"
                for name in sorted(os.listdir(folder))
                if name.endswith((".json", ".yaml", ".yml"))
            )


def _edited(spec: Spec, described: dict[str, Any], path: str) -> Spec:
    """The Spec with the edits of a file, or of a device in it."""
    try:
        return _with_edits(spec, described.get("containerEdits") or {}, path)
    except (KeyError, TypeError, AttributeError) as error:  # another shape than the specification's
        raise InvalidArgument(f"CDI file {path}: its edits lack or misplace {error}") from error


def _with_edits(spec: Spec, edits: dict[str, Any], path: str) -> Spec:
    unknown = set(edits) - _EDITS
    if unknown:
        raise InvalidArgument(
            f"CDI file {path}: edits of {', '.join(sorted(unknown))} are not supported",
            hint=f"what is: {', '.join(sorted(_EDITS))}",
        )
    spec = spec_opts.with_env(spec, edits.get("env") or ())
    for node in edits.get("deviceNodes") or ():
        spec = _with_node(spec, node)
    for mount in edits.get("mounts") or ():
        spec = _with_mount(spec, mount)
    for hook in edits.get("hooks") or ():
        spec = _with_hook(spec, hook, path)
    gids = [_number(gid) for gid in edits.get("additionalGids") or ()]
    if gids:
        user = spec["process"]["user"]
        every = list(dict.fromkeys([*user.get("additionalGids", ()), *gids]))
        spec = spec_opts.with_process(spec, user={**user, "additionalGids": every})
    return spec


def _with_node(spec: Spec, node: dict[str, Any]) -> Spec:
    """What the file doesn't say of a node is what the host's node is."""
    device: dict[str, Any] = {"path": node["path"], "type": node.get("type", "")}
    if not node.get("type") or "major" not in node or "minor" not in node:
        device = host.device(node.get("hostPath") or node["path"], node["path"])
    for name in ("major", "minor", "fileMode", "uid", "gid"):
        if name in node:
            device[name] = _number(node[name])
    linux = spec.get("linux", {})
    others = [one for one in linux.get("devices", ()) if one["path"] != node["path"]]
    spec = spec_opts.with_linux(spec, devices=others)
    return spec_opts.with_device(spec, device, node.get("permissions") or spec_opts.RWM)


def _with_mount(spec: Spec, mount: dict[str, Any]) -> Spec:
    others = [one for one in spec.get("mounts", ()) if one["destination"] != mount["containerPath"]]
    added = spec_opts.mount(
        mount["containerPath"],
        mount.get("type") or "bind",
        mount["hostPath"],
        list(mount.get("options") or ()),
    )
    # A mount over another's parent would hide it.
    return {
        **spec,
        "mounts": sorted([*others, added], key=lambda one: one["destination"].rstrip("/").count("/")),
    }


def _with_hook(spec: Spec, hook: dict[str, Any], path: str) -> Spec:
    kind = hook.get("hookName", "")
    if kind not in _HOOKS:
        raise InvalidArgument(f'CDI file {path}: unknown hook name "{kind}"')
    added: dict[str, Any] = {"path": hook["path"]}
    for name in ("args", "env"):
        if hook.get(name):
            added[name] = list(hook[name])
    if hook.get("timeout"):
        added["timeout"] = _number(hook["timeout"])
    hooks = spec.get("hooks", {})
    return {**spec, "hooks": {**hooks, kind: [*hooks.get(kind, ()), added]}}


def _number(given: str) -> int:
    if not given.isascii() or not given.isdigit():
        raise InvalidArgument(f'"{given}" of a CDI file is no number')
    return int(given)
