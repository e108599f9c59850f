"""Which daemon a command talks to: the one that was named, or the one that starts by itself."""

from __future__ import annotations

from pycontainerd.client.client import Client

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call

_CONNECT_TIMEOUT_S = 10.0


def connect(call: Call) -> Client:
    """A client for this call's address and namespace; Unavailable, with ctr's text, when nobody answers.

    With no address given, nothing listening on the default one and root's rights, a daemon is started first.
    """
    address = call.root_flags.text("address")
    if not call.root_flags.is_set("address"):
        from pycontainerd.ctr import embedded

        embedded.ensure_running(address)
    return Client(
        address,
        call.namespace,
        connect_timeout_s=call.root_flags.number("connect-timeout") / 1e9 or _CONNECT_TIMEOUT_S,
        timeout_s=call.root_flags.number("timeout") / 1e9,
    )


def snapshotter(call: Call) -> str:
    """--snapshotter or CONTAINERD_SNAPSHOTTER; the daemon's usual one otherwise."""
    for flags in (call.flags, call.group_flags):
        if flags.flag("snapshotter") and flags.text("snapshotter"):
            return flags.text("snapshotter")
    return "overlayfs"
