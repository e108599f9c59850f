"""Units of systemd: names, slices, and `linux.resources` as properties. The numbers are those of runc's own conversions."""

from __future__ import annotations

import pytest

from pycontainerd.lib.cgroups import systemd
from pycontainerd.lib.cgroups import systemd_properties as properties
from pycontainerd.lib.errdefs import InvalidArgument

INFINITY = 2**64 - 1
OLD, NEW = 239, 255


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("system.slice", "/system.slice"),
        ("test-a-b.slice", "/test.slice/test-a.slice/test-a-b.slice"),
        ("-.slice", ""),
    ],
)
def test_slices(name, path):
    assert systemd.expand_slice(name) == path


@pytest.mark.parametrize("name", ["", ".slice", "a", "a/b.slice", "a--b.slice", "-a.slice", "a-.slice"])
def test_what_is_no_slice(name):
    with pytest.raises(InvalidArgument, match="invalid slice name"):
        systemd.expand_slice(name)


def test_units():
    unit = systemd.parse_path("a-b.slice:docker:1234", "c")
    assert (unit.full_name, unit.slice(False)) == ("docker-1234.scope", "a-b.slice")
    unit = systemd.parse_path("", "c")
    assert (unit.full_name, unit.slice(False), unit.slice(True)) == (
        "runc-c.scope",
        "system.slice",
        "user.slice",
    )
    assert systemd.parse_path(":x:pod.slice", "c").full_name == "pod.slice"


@pytest.mark.parametrize("path", ["/x", "a:b", "a:b:c:d", "a.slice:b:c/d", "a.slice:b:"])
def test_paths_that_are_none(path):
    with pytest.raises(InvalidArgument):
        systemd.parse_path(path, "c")


@pytest.mark.parametrize(
    ("cpu", "version", "found", "quota"),
    [
        ({}, NEW, {}, 0),
        (
            {"quota": 50000, "period": 100000},
            NEW,
            {"CPUQuotaPeriodUSec": 100000, "CPUQuotaPerSecUSec": 500000},
            50000,
        ),
        ({"quota": 50000, "period": 100000}, OLD, {"CPUQuotaPerSecUSec": 500000}, 50000),
        ({"quota": 12345}, NEW, {"CPUQuotaPerSecUSec": 130000}, 13000),
        ({"quota": -1}, NEW, {"CPUQuotaPerSecUSec": INFINITY}, -1),
        ({"period": 10000}, NEW, {"CPUQuotaPeriodUSec": 10000, "CPUQuotaPerSecUSec": INFINITY}, 0),
    ],
)
def test_cpu_quotas(cpu, version, found, quota):
    wanted = [(name, ("t", value)) for name, value in found.items()]
    assert properties.cpu_quota(cpu, version) == (wanted, quota)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0", [1]), ("1,3-5", [0b111010]), ("8", [0, 1]), (" 0 , 2,", [5]), ("0-15", [255, 255])],
)
def test_cpusets(text, octets):
    assert properties.bits_of(text, "x") == octets


@pytest.mark.parametrize("text", ["", ",", "a", "3-1", "-1", "99999999"])
def test_cpusets_that_are_none(text):
    with pytest.raises(InvalidArgument, match=r"resources\.CPU\.Cpus"):
        properties.bits_of(text, "resources.CPU.Cpus")


RESOURCES = {
    "memory": {"limit": 1000, "swap": 1500, "reservation": 500},
    "cpu": {"shares": 1024, "cpus": "0", "mems": "0"},
    "pids": {"limit": -1},
    "blockIO": {"weight": 100},
}


def test_version_1():
    assert dict(properties.v1(RESOURCES, NEW)) == {
        "MemoryLimit": ("t", 1000),
        "CPUShares": ("t", 1024),
        "BlockIOWeight": ("t", 100),
        "TasksMax": ("t", INFINITY),
        "AllowedCPUs": ("ay", [1]),
        "AllowedMemoryNodes": ("ay", [1]),
    }
    assert "AllowedCPUs" not in dict(properties.v1(RESOURCES, OLD))


