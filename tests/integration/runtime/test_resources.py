"""Each resource of config.json and each flag of `update`, in the file of the cgroup that the kernel shows.

Spec: runtime-spec config-linux.md#control-groups; runc update(8)
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.runtime import ours_only

pytestmark = pytest.mark.requires("cgroup_v1")


def own(runtime, controller: str) -> Path:
    return Path(json.loads((runtime.root / "c/state.json").read_text())["cgroup_paths"][controller])


def value(runtime, file: str) -> str:
    path = own(runtime, file.partition(".")[0] if not file.startswith("cpu.") else "cpu") / file
    return path.read_text().strip()


def disk() -> tuple[int, int]:
    """A block device of the machine whose numbers throttling takes; skips where there is none."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram")):
            major, minor = Path(f"/sys/block/{name}/dev").read_text().strip().split(":")
            return int(major), int(minor)
    pytest.skip("needs a block device")


@pytest.mark.parametrize(
    ("resources", "file", "text"),
    [
        ({"cpu": {"mems": "0", "cpus": "0"}}, "cpuset.mems", "0"),
        ({"cpu": {"period": 50000, "quota": -1}}, "cpu.cfs_period_us", "50000"),
        ({"memory": {"limit": 64 << 20, "swap": 128 << 20}}, "memory.memsw.limit_in_bytes", str(128 << 20)),
        ({"memory": {"disableOOMKiller": True}}, "memory.oom_control", "oom_kill_disable 1"),
        ({"memory": {"useHierarchy": True}}, "memory.use_hierarchy", "1"),
        ({"pids": {"limit": -1}}, "pids.max", "max"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_resource_is_in_its_file(runtime, bundle, resources, file, text):
    for name, values in resources.items():
        bundle.linux["resources"].setdefault(name, {}).update(values)
    runtime.create(bundle.build())
    assert value(runtime, file).startswith(text)


@pytest.mark.parametrize("kind", ["read_bps", "write_bps", "read_iops", "write_iops"])
def test_throttled_devices(runtime, bundle, kind):
    way, unit = kind.split("_")
    key = f"throttle{way.title()}{unit.upper() if unit == 'iops' else 'Bps'}Device"
    major, minor = disk()
    bundle.linux["resources"]["blockIO"] = {key: [{"major": major, "minor": minor, "rate": 1000}]}
    runtime.create(bundle.build())
    assert value(runtime, f"blkio.throttle.{kind}_device") == f"{major}:{minor} 1000"


@pytest.mark.parametrize(
    ("flags", "file", "text"),
    [
        (["--cpu-period", "50000"], "cpu.cfs_period_us", "50000"),
        (["--cpu-quota", "20000"], "cpu.cfs_quota_us", "20000"),
        (["--cpu-share", "300"], "cpu.shares", "300"),
        (["--cpuset-cpus", "0"], "cpuset.cpus", "0"),
        (["--cpuset-mems", "0"], "cpuset.mems", "0"),
        (["--memory", "100000000"], "memory.limit_in_bytes", "99999744"),
        (["--memory-reservation", "33554432"], "memory.soft_limit_in_bytes", "33554432"),
        (["--memory", "33554432", "--memory-swap", "67108864"], "memory.memsw.limit_in_bytes", "67108864"),
        (["--pids-limit", "77"], "pids.max", "77"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_flag_of_update_is_in_its_file(runtime, bundle, flags, file, text):
    runtime.create(bundle.build())
    runtime.ok("update", *flags, "c")
    assert value(runtime, file) == text


def test_update_reads_all_from_a_document(runtime, bundle):
    runtime.create(bundle.build())
    wanted = {"memory": {"limit": 64 << 20}, "cpu": {"shares": 99}, "pids": {"limit": 9}}
    runtime.ok("update", "--resources", "-", "c", stdin=json.dumps(wanted))
    assert value(runtime, "memory.limit_in_bytes") == str(64 << 20)
    assert value(runtime, "cpu.shares") == "99"
    assert value(runtime, "pids.max") == "9"


def test_update_of_what_the_machine_has_not_fails(runtime, bundle):
    runtime.create(bundle.build())
    assert runtime("update", "--l3-cache-schema", "L3:0=f", "c").code == 1
    assert runtime("update", "--mem-bw-schema", "MB:0=50", "c").code == 1


@ours_only("cpu burst and idle")
def test_cpu_burst_and_idle(runtime, bundle):
    bundle.linux["resources"]["cpu"] = {"quota": 50000, "period": 100000, "burst": 4000, "idle": 1}
    runtime.create(bundle.args("true").build())
    assert value(runtime, "cpu.cfs_burst_us") == "4000"
    assert value(runtime, "cpu.idle") == "1"
    runtime.ok("update", "--cpu-idle", "0", "--cpu-burst", "0", "c")
    assert value(runtime, "cpu.idle") == "0"
    assert value(runtime, "cpu.cfs_burst_us") == "0"


def test_a_huge_page_size_that_is_not_there_is_refused(runtime, bundle):
    bundle.linux["resources"]["hugepageLimits"] = [{"pageSize": "3MB", "limit": 1 << 21}]
    done = runtime("create", "--bundle", str(bundle.build()), "c")
    assert done.code == 1
    assert not (runtime.root / "c").exists()
