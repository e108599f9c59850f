"""state.json, in runc's own format, so that each of runc and pyrunc works on the other's containers.

    <root>/<id>/state.json     {id, init_process_pid, init_process_start, created, config, rootless,
                                cgroup_paths, namespace_paths, external_descriptors, intel_rdt_path
                                and, ours alone, intel_rdt_made: whether that group is removed with the container}
    <root>/<id>/exec.fifo      only while the container is created and not started

Spec: runc libcontainer State (json tags), written by runc 1.1
"""

from __future__ import annotations

import os
import time

from pycontainerd.lib.errdefs import InvalidArgument, NotFound
from pycontainerd.lib.oci.document import DocumentError, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE_FILE = "state.json"
FIFO_FILE = "exec.fifo"

# runc's name of a namespace -> file in /proc/PID/ns
NAMESPACE_FILES = {
    "NEWCGROUP": "cgroup",
    "NEWIPC": "ipc",
    "NEWNET": "net",
    "NEWNS": "mnt",
    "NEWPID": "pid",
    "NEWUSER": "user",
    "NEWUTS": "uts",
    "NEWTIME": "time",
}
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_MAX_ID = 1024


def require_id(id: str) -> None:
    """The container ID rule; InvalidArgument, for nothing else keeps a path out of the root."""
    if not id or id in (".", "..") or len(id) > _MAX_ID or set(id) - _ID_CHARACTERS:
        raise InvalidArgument("invalid container ID format: " + id)


def now() -> str:
    """The present as Go's RFC 3339 with up to nine digits, UTC."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    digits = f"{nanos:09d}".rstrip("0")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + (f".{digits}Z" if digits else "Z")


class State:
    """One container's state.json in memory; `config` is runc's libcontainer config."""

    __slots__ = (
        "cgroup_paths",
        "config",
        "created",
        "external_descriptors",
        "id",
        "init_pid",
        "init_start",
        "intel_rdt_made",
        "intel_rdt_path",
        "rootless",
    )

    def __init__(self, id: str, config: dict[str, Any], cgroup_paths: dict[str, str]) -> None:
        self.id = id
        self.config = config
        self.cgroup_paths = cgroup_paths
        self.created = now()
        self.init_pid = 0
        self.init_start = 0
        self.rootless = False
        self.external_descriptors: list[str] = []
        self.intel_rdt_path = ""
        self.intel_rdt_made = False

    def document(self) -> dict[str, Any]:
        """As runc writes it."""
        pid = self.init_pid
        hidden = {} if os.path.exists("/proc/self/ns/time") else {"NEWTIME": ""}
        spaces = (
            {
                kind: f"/proc/{pid}/ns/{name}"
                for kind, name in NAMESPACE_FILES.items()
                if kind not in hidden and kind != "NEWTIME"
            }
            if pid
            else {}
        )
        return {
            "id": self.id,
            "init_process_pid": pid,
            "init_process_start": self.init_start,
            "created": self.created,
            "config": self.config,
            "rootless": self.rootless,
            "cgroup_paths": self.cgroup_paths,
            "namespace_paths": spaces,
            "external_descriptors": self.external_descriptors,
            "intel_rdt_path": self.intel_rdt_path,
            **({"intel_rdt_made": True} if self.intel_rdt_made else {}),
        }

    def label(self, key: str) -> str:
        """The value of a `key=value` label; empty when there is none."""
        for label in self.config.get("labels") or []:
            if label.startswith(key + "="):
                return str(label[len(key) + 1 :])
        return ""

    def annotations(self) -> dict[str, str]:
        """The labels without runc's own `bundle`."""
        pairs = (label.partition("=") for label in self.config.get("labels") or [])
        return {key: value for key, _, value in pairs if key != "bundle"}


def store(directory: str, state: State) -> None:
    """Writes state.json by rename: a reader sees the old one or the new one."""
    put(directory, prepare(directory, state))


def prepare(directory: str, state: State) -> str:
    """The next state.json, beside the one that is there until `put`: its path."""
    temporary = f"{directory}/.{STATE_FILE}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = dumps(state.document()).encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
    return temporary


def put(directory: str, prepared: str) -> None:
    """Makes what was prepared the container's state.json."""
    os.rename(prepared, f"{directory}/{STATE_FILE}")


def remove(root: str, id: str) -> None:
    """Removes a container's folder; InvalidArgument for what is no ID, none is fine."""
    from pycontainerd.lib.linux.tree import remove_tree

    require_id(id)
    try:
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(root_fd, id)
    finally:
        os.close(root_fd)


def load(root: str, id: str) -> State:
    """Reads a container's state; NotFound in runc's words when there is none."""
    require_id(id)
    try:
        fd = os.open(f"{root}/{id}/{STATE_FILE}", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("container does not exist") from None
    chunks = []
    try:
        while chunk := os.read(fd, 1 << 20):
            chunks.append(chunk)
    finally:
        os.close(fd)
    try:
        raw = loads(b"".join(chunks), max_bytes=64 << 20)
        config, cgroup_paths = raw["config"], raw.get("cgroup_paths") or {}
        if not isinstance(config, dict) or not isinstance(cgroup_paths, dict):
            raise TypeError("not an object")
        found = State(id, config, cgroup_paths)
        found.init_pid = int(raw["init_process_pid"])
        found.init_start = int(raw["init_process_start"])
        found.created = raw["created"]
        found.rootless = bool(raw.get("rootless"))
        found.external_descriptors = raw.get("external_descriptors") or []
        found.intel_rdt_path = raw.get("intel_rdt_path") or ""
        found.intel_rdt_made = bool(raw.get("intel_rdt_made"))
    except DocumentError as error:
        raise InvalidArgument(f"error loading container {id}: {STATE_FILE}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidArgument(
            f"error loading container {id}: {STATE_FILE} is no state of a container"
        ) from error
    return found
