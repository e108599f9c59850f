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


def folder_of(path, **files):
    """A made-up cgroup folder: file names with `__` for dots, and what they hold."""
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


DEVICE = {"major": 8, "minor": 16, "weight": 300, "leafWeight": 200}


def test_weights_where_the_cfq_scheduler_is(tmp_path):
    names = ("weight", "weight_device", "leaf_weight", "leaf_weight_device")
    folder_of(tmp_path, **{f"blkio__{name}": "" for name in names})
    block = {"weight": 500, "leafWeight": 400, "weightDevice": [DEVICE]}
    v1_resources.write_resources({"blkio": str(tmp_path)}, {"blockIO": block})
    found = {name: (tmp_path / f"blkio.{name}").read_text() for name in names}
    assert found == dict(zip(names, ("500", "8:16 300", "400", "8:16 200"), strict=True))


def test_weights_where_only_bfq_is(tmp_path):
    folder_of(tmp_path, blkio__bfq__weight="", blkio__bfq__weight_device="")
    block = {"weight": 500, "weightDevice": [{"major": 8, "minor": 16, "weight": 300}]}
    v1_resources.write_resources({"blkio": str(tmp_path)}, {"blockIO": block})
    assert (tmp_path / "blkio.bfq.weight").read_text() == "500"
    assert (tmp_path / "blkio.bfq.weight_device").read_text() == "8:16 300"
    with pytest.raises(InvalidArgument, match=r"openat2 .*blkio\.leaf_weight: no such file or directory"):
        v1_resources.write_resources({"blkio": str(tmp_path)}, {"blockIO": {"leafWeight": 10}})


def test_weights_of_version_2_without_bfq(tmp_path):
    folder_of(tmp_path, io__weight="")
    v2_resources.write_resources(str(tmp_path), {"blockIO": {"weight": 1000}})
    assert (tmp_path / "io.weight").read_text() == "default 10000"
    v2_resources.write_resources(str(tmp_path), {"blockIO": {"weightDevice": [{**DEVICE, "weight": 10}]}})
    assert (tmp_path / "io.weight").read_text().startswith("8:16 1")


def test_weights_of_version_2_under_bfq(tmp_path):
    folder_of(tmp_path, io__bfq__weight="", io__weight="")
    v2_resources.write_resources(str(tmp_path), {"blockIO": {"weightDevice": [DEVICE]}})
    assert (tmp_path / "io.bfq.weight").read_text() == "8:16 300"
    assert (tmp_path / "io.weight").read_text() == ""


def test_real_time_comes_after_what_is_shared():
    cpu = {"realtimePeriod": 1000, "realtimeRuntime": 500, "quota": 10}
    assert v1_resources.plan({"cpu": cpu}) == [
        ("cpu", "cpu.cfs_quota_us", "10"),
        ("cpu", "cpu.rt_period_us", "1000"),
        ("cpu", "cpu.rt_runtime_us", "500"),
    ]


def test_classes_priorities_and_handles():
    resources = {
        "network": {
            "classID": 7,
            "priorities": [{"name": "lo", "priority": 1}, {"name": "eth0", "priority": 5}],
        },
        "rdma": {"mlx4_0": {"hcaHandles": 2}, "mlx4_1": {"hcaObjects": 9, "hcaHandles": 1}},
    }
    assert v1_resources.plan(resources) == [
        ("net_cls", "net_cls.classid", "7"),
        ("net_prio", "net_prio.ifpriomap", "lo 1"),
        ("net_prio", "net_prio.ifpriomap", "eth0 5"),
        ("rdma", "rdma.max", "mlx4_0 hca_handle=2"),
        ("rdma", "rdma.max", "mlx4_1 hca_handle=1 hca_object=9"),
    ]


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        ({"limit": 1000}, "rejecting memory limit 1000 <= usage 1000"),
        ({"limit": 2000, "swap": 999}, "rejecting memory\\+swap limit 999 <= usage 1000"),
    ],
)
def test_a_limit_below_what_is_used_is_refused_where_asked_for(tmp_path, memory, words):
    folder_of(tmp_path, memory__current="1000\n", memory__max="max")
    with pytest.raises(InvalidArgument, match=words):
        v2_resources.write_resources(str(tmp_path), {"memory": {**memory, "checkBeforeUpdate": True}})
    assert (tmp_path / "memory.max").read_text() == "max"


def test_a_limit_above_what_is_used_or_not_to_be_checked_is_written(tmp_path):
    folder_of(tmp_path, memory__current="1000\n", memory__max="max")
    v2_resources.write_resources(str(tmp_path), {"memory": {"limit": 1001, "checkBeforeUpdate": True}})
    assert (tmp_path / "memory.max").read_text().startswith("1001")
    v2_resources.write_resources(str(tmp_path), {"memory": {"limit": 9}})
    assert (tmp_path / "memory.max").read_text().startswith("9")
