"""Route netlink: links by name, their state, namespace and addresses. One socket asks and reads its own answers.

Man:     netlink(7), rtnetlink(7)
"""

from __future__ import annotations

import os
import struct
from _socket import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

AF_NETLINK, SOCK_RAW, SOCK_CLOEXEC, NETLINK_ROUTE = 16, 3, 0o2000000, 0

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x300, 0x200, 0x400
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 18, 20, 22

IFLA_IFNAME, IFLA_NET_NS_FD = 3, 28
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_PERMANENT = 0x80
RT_SCOPE_UNIVERSE = 0
IFF_UP = 1

MAX_NAME = 15  # IFNAMSIZ less the NUL

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, device type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_MAX_ANSWER = 1 << 16


class Address:
    """One address of a link; bytes are in network order. `broadcast` is empty where there is none."""

    __slots__ = ("address", "broadcast", "family", "flags", "local", "prefix_length", "scope")

    def __init__(self, payload: bytes) -> None:
        self.family, self.prefix_length, flags, self.scope, _index = _ADDRESS.unpack_from(payload)
        attributes = dict(_attributes(payload[_ADDRESS.size :]))
        self.address = attributes.get(IFA_ADDRESS, b"")
        self.local = attributes.get(IFA_LOCAL, b"")
        self.broadcast = attributes.get(IFA_BROADCAST, b"")
        wide = attributes.get(IFA_FLAGS)
        self.flags: int = int.from_bytes(wide, "little") if wide else flags


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return (_ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value).ljust(
        (_ATTRIBUTE.size + len(value) + 3) & ~3, b"\0"
    )


class RouteSocket:
    """A socket of the network namespace in which it was made, wherever its user goes. A context that closes it."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def _ask(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        """Sends one request and reads to its end; the payloads of the answers. OSError with the kernel's errno."""
        self._sequence += 1
        length = _HEADER.size + len(payload)
        self._socket.send(_HEADER.pack(length, kind, flags | NLM_F_REQUEST, self._sequence, 0) + payload)
        answers: list[bytes] = []
        while True:
            data = self._socket.recv(_MAX_ANSWER)
            at = 0
            while at + _HEADER.size <= len(data):
                size, found, _flags, sequence, _port = _HEADER.unpack_from(data, at)
                body = data[at + _HEADER.size : at + size]
                at += (max(size, _HEADER.size) + 3) & ~3
                if sequence != self._sequence:
                    continue
                if found == NLMSG_ERROR:
                    code = -int.from_bytes(body[:4], "little", signed=True)
                    if code:
                        raise OSError(code, os.strerror(code))
                    return answers
                if found == NLMSG_DONE:
                    return answers
                answers.append(body)

    def link_index(self, name: str) -> int:
        """The number of a link; OSError ENODEV when there is none of that name."""
        payload = _LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        answer = self._ask(RTM_GETLINK, NLM_F_ACK, payload)
        index: int = _LINK.unpack_from(answer[0])[2]
        return index

    def set_up(self, index: int, up: bool) -> None:
        """Brings a link up, or takes it down."""
        self._ask(RTM_NEWLINK, NLM_F_ACK, _LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP))

    def move(self, index: int, name: str, netns_fd: int) -> None:
        """Moves a link into another network namespace under a name, in one step. EEXIST: the name is taken there."""
        payload = _LINK.pack(0, 0, index, 0, 0)
        payload += attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        payload += attribute(IFLA_NET_NS_FD, netns_fd.to_bytes(4, "little"))
        self._ask(RTM_NEWLINK, NLM_F_ACK, payload)

    def addresses(self, index: int) -> list[Address]:
        """The addresses of a link, of every family."""
        answers = self._ask(RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(0, 0, 0, 0, 0))
        return [Address(body) for body in answers if _ADDRESS.unpack_from(body)[4] == index]

    def add_address(self, index: int, address: Address) -> None:
        """Gives a link an address that another had: the same network, peer and broadcast address."""
        payload = _ADDRESS.pack(address.family, address.prefix_length, 0, address.scope, index)
        for kind, value in (
            (IFA_LOCAL, address.local or address.address),
            (IFA_ADDRESS, address.address),
            (IFA_BROADCAST, address.broadcast),
        ):
            if value:
                payload += attribute(kind, value)
        self._ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, payload)
