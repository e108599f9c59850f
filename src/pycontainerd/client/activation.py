"""Mounts made by the daemon: activated under a name, what is left to mount here comes back.

Spec: containerd core/mount (Manager), mounts.v1 (containerd 2.2)
"""

from __future__ import annotations

from pycontainerd.lib.api.light import mounts_v1
from pycontainerd.lib.errdefs import NotFound, Unimplemented

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.client.client import Client
    from pycontainerd.lib.api.light import types


def activate(client: Client, name: str, mounts: Sequence[types.Mount]) -> list[types.Mount]:
    """Has the daemon mount a snapshot below a folder of its own; the mounts (a bind of it) to make here.

    Unimplemented, with what to do, on a daemon that doesn't do that.
    """
    request = mounts_v1.ActivateRequest(name=name, mounts=list(mounts), temporary=True)
    try:
        reply: mounts_v1.ActivateResponse = client.call(mounts_v1.MOUNTS, "Activate", request)
    except Unimplemented as error:
        raise Unimplemented(
            f"the daemon can't mount snapshots: {error}",
            hint="containerd has the mounts service since 2.2: name a folder to mount on instead",
        ) from error
    return list(reply.info.system)


def is_served(client: Client) -> bool:
    """Whether the daemon mounts snapshots at all."""
    try:
        client.call(mounts_v1.MOUNTS, "Info", mounts_v1.InfoRequest(name="is-it-served"))
    except Unimplemented:
        return False
    except NotFound:
        pass  # it looked, and has no mounts of this name
    return True


def deactivate(client: Client, name: str) -> None:
    """Takes it away again; NotFound."""
    client.call(mounts_v1.MOUNTS, "Deactivate", mounts_v1.DeactivateRequest(name=name))
