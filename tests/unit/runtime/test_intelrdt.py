"""Intel RDT on a folder that looks like a resctrl mount: no machine here has one.

Files and rules are those of the kernel's resctrl.rst and of runc 1.5; on a real mount `tasks` and `schemata` come with
the folder, here they come by being written.
"""

from __future__ import annotations

import pytest

from pycontainerd.lib.errdefs import InvalidArgument, Unknown
from pycontainerd.runtime.libcontainer import intelrdt
from pycontainerd.runtime.libcontainer.intelrdt import Group, check


@pytest.fixture
def root(tmp_path):
    for folder, files in {
        "info/L3": {"cbm_mask": "7ff", "min_cbm_bits": "1", "num_closids": "16"},
        "info/MB": {
            "bandwidth_gran": "10",
            "delay_linear": "1",
            "min_bandwidth": "10",
            "num_closids": "8",
        },
        "info/L3_MON": {"mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes"},
        "info": {"last_cmd_status": "ok"},
        "": {"schemata": "    MB:0=100;1=100\n    L3:0=7ff;1=7ff"},
        "mon_groups": {},
    }.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text + "\n")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"closID": ".."}, 'linux.intelRdt: invalid intelRdt.ClosID ".."'),
        ({"closID": "a/b"}, 'linux.intelRdt: invalid intelRdt.ClosID "a/b"'),
        ({"memBwSchema": "L3:0=1"}, "linux.intelRdt: intelRdt.memBwSchema must start with MB:"),
        ({"schemata": ["L3:0=f\nMB:0=10"]}, "linux.intelRdt: a schema must not contain a newline"),
    ],
)
def test_refused(root, raw, text):
    with pytest.raises(InvalidArgument) as caught:
        check(raw, root)
    assert str(caught.value) == text


def test_refused_without_resctrl_even_when_it_says_nothing():
    with pytest.raises(InvalidArgument, match="specified in config, but Intel RDT is not enabled"):
        check({}, "")


@pytest.mark.parametrize(
    ("key", "value", "what"), [("l3CacheSchema", "L3:0=f", "CAT"), ("memBwSchema", "MB:0=10", "MBA")]
)
def test_refused_where_the_machine_lacks_it(tmp_path, key, value, what):
    with pytest.raises(
        InvalidArgument, match=f"intelRdt.{key} is specified in config, but Intel RDT/{what} is"
    ):
        check({key: value}, str(tmp_path))


def test_a_group_of_the_containers_own(root, tmp_path):
    group = Group({"memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=7f0", "schemata": ["L2:0=f"]}, "c", root)
    group.intend()
    assert group.made
    group.apply(42)
    group.set()
    assert (tmp_path / "c/tasks").read_text() == "42"
    # The cache's line comes first, then the bandwidth's, then the others.
    assert (tmp_path / "c/schemata").read_text() == "L3:0=7f0\nMB:0=20\nL2:0=f\n"
    for name in ("tasks", "schemata"):
        (tmp_path / "c" / name).unlink()
    group.remove()
    assert not (tmp_path / "c").exists()
    group.remove()  # again, after a delete that was killed


def test_without_a_schema_nothing_is_written(root, tmp_path):
    group = Group({}, "c", root)
    group.apply(1)
    group.set()
    assert not (tmp_path / "c/schemata").exists()


def test_a_group_that_was_there_is_not_removed(root, tmp_path):
    (tmp_path / "c").mkdir()
    group = Group({}, "c", root)
    group.intend()
    group.apply(1)
    (tmp_path / "c/tasks").unlink()
    group.remove()
    assert (tmp_path / "c").is_dir()


def test_a_named_group_must_be_there_unless_it_is_described(root, tmp_path):
    with pytest.raises(Unknown, match="clos dir not accessible"):
        Group({"closID": "gold"}, "c", root).apply(1)
    group = Group({"closID": "gold", "schemata": ["MB:0=10"]}, "c", root)
    group.intend()
    group.apply(1)
    (tmp_path / "gold/tasks").unlink()
    group.remove()
    assert (tmp_path / "gold").is_dir()


def test_the_default_group(root, tmp_path):
    Group({"closID": "/"}, "c", root).apply(7)
    assert (tmp_path / "tasks").read_text() == "7"


def test_a_monitoring_group_goes_with_the_container(root, tmp_path):
    (tmp_path / "gold/mon_groups").mkdir(parents=True)
    group = Group({"closID": "gold", "enableMonitoring": True}, "c", root)
    group.intend()
    group.apply(7)
    assert (tmp_path / "gold/mon_groups/c/tasks").read_text() == "7"
    (tmp_path / "gold/mon_groups/c/tasks").unlink()
    group.remove()
    assert (tmp_path / "gold").is_dir()
    assert not (tmp_path / "gold/mon_groups/c").exists()


def test_a_failure_says_what_the_kernel_said(root, tmp_path):
    (tmp_path / "c/schemata").mkdir(parents=True)  # cannot be opened for writing
    (tmp_path / "info/last_cmd_status").write_text("Mask out of range\n")
    with pytest.raises(Unknown) as caught:
        Group({"schemata": ["L3:0=fff"]}, "c", root).set()
    assert (
        str(caught.value)
        == 'intelrdt: unable to write "L3:0=fff\\n": is a directory, last_cmd_status: Mask out of range'
    )


def test_the_state_has_runcs_words():
    raw = {"closID": "x", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=10", "enableMonitoring": True}
    stored = intelrdt.to_runc(raw)
    assert stored == {
        "closID": "x",
        "l3_cache_schema": "L3:0=f",
        "memBwSchema": "MB:0=10",
        "enableMonitoring": True,
    }
    assert intelrdt.from_runc(stored) == raw


def test_stats(root, tmp_path):
    folder = tmp_path / "gold"
    for node, values in (("mon_L3_00", (1, 2, 3)), ("mon_L3_01", (4, 5, 6))):
        (folder / "mon_data" / node).mkdir(parents=True)
        for name, value in zip(("mbm_total_bytes", "mbm_local_bytes", "llc_occupancy"), values, strict=True):
            (folder / "mon_data" / node / name).write_text(f"{value}\n")
    (folder / "schemata").write_text("    MB:0=20;1=70\n    L3:0=7f0;1=1f\n")
    assert Group({"closID": "gold"}, "c", root).stats() == {
        "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 1, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=7ff;1=7ff",
        "l3_cache_schema": "L3:0=7f0;1=1f",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": "MB:0=20;1=70",
        "schemata": ["MB:0=20;1=70", "L3:0=7f0;1=1f"],
        "mbm_stats": [
            {"mbm_total_bytes": 1, "mbm_local_bytes": 2},
            {"mbm_total_bytes": 4, "mbm_local_bytes": 5},
        ],
        "cmt_stats": [{"llc_occupancy": 3}, {"llc_occupancy": 6}],
    }