def test_version_2():
    assert dict(properties.v2(RESOURCES, NEW)) == {
        "MemoryMax": ("t", 1000),
        "MemoryLow": ("t", 500),
        "MemorySwapMax": ("t", 500),
        "CPUWeight": ("t", 39),
        "TasksMax": ("t", INFINITY),
        "AllowedCPUs": ("ay", [1]),
        "AllowedMemoryNodes": ("ay", [1]),
    }
    assert dict(properties.v2({"cpu": {"idle": 1, "shares": 1024}}, NEW)) == {"CPUWeight": ("t", 0)}
    assert dict(properties.v2({"cpu": {"idle": 1, "shares": 1024}}, OLD)) == {"CPUWeight": ("t", 39)}


def test_unified():
    unified = {
        "cpu.max": "max 50000",
        "cpu.weight": "7",
        "cpuset.cpus": "0-1",
        "memory.high": "max",
        "memory.min": " 4096 ",
        "pids.max": "0",
        "hugetlb.2MB.max": "1",
    }
    assert dict(properties.v2({"unified": unified}, NEW)) == {
        "CPUQuotaPeriodUSec": ("t", 50000),
        "CPUQuotaPerSecUSec": ("t", INFINITY),
        "CPUWeight": ("t", 7),
        "AllowedCPUs": ("ay", [3]),
        "MemoryHigh": ("t", INFINITY),
        "MemoryMin": ("t", 4096),
        "TasksMax": ("t", 1),
    }
    with pytest.raises(InvalidArgument, match=r'unified resource "memory.max" value conversion error'):
        properties.v2({"unified": {"memory.max": "much"}}, NEW)


@pytest.mark.parametrize(
    ("value", "version", "policy"), [("1", NEW, "kill"), ("0", NEW, "continue"), ("1", OLD, "")]
)
def test_oom_policy(value, version, policy):
    found = properties.oom_policy({"unified": {"memory.oom.group": value}}, version)
    assert found == ([("OOMPolicy", ("s", policy))] if policy else [])


def test_devices():
    found = properties.devices({"devices": [{"allow": True, "type": "b", "major": 8, "access": "r"}]})
    assert found[:2] == [("DeviceAllow", ("a(ss)", [])), ("DevicePolicy", ("s", "strict"))]
    allowed = found[2][1][1]
    assert ("block-8", "r") in allowed
    assert ("/dev/char/1:3", "rwm") in allowed
    assert ("char-*", "m") in allowed


def test_all_devices():
    found = properties.devices({"devices": [{"allow": True}]})
    assert found == [("DeviceAllow", ("a(ss)", [])), ("DevicePolicy", ("s", "auto"))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", ("b", True)),
        ("'x y'", ("s", "x y")),
        ('"x"', ("s", "x")),
        ("7", ("i", 7)),
        ("uint64 0x10", ("t", 16)),
        ("byte 3", ("y", 3)),
        ("['a', 'b']", ("as", ["a", "b"])),
        ("[]", ("as", [])),
    ],
)
def test_variants(text, value):
    assert properties.parse_variant(text) == value


@pytest.mark.parametrize(
    ("key", "text", "why"),
    [
        ("ab", "1", "too short"),
        ("a-bc", "1", "contains non-alphabetic character"),
        ("Some", "word", "value parse error"),
        ("Some", "float 7", "unknown type 'float'"),
        ("Some", "'a'b'", "is not a string"),
        ("StopSec", "'a'", "not a number of seconds"),
        ("SuccessAction", "'poweroff-force'", "SuccessAction is no property of the container's own unit"),
        ("OnFailure", "['emergency.target']", "not allowed"),
        ("JobTimeoutSec", "uint64 1", "JobTimeoutUSec is no property"),
    ],
)
def test_annotations_that_are_none(key, text, why):
    with pytest.raises(InvalidArgument, match=why):
        properties.from_annotations({f"org.systemd.property.{key}": text, "other": "x"})
