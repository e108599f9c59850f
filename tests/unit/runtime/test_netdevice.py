"""linux.netDevices: names and rules. The refusals are runc 1.5's, each below its JSON path."""

from __future__ import annotations

import pytest

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.linux import netlink
from pycontainerd.runtime.libcontainer.netdevice import parse

NETWORK = {"network": ""}


def test_names():
    assert parse({"eth0": {}, "eth1": {"name": "x"}, "eth2": {"name": ""}}, NETWORK) == {
        "eth0": "eth0",
        "eth1": "x",
        "eth2": "eth2",
    }


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "x" * 16])
def test_a_name_that_is_none(name):
    for raw in ({name: {}}, *([{"eth0": {"name": name}}] if name else [])):
        with pytest.raises(InvalidArgument, match=r"linux\.netDevices: invalid network device name"):
            parse(raw, NETWORK)


def test_a_namespace_of_its_own_is_needed():
    with pytest.raises(InvalidArgument, match="unable to move network devices without a NET namespace"):
        parse({"eth0": {}}, {})


def test_two_devices_cannot_have_one_name():
    with pytest.raises(InvalidArgument, match="same name in the container"):
        parse({"a": {"name": "x"}, "b": {"name": "x"}}, NETWORK)


def test_attributes_are_padded_and_their_length_is_not():
    assert netlink.attribute(3, b"lo\0") == b"\x07\x00\x03\x00lo\0\0"


def test_the_loopback_is_link_one_and_has_its_address():
    with netlink.RouteSocket() as route:
        index = route.link_index("lo")
        assert index == 1
        assert all(address.family in (2, 10) for address in route.addresses(index))
        with pytest.raises(OSError, match="No such device"):
            route.link_index("no-such-link")
