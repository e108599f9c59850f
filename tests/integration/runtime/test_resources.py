"""Each resource of config.json and each flag of `update`, in the file of the cgroup that the kernel shows.

Spec: runtime-spec config-linux.md#control-groups; runc update(8)
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from support.patience import seconds
from support.runtime import ours_only

pytestmark = pytest.mark.requires("cgroup_v1")


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
    assert runtime.limit(file).startswith(text)


@pytest.mark.parametrize("kind", ["read_bps", "write_bps", "read_iops", "write_iops"])
def test_throttled_devices(runtime, bundle, kind):
    way, unit = kind.split("_")
    key = f"throttle{way.title()}{unit.upper() if unit == 'iops' else 'Bps'}Device"
    major, minor = disk()
    bundle.linux["resources"]["blockIO"] = {key: [{"major": major, "minor": minor, "rate": 1000}]}
    runtime.create(bundle.build())
    assert runtime.limit(f"blkio.throttle.{kind}_device") == f"{major}:{minor} 1000"


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
    assert runtime.limit(file) == text


def test_update_reads_all_from_a_document(runtime, bundle):
    runtime.create(bundle.build())
    wanted = {"memory": {"limit": 64 << 20}, "cpu": {"shares": 99}, "pids": {"limit": 9}}
    runtime.ok("update", "--resources", "-", "c", stdin=json.dumps(wanted))
    assert runtime.limit("memory.limit_in_bytes") == str(64 << 20)
    assert runtime.limit("cpu.shares") == "99"
    assert runtime.limit("pids.max") == "9"


def test_update_of_what_the_machine_has_not_fails(runtime, bundle):
    runtime.create(bundle.build())
    assert runtime("update", "--l3-cache-schema", "L3:0=f", "c").code == 1
    assert runtime("update", "--mem-bw-schema", "MB:0=50", "c").code == 1


def test_a_huge_page_size_that_is_not_there_is_refused(runtime, bundle):
    bundle.linux["resources"]["hugepageLimits"] = [{"pageSize": "3MB", "limit": 1 << 21}]
    done = runtime("create", "--bundle", str(bundle.build()), "c")
    assert done.code == 1
    assert not (runtime.root / "c").exists()


@pytest.mark.parametrize("limit", ["kernel", "kernelTCP"])
def test_a_limit_of_kernel_memory_is_only_a_warning(runtime, bundle, limit):
    """The kernel has taken it away; its files still stand there."""
    bundle.linux["resources"]["memory"] = {limit: 64 << 20}
    runtime.create(bundle.build())
    said = (runtime.root.parent / "detached.log").read_text()
    assert said.count("level=warning") == 1
    assert "Kernel memory settings are ignored and will be removed" in said
    for file in ("memory.kmem.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"):
        assert int(runtime.limit(file)) > 1 << 62


@pytest.mark.parametrize("flag", ["--kernel-memory", "--kernel-memory-tcp"])
def test_update_of_kernel_memory_is_only_a_warning(runtime, bundle, flag):
    runtime.create(bundle.build())
    done = runtime("update", flag, "64m", "--pids-limit", "9", "c")
    assert done.code == 0
    assert "Kernel memory settings are ignored and will be removed" in done.err
    assert runtime.limit("pids.max") == "9"
    assert flag not in runtime.ok("update", "--help").out
    done = runtime("update", flag, "nonsense", "c")
    assert done.code == 1
    assert f"invalid value for {flag[2:]}: " in done.err


@pytest.fixture
def realtime():
    """Real time for the cgroups of this run to share: a hierarchy that isn't the machine's has none at first."""
    file = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")
    if not file.exists():
        pytest.skip("needs a kernel with groups of real-time processes")
    before = file.read_text()
    if before == "0\n":
        try:
            file.write_text("50000")
        except OSError:  # EINVAL: the group above has none to share
            pytest.skip("needs real time in the cgroup that this run's is in")
    yield
    deadline = time.monotonic() + seconds(5)
    while before == "0\n":
        try:
            file.write_text("0")
            break
        except OSError:  # a removed cgroup has its share until the kernel has seen to it
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_real_time(realtime, runtime, bundle):
    bundle.linux["resources"]["cpu"] = {"realtimePeriod": 500_000, "realtimeRuntime": 2000}
    runtime.create(bundle.build())
    assert (runtime.limit("cpu.rt_period_us"), runtime.limit("cpu.rt_runtime_us")) == ("500000", "2000")
    runtime.ok("update", "--cpu-rt-runtime", "1000", "c")
    assert (runtime.limit("cpu.rt_period_us"), runtime.limit("cpu.rt_runtime_us")) == ("500000", "1000")
    runtime.ok("update", "--cpu-rt-period", "400000", "c")
    assert (runtime.limit("cpu.rt_period_us"), runtime.limit("cpu.rt_runtime_us")) == ("400000", "1000")
    # More than all together may have.
    done = runtime("update", "--cpu-rt-runtime", "399000", "c")
    assert done.code == 1
    assert "399000" in done.err
    assert "cpu.rt_runtime_us: invalid argument" in done.err


@ours_only("a period that fits only the new time is set after it")
def test_a_period_that_fits_only_the_new_time_is_set_after_it(realtime, runtime, bundle):
    """20,000 don't fit into 10,000: the kernel takes the period once the time is short enough."""
    bundle.linux["resources"]["cpu"] = {"realtimePeriod": 1_000_000, "realtimeRuntime": 20_000}
    runtime.create(bundle.build())
    done = runtime("update", "--cpu-rt-period", "10000", "--cpu-rt-runtime", "100", "c")
    assert done.code == 0, done
    assert (runtime.limit("cpu.rt_period_us"), runtime.limit("cpu.rt_runtime_us")) == ("10000", "100")


