"""Network devices of the host that move into the container's network namespace, with their addresses.

Loaded only where a config names some. Moving them back is the kernel's: a physical device returns when the namespace
ends, a virtual one ends with it.

Spec:    runtime-spec config-linux.md#network-devices
Man:     rtnetlink(7)
Runs in: parent, while init waits in its namespaces
"""

from __future__ import annotations

import errno
import os

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.lib.linux.netlink import IFA_F_PERMANENT, MAX_NAME, RT_SCOPE_UNIVERSE, Address, RouteSocket
from pycontainerd.lib.oci.document import quote
from pycontainerd.runtime.libcontainer.init.program import InitError
from pycontainerd.runtime.libcontainer.parent import JoinedNamespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse(raw: dict[str, dict[str, Any]], namespaces: dict[str, str]) -> dict[str, str]:
    """The host's name of each device -> its name in the container; InvalidArgument in runc's words."""
    if raw and "network" not in namespaces:
        raise InvalidArgument("linux.netDevices: unable to move network devices without a NET namespace")
    found = {name: item.get("name") or name for name, item in raw.items()}
    for name in (*found, *found.values()):
        if not is_valid_name(name):
            raise InvalidArgument(f"linux.netDevices: invalid network device name {quote(name)}")
    if len(set(found.values())) != len(found):
        raise InvalidArgument("linux.netDevices: two devices have the same name in the container")
    return found


def is_valid_name(name: str) -> bool:
    """Linux's rule for names of network devices (net/core/dev.c, dev_valid_name)."""
    return (
        0 < len(os.fsencode(name)) <= MAX_NAME
        and name not in (".", "..")
        and not any(character in "/:" or character.isspace() for character in name)
    )


def move_all(devices: dict[str, str], pid: int) -> None:
    """Moves every device into the network namespace of a process; InitError says which failed, and at what."""
    path = f"/proc/{pid}/ns/net"
    netns_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with RouteSocket() as host:
            with JoinedNamespaces([(netns_fd, "network")]):
                inside = RouteSocket()
            with inside:
                for name, new_name in devices.items():
                    try:
                        _move(host, inside, name, new_name, netns_fd)
                    except InitError as error:
                        raise InitError(
                            "error creating network interfaces: "
                            f"move netDevice {name} to namespace {path}: {error}"
                        ) from error
    finally:
        os.close(netns_fd)


def _move(host: RouteSocket, inside: RouteSocket, name: str, new_name: str, netns_fd: int) -> None:
    what = f"link not found for interface {name} on runtime namespace"
    try:
        index = host.link_index(name)
        what = "fail to get ip addresses"
        # Unlike runc, before it is down: that takes the addresses of IPv6 away.
        addresses = [address for address in host.addresses(index) if _goes_along(address)]
        what = f"fail to move network device {name} to network namespace"
        # The kernel moves it and finds only then that the name is taken; the device would be lost to the host.
        _require_free(inside, new_name)
        what = "fail to set link down"
        # Whatever else of the host uses it sees it go before it changes.
        host.set_up(index, False)
        what = f"fail to move network device {name} to network namespace"
        host.move(index, new_name, netns_fd)
        what = f"link not found for interface {new_name} on namespace"
        index = inside.link_index(new_name)
        # The kernel took them when the device changed its namespace.
        what = "fail to set up address on namespace"
        for address in addresses:
            inside.add_address(index, address)
        what = f"fail to set up interface {new_name} on namespace"
        inside.set_up(index, True)
    except OSError as error:
        raise InitError(f"{what}: {go_error(error.errno or 0)}") from error


def _require_free(inside: RouteSocket, name: str) -> None:
    try:
        inside.link_index(name)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return
        raise
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _goes_along(address: Address) -> bool:
    """Permanent and global ones: the others were made by, or for, the network they are in."""
    return bool(address.flags & IFA_F_PERMANENT) and address.scope == RT_SCOPE_UNIVERSE
