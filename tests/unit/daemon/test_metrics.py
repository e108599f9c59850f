"""Samples of cgroup version 2 (this machine's may be version 1) and numbers as Go prints them."""

from __future__ import annotations

import pytest

from pycontainerd.daemon.server.cgroup_metrics import read_samples
from pycontainerd.daemon.server.metrics import Family, format_value
from pycontainerd.lib.api.full import cgroups_v2


def test_version_2_has_containerds_names():
    """Source: containerd core/metrics/cgroups/v2."""
    message = cgroups_v2.Metrics(
        pids=cgroups_v2.PidsStat(current=3, limit=9),
        cpu=cgroups_v2.CPUStat(usage_usec=5, nr_throttled=1),
        memory=cgroups_v2.MemoryStat(anon=7, usage=8, usage_limit=11, max_usage=99),
        memory_events=cgroups_v2.MemoryEvents(oom=2),
        io=cgroups_v2.IOStat(usage=[cgroups_v2.IOEntry(major=8, minor=1, rbytes=6, wios=4)]),
    )
    samples = list(read_samples("io.containerd.cgroups.v2.Metrics", message.SerializeToString()))
    plain = {name: value for name, value, labels in samples if not labels}
    assert plain["pids_current"] == 3
    assert plain["pids_limit"] == 9
    assert plain["cpu_usage_usec_microseconds"] == 5
    assert plain["cpu_nr_throttled_total"] == 1
    assert plain["memory_anon_bytes"] == 7
    assert plain["memory_usage_bytes"] == 8
    assert plain["memory_usage_limit_bytes"] == 11
    assert plain["memory_oom_total"] == 2
    assert "memory_max_usage_bytes" not in plain
    devices = {name: value for name, value, labels in samples if labels == {"major": "8", "minor": "1"}}
    assert devices == {
        "io_rbytes_bytes": 6,
        "io_wbytes_bytes": 0,
        "io_rios_total": 0,
        "io_wios_total": 4,
    }


def test_other_messages_have_no_samples():
    assert list(read_samples("windows.Statistics", b"x")) == []


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1.0, "1"), (0.005, "0.005"), (2.5, "2.5"), (1 << 52, str(1 << 52))]
)
def test_numbers(value, text):
    assert format_value(value) == text


def test_label_values_are_escaped():
    family = Family("n", "gauge", "h")
    family.add(1, {"b": 'x"\n\\', "a": "1"})
    assert family.text() == '# HELP n h\n# TYPE n gauge\nn{a="1",b="x\\"\\n\\\\"} 1\n'
