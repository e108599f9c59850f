"""Limits as writes, device rules as programs; version 2 without a version 2 kernel."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib.cgroups import v1_resources, v2_resources
from pycontainerd.lib.cgroups.devices import WILDCARD, fold
from pycontainerd.lib.cgroups.hierarchy import parse_mounts, parse_own_paths
from pycontainerd.lib.cgroups.v1_stats import parse_list
from pycontainerd.lib.cgroups.v2_devices import assemble
from pycontainerd.lib.cgroups.v2_stats import parse_io_stat
from pycontainerd.lib.errdefs import InvalidArgument

RULES = st.lists(
    st.fixed_dictionaries(
        {
            "allow": st.booleans(),
            "type": st.sampled_from(["a", "b", "c"]),
            "access": st.sampled_from(["r", "w", "m", "rw", "rwm"]),
        },
        optional={"major": st.integers(0, 3), "minor": st.integers(0, 3)},
    ),
    max_size=6,
)


def interpret(code: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """A small eBPF machine for the instructions that device programs use."""
    context = struct.pack("<III", access << 16 | kind, major, minor)
    registers = [0] * 11
    at = 0
    while True:
        opcode, pair, offset, value = struct.unpack_from("<BBhi", code, at * 8)
        destination, source = pair & 15, pair >> 4
        at += 1
        if opcode == 0x61:
            registers[destination] = struct.unpack_from("<I", context, offset)[0]
        elif opcode == 0xBC:
            registers[destination] = registers[source]
        elif opcode == 0xB7:
            registers[destination] = value
        elif opcode == 0x54:
            registers[destination] &= value
        elif opcode == 0x74:
            registers[destination] >>= value
        elif opcode == 0x15:
            at += offset if registers[destination] == value else 0
        elif opcode == 0x55:
            at += offset if registers[destination] != value else 0
        elif opcode == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"opcode {opcode:#x}")


@given(RULES, st.sampled_from([1, 2]), st.integers(1, 7), st.integers(0, 4), st.integers(0, 4))
def test_the_ebpf_program_decides_as_the_list_says(rules, kind, access, major, minor):
    program = fold(rules)
    letters = {letter for bit, letter in ((1, "m"), (2, "r"), (4, "w")) if access & bit}
    verdict = program.default_allow
    for (rule_kind, rule_major, rule_minor), rule_access in program.exceptions.items():
        if (
            rule_kind != "bc"[kind - 1]
            or rule_major not in (WILDCARD, major)
            or rule_minor not in (WILDCARD, minor)
        ):
            continue
        if program.default_allow and letters & set(rule_access):
            verdict = False
            break
        if not program.default_allow and letters <= set(rule_access):
            verdict = True
            break
    assert interpret(assemble(program), kind, access, major, minor) == int(verdict)


def test_nothing_is_allowed_before_a_rule_says_so():
    program = fold([])
    assert not program.default_allow
    assert "c 1:3 rwm" in program.lines()
    assert "c *:* m" in program.lines()


def test_allow_all_then_deny_one():
    program = fold(
        [
            {"allow": True, "access": "rwm"},
            {"allow": False, "type": "c", "major": 1, "minor": 1, "access": "rw"},
        ]
    )
    assert program.default_allow
    assert program.lines() == ["c 1:1 rw"]


def test_v1_writes_are_in_order():
    resources = {"cpu": {"shares": 512, "period": 1000, "quota": -1, "cpus": "0-1"}, "pids": {"limit": -1}}
    assert v1_resources.plan(resources) == [
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_period_us", "1000"),
        ("cpu", "cpu.cfs_quota_us", "-1"),
        ("cpuset", "cpuset.cpus", "0-1"),
        ("pids", "pids.max", "max"),
    ]


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000)])
def test_shares_to_weight(shares, weight):
    assert v2_resources.shares_to_weight(shares) == weight


@pytest.mark.parametrize(("weight", "io"), [(10, 1), (1000, 10000)])
def test_blkio_weight_to_io_weight(weight, io):
    assert v2_resources.blkio_to_io_weight(weight) == io


@pytest.mark.parametrize(
    ("limit", "swap", "value"),
    [(100, 300, "200"), (100, 100, "0"), (0, 0, ""), (-1, 0, "max"), (100, -1, "max"), (-1, -1, "max")],
)
def test_swap(limit, swap, value):
    assert v2_resources.swap_max(limit, swap) == value


@pytest.mark.parametrize(("limit", "swap"), [(0, 100), (-1, 100), (200, 100)])
def test_swap_that_makes_no_sense(limit, swap):
    with pytest.raises(InvalidArgument):
        v2_resources.swap_max(limit, swap)


def test_v2_writes():
    resources = {
        "memory": {"limit": 100, "swap": 300, "reservation": 50},
        "cpu": {"shares": 1024, "quota": 500, "period": 0, "cpus": "0"},
        "pids": {"limit": 5},
        "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 100}]},
        "unified": {"memory.high": "90"},
    }
    assert v2_resources.plan(resources) == [
        ("pids.max", "5"),
        ("memory.swap.max", "200"),
        ("memory.max", "100"),
        ("memory.low", "50"),
        ("cpu.weight", "39"),
        ("cpu.max", "500 100000"),
        ("cpuset.cpus", "0"),
        ("io.max", "8:0 rbps=100"),
        ("memory.high", "90"),
    ]


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ""])
def test_unified_names_stay_in_the_folder(name):
    with pytest.raises(InvalidArgument):
        v2_resources.plan({"unified": {name: "1"}})


def test_mounts_of_a_hybrid_machine():
    found = parse_mounts(
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        "34 31 0:31 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw\n"
    )
    assert sorted(found.v1) == ["cpu", "cpuacct", "name=systemd"]
    assert found.v1["cpu"].options == "cpu,cpuacct"
    assert found.unified == "/sys/fs/cgroup/uni fied"


def test_own_paths():
    assert parse_own_paths("4:cpu,cpuacct:/a:b\n0::/c\n") == {"cpu": "/a:b", "cpuacct": "/a:b", "": "/c"}


def test_cpu_lists():
    assert parse_list("0-2,7") == [0, 1, 2, 7]
    assert parse_list("") == []


def test_io_stat():
    assert parse_io_stat("254:0 rbytes=10 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\nbad\n")[0][:2] == (254, 0)
