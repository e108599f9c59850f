"""The runtime options of a container: from the request, in the bundle's options.json, and where the runtime keeps state.

Spec: containerd.runc.v1.Options
"""

from __future__ import annotations

import os

from pycontainerd.lib import errdefs
from pycontainerd.lib.api.light import runc_v1
from pycontainerd.lib.oci import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.lib.api.light import wkt

TYPE_NAME: Final = "containerd.runc.v1.Options"
_MAX_FILE: Final = 1 << 20

# options.json as Go's encoding/json writes the message: field order, zero values left out.
_FIELDS: Final = (
    "no_pivot_root",
    "no_new_keyring",
    "shim_cgroup",
    "io_uid",
    "io_gid",
    "binary_name",
    "root",
    "criu_path",
    "systemd_cgroup",
    "criu_image_path",
    "criu_work_path",
    "task_api_address",
    "task_api_version",
)
_NUMBERS: Final = ("io_uid", "io_gid", "task_api_version")
_FLAGS: Final = ("no_pivot_root", "no_new_keyring", "systemd_cgroup")


class Options:
    """What the shim acts on. `root` is empty when the default applies."""

    __slots__ = _FIELDS

    no_pivot_root: bool
    no_new_keyring: bool
    shim_cgroup: str
    io_uid: int
    io_gid: int
    binary_name: str
    root: str
    criu_path: str
    systemd_cgroup: bool
    criu_image_path: str
    criu_work_path: str
    task_api_address: str
    task_api_version: int

    def __init__(self, values: dict[str, str | int | bool] | None = None) -> None:
        given = values or {}
        for name in _FIELDS:
            default: str | int | bool = ""
            if name in _NUMBERS:
                default = 0
            elif name in _FLAGS:
                default = False
            setattr(self, name, given.get(name, default))

    def values(self) -> dict[str, str | int | bool]:
        """What was given: what isn't its field's zero value."""
        return {name: getattr(self, name) for name in _FIELDS if getattr(self, name)}

    @property
    def is_in_process(self) -> bool:
        """Whether the container is run by libcontainer here rather than by a program.

        dockerd always sends the word `runc`; somebody who wants a certain program says so by another name or a path.
        """
        return self.binary_name in ("", "runc")

    def runtime_root(self, address: str, namespace: str) -> str:
        """The runtime's state folder: under what the client said, else beside the daemon's socket."""
        base = self.root or os.path.join(os.path.dirname(address) or "/run/containerd", "runc")
        return os.path.join(base, namespace)


def from_any(value: wkt.Any) -> Options:
    """Options of a Create or start request; an empty Any is all defaults. Raises InvalidArgument for another type."""
    if not value.value:
        return Options()
    name = value.type_url.rpartition("/")[2]
    if name != TYPE_NAME:
        raise errdefs.InvalidArgument(f"unsupported option type {value.type_url!r}, want {TYPE_NAME}")
    message = runc_v1.Options.FromString(value.value)
    return Options({field: getattr(message, field) for field in _FIELDS})


def store(bundle: str, options: Options) -> None:
    """Writes options.json and runtime, which the delete action finds after the shim has died."""
    write_private(f"{bundle}/options.json", document.dumps(options.values()))
    write_private(f"{bundle}/runtime", options.binary_name)


def load(bundle: str) -> Options:
    """What `store` wrote; defaults when there is nothing."""
    try:
        with open(f"{bundle}/options.json", encoding="utf-8") as file:
            values = document.loads(file.read(_MAX_FILE))
    except FileNotFoundError:
        return Options()
    return Options({key: value for key, value in values.items() if key in _FIELDS})


def write_private(path: str, text: str) -> None:
    """A file only its owner reads, written whole."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
