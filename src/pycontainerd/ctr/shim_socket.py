"""Where the socket of a container's shim may be."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.ctr.command import Call

_SOCKETS: Final = "/run/containerd/s"


def of_profiles(call: Call) -> str:
    """The debug socket of the shim of `--id`, which a shim listens on when its daemon said -debug."""
    from pycontainerd.lib.errdefs import InvalidArgument

    container_id = call.group_flags.text("id")
    if not container_id:
        raise InvalidArgument("container id must be provided", hint="shim --id ID pprof ...")
    return _path(call.root_flags.text("address"), call.namespace, f"{container_id}/debug")


def _path(address: str, namespace: str, name: str) -> str:
    from pycontainerd.lib.ttrpc.address import shim_address, socket_path

    return socket_path(shim_address(_SOCKETS, address, namespace, name))


def candidates(address: str, namespace: str, container_id: str) -> list[str]:
    """The one in the sockets' folder that the three make up, and what the bundle says."""
    found = [_path(address, namespace, container_id)]
    # A shim that chose another socket wrote it into its bundle.
    file = f"{os.path.dirname(address)}/io.containerd.runtime.v2.task/{namespace}/{container_id}/address"
    if os.path.exists(file):
        with open(file, encoding="utf-8") as text:
            found.append(text.read().strip().removeprefix("unix://"))
    return found