@pytest.mark.parametrize(("shares", "end"), [(1, "minimum allowed cpu-shares is 2"), (1 << 20, "maximum")])
def test_shares_that_the_kernel_would_change_are_refused(runtime, bundle, shares, end):
    bundle.linux["resources"]["cpu"] = {"shares": shares}
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert f"the {end}" in done.err


def test_a_block_io_weight(runtime, bundle):
    bundle.linux["resources"]["blockIO"] = {"weight": 500}
    runtime.create(bundle.build())
    folder = runtime.cgroup("blkio")
    (file,) = [folder / n for n in ("blkio.weight", "blkio.bfq.weight") if (folder / n).exists()]
    assert file.read_text().split()[-1] == "500"
    runtime.ok("update", "--blkio-weight", "300", "c")
    assert file.read_text().split()[-1] == "300"
    assert runtime("update", "--blkio-weight", "5000", "c").code == 1


@pytest.mark.requires("bfq")
def test_a_block_io_weight_of_a_device(runtime, bundle):
    name = next(p for p in Path("/sys/block").glob("*/queue/scheduler") if "[bfq]" in p.read_text())
    device = (name.parents[1] / "dev").read_text().strip()
    major, minor = map(int, device.split(":"))
    bundle.linux["resources"]["blockIO"] = {"weightDevice": [{"major": major, "minor": minor, "weight": 300}]}
    runtime.create(bundle.build())
    assert f"{device} 300" in runtime.limit("blkio.bfq.weight_device")


@pytest.mark.parametrize(
    "block", [{"leafWeight": 500}, {"weightDevice": [{"major": 1, "minor": 1, "leafWeight": 500}]}]
)
def test_a_leaf_weight_without_the_scheduler_that_had_it_is_an_error(runtime, bundle, block):
    bundle.linux["resources"]["blockIO"] = block
    done = runtime.run(bundle.build())
    if (Path("/sys/fs/cgroup/blkio") / "blkio.leaf_weight").exists():
        pytest.skip("has the CFQ scheduler")
    assert done.code == 1
    assert "blkio.leaf_weight" in done.err
    assert "no such file or directory" in done.err


@pytest.mark.requires("net_cls", "net_prio")
def test_network_classes_and_priorities(runtime, bundle):
    bundle.linux["resources"]["network"] = {
        "classID": 0x100001,
        "priorities": [{"name": "lo", "priority": 3}],
    }
    runtime.create(bundle.build())
    assert runtime.limit("net_cls.classid") == str(0x100001)
    assert "lo 3" in runtime.limit("net_prio.ifpriomap").splitlines()


@pytest.mark.parametrize(
    ("resources", "controller"),
    [
        ({"network": {"classID": 7}}, "net_cls"),
        ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, "net_prio"),
        ({"rdma": {"some": {"hcaHandles": 1}}}, "rdma"),
    ],
)
def test_a_limit_whose_controller_is_not_there_is_an_error(runtime, bundle, resources, controller):
    if (Path("/sys/fs/cgroup") / controller).exists():
        pytest.skip(f"has the controller {controller}")
    bundle.linux["resources"].update(resources)
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert f"cannot set {controller} limit: container could not join or create cgroup" in done.err


def test_an_update_keeps_what_it_depends_on(runtime, bundle):
    bundle.linux["resources"].update(
        cpu={"quota": 40000, "period": 50000}, memory={"limit": 64 << 20, "swap": 128 << 20}
    )
    runtime.create(bundle.build())
    runtime.ok("update", "--cpu-quota", "20000", "c")
    assert runtime.limit("cpu.cfs_period_us") == "50000"
    runtime.ok("update", "--memory", str(32 << 20), "c")
    assert runtime.limit("memory.memsw.limit_in_bytes") == str(128 << 20)
    done = runtime("update", "--memory", str(256 << 20), "c")
    assert (done.code, runtime.limit("memory.limit_in_bytes")) == (1, str(32 << 20))
