"""Each resource of config.json and each flag of `update` on cgroup version 2, in the file that the kernel shows.

Spec: runtime-spec config-linux.md#control-groups; cgroup-v2.rst#controllers; runc update(8)
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.patience import seconds
from support.runtime import ours_only

pytestmark = pytest.mark.requires("cgroup_v2")
MIB = 1 << 20


def disk() -> str:
    """MAJOR:MINOR of the block device that the BFQ scheduler serves."""
    for path in sorted(Path("/sys/block").glob("*/queue/scheduler")):
        if "[bfq]" in path.read_text():
            return (path.parents[1] / "dev").read_text().strip()
    pytest.fail("requires(bfq) is missing")


def weighted(weight: int) -> dict[str, int]:
    major, minor = map(int, disk().split(":"))
    return {"major": major, "minor": minor, "weight": weight}


def throttled() -> dict[str, int]:
    major, minor = map(int, disk().split(":"))
    return {"major": major, "minor": minor, "rate": 1000}


@pytest.mark.parametrize(
    ("resources", "file", "text"),
    [
        ({"memory": {"limit": 64 * MIB}}, "memory.max", str(64 * MIB)),
        ({"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}}, "memory.low", str(32 * MIB)),
        ({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}, "memory.swap.max", str(32 * MIB)),
        ({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}, "memory.swap.max", "0"),
        ({"memory": {"limit": 64 * MIB, "swap": -1}}, "memory.swap.max", "max"),
        ({"cpu": {"shares": 1024}}, "cpu.weight", "39"),
        ({"cpu": {"quota": 20000}}, "cpu.max", "20000 100000"),
        ({"cpu": {"quota": 20000, "period": 50000}}, "cpu.max", "20000 50000"),
        ({"cpu": {"cpus": "0"}}, "cpuset.cpus", "0"),
        ({"cpu": {"mems": "0"}}, "cpuset.mems", "0"),
        ({"pids": {"limit": 77}}, "pids.max", "77"),
        ({"pids": {"limit": -1}}, "pids.max", "max"),
        ({"unified": {"memory.high": str(32 * MIB)}}, "memory.high", str(32 * MIB)),
        ({"unified": {"cgroup.max.descendants": "5"}}, "cgroup.max.descendants", "5"),
    ],
)
def test_a_resource_is_in_its_file(runtime, bundle, resources, file, text):
    bundle.linux["resources"].update(resources)
    runtime.create(bundle.build())
    assert runtime.limit(file) == text


@pytest.mark.requires("bfq")
def test_block_io_weights(runtime, bundle):
    bundle.linux["resources"]["blockIO"] = {"weight": 500, "weightDevice": [weighted(300)]}
    runtime.create(bundle.build())
    assert runtime.limit("io.bfq.weight") == f"default 500\n{disk()} 300"
    runtime.ok("update", "--blkio-weight", "200", "c")
    assert runtime.limit("io.bfq.weight").splitlines()[0] == "default 200"


@pytest.mark.requires("bfq")
def test_throttled_devices(runtime, bundle):
    bundle.linux["resources"]["blockIO"] = {
        f"throttle{kind}Device": [throttled()] for kind in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")
    }
    runtime.create(bundle.build())
    assert runtime.limit("io.max") == f"{disk()} rbps=1000 wbps=1000 riops=1000 wiops=1000"


@pytest.mark.parametrize("name", ["no.such.file", "memory.nothing"])
def test_a_unified_name_that_the_kernel_does_not_know_fails(runtime, bundle, name):
    bundle.linux["resources"]["unified"] = {name: "1"}
    done = runtime.run(bundle.args("true").build())
    assert done.code == 1
    assert name in done.err
    assert not (runtime.root / "c").exists()


def test_limits_of_version_1_without_a_counterpart_do_not_matter(runtime, bundle):
    bundle.linux["resources"].update(
        network={"classID": 7, "priorities": [{"name": "lo", "priority": 1}]},
        memory={"swappiness": 10, "disableOOMKiller": True, "limit": 64 * MIB},
        cpu={"realtimeRuntime": 1000, "realtimePeriod": 100000},
        blockIO={"leafWeight": 500},
    )
    assert runtime.run(bundle.args("true").build()).code == 0


@pytest.mark.parametrize(
    ("flags", "file", "text"),
    [
        (["--cpu-period", "50000"], "cpu.max", "max 50000"),
        (["--cpu-quota", "20000"], "cpu.max", "20000 100000"),
        (["--cpu-share", "1024"], "cpu.weight", "39"),
        (["--cpuset-cpus", "0"], "cpuset.cpus", "0"),
        (["--cpuset-mems", "0"], "cpuset.mems", "0"),
        (["--memory", "100000000"], "memory.max", "99999744"),
        (["--memory-reservation", str(32 * MIB)], "memory.low", str(32 * MIB)),
        (["--memory", str(32 * MIB), "--memory-swap", str(64 * MIB)], "memory.swap.max", str(32 * MIB)),
        (["--memory", "-1"], "memory.swap.max", "max"),
        (["--pids-limit", "77"], "pids.max", "77"),
        (["--cpu-rt-period", "50000", "--cpu-rt-runtime", "1000"], "cpu.max", "max 100000"),
    ],
)
def test_a_flag_of_update_is_in_its_file(runtime, bundle, flags, file, text):
    runtime.create(bundle.build())
    runtime.ok("update", *flags, "c")
    assert runtime.limit(file) == text


def test_an_update_keeps_what_it_depends_on(runtime, bundle):
    """Quota and period share a file."""
    bundle.linux["resources"]["cpu"] = {"quota": 40000, "period": 50000}
    runtime.create(bundle.build())
    runtime.ok("update", "--cpu-quota", "20000", "c")
    assert runtime.limit("cpu.max") == "20000 50000"
    runtime.ok("update", "--cpu-period", "80000", "c")
    assert runtime.limit("cpu.max") == "20000 80000"


@ours_only("an update of swap counts with the memory limit that is set")
def test_an_update_of_swap_counts_with_the_limit_of_memory(runtime, bundle):
    """Swap is given as a sum with memory, and the kernel has it alone."""
    bundle.linux["resources"]["memory"] = {"limit": 64 * MIB, "swap": 128 * MIB}
    runtime.create(bundle.build())
    runtime.ok("update", "--memory-swap", str(96 * MIB), "c")
    assert (runtime.limit("memory.max"), runtime.limit("memory.swap.max")) == (
        str(64 * MIB),
        str(32 * MIB),
    )
    runtime.ok("update", "--memory", str(32 * MIB), "c")
    assert runtime.limit("memory.swap.max") == str(64 * MIB)
    done = runtime("update", "--memory", str(256 * MIB), "c")
    assert (done.code, runtime.limit("memory.max")) == (1, str(32 * MIB))
    assert "memory+swap limit should be >= memory limit" in done.err


@ours_only("checkBeforeUpdate")
def test_a_limit_is_compared_with_what_is_used_where_that_is_asked_for(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    for key, what in (("limit", "memory limit 4096"), ("swap", "memory+swap limit 4096")):
        memory = {"limit": 64 * MIB, key: 4096, "checkBeforeUpdate": True}
        done = runtime("update", "--resources", "-", "c", stdin=json.dumps({"memory": memory}))
        assert done.code == 1
        assert f"rejecting {what} <= usage " in done.err
    assert runtime.limit("memory.max") == "max"
    assert runtime.state()["status"] == "running"
    memory = {"limit": 64 * MIB, "checkBeforeUpdate": True}
    runtime.ok("update", "--resources", "-", "c", stdin=json.dumps({"memory": memory}))
    assert runtime.limit("memory.max") == str(64 * MIB)


def test_devices_are_denied_but_for_the_list(runtime, bundle):
    """R16: a program on the cgroup decides, for exec's processes too."""
    bundle.linux["resources"]["devices"].append(
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}
    )
    bundle.capabilities("CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYSLOG")
    script = (
        "mknod /disk b 7 0; mknod /kmsg c 1 11;"
        "dd if=/disk of=/dev/null count=1; : < /kmsg && echo readable; echo x > /kmsg; echo x > /dev/null && echo fine"
    )
    done = runtime.run(bundle.writable().sh(script).build())
    assert done.err.count("Operation not permitted") + done.err.count("can't create /kmsg") >= 2
    assert done.out.split() == ["readable", "fine"]


def test_pause_freezes_and_resume_thaws(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    runtime.ok("pause", "c")
    assert "frozen 1" in runtime.limit("cgroup.events")
    assert runtime.state()["status"] == "paused"
    runtime.ok("resume", "c")
    assert "frozen 0" in runtime.limit("cgroup.events")
    assert runtime.state()["status"] == "running"


def test_kill_all_reaches_what_left_init(runtime, bundle):
    runtime.start_detached(bundle.without_namespace("pid").sh("sleep 100 & sleep 100").build())
    while len(json.loads(runtime.ok("ps", "-f", "json", "c").out)) < 2:
        pass
    runtime.ok("kill", "--all", "c", "KILL")
    runtime.wait_status("stopped")
    while runtime.limit("cgroup.procs"):
        pass


def test_exec_is_in_the_cgroup_or_in_one_below(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    assert runtime.ok("exec", "c", "cat", "/proc/self/cgroup").out == f"0::{bundle.cgroup}\n"
    (runtime.cgroup() / "sub").mkdir()
    done = runtime.ok("exec", "--cgroup", "sub", "c", "cat", "/proc/self/cgroup")
    assert done.out == f"0::{bundle.cgroup}/sub\n"
    done = runtime("exec", "--cgroup", "nosuch", "c", "true")
    assert done.code == 255


def test_a_relative_path_counts_from_the_parent_of_the_callers_cgroup(runtime, bundle):
    del bundle.linux["cgroupsPath"]
    bundle.linux["resources"]["pids"] = {"limit": 20}
    id = f"id{bundle.cgroup[1:]}"
    runtime.create(bundle.build(), id)
    (path,) = runtime.cgroup_paths(id).values()
    mine = Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")
    assert path == f"/sys/fs/cgroup{os.path.dirname(mine)}/{id}".replace("//", "/")
    assert (Path(path) / "pids.max").read_text() == "20\n"
    runtime.ok("delete", id)


def test_the_cgroup_mount_shows_the_containers_own(runtime, bundle):
    bundle.with_namespace("cgroup")
    done = runtime.run(bundle.sh("cat /sys/fs/cgroup/cgroup.procs; touch /sys/fs/cgroup/x").build())
    assert done.out.split()[0] == "1"
    assert "Read-only" in done.err


def test_stats_have_runcs_shape(runtime, bundle):
    bundle.linux["resources"].update(memory={"limit": 64 * MIB}, pids={"limit": 30})
    runtime.start_detached(bundle.args("sleep", "100").build())
    data = json.loads(runtime.ok("events", "--stats", "c").out)["data"]
    assert {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"} <= set(data)
    assert data["cpu"]["usage"]["total"] > 0
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert 0 < data["memory"]["usage"]["usage"] < 64 * MIB
    assert data["memory"]["raw"]["anon"] > 0
    assert data["pids"] == {"current": 1, "limit": 30}
    assert "2MB" in data["hugetlb"]


@ours_only("pressure is in the stats")
def test_stats_tell_of_pressure(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    data = json.loads(runtime.ok("events", "--stats", "c").out)["data"]
    for controller in ("cpu", "memory", "blkio"):
        assert set(data[controller]["psi"]) == {"some", "full"}
        assert set(data[controller]["psi"]["some"]) == {"avg10", "avg60", "avg300", "total"}


@ours_only("events ends with its container")
def test_oom_is_an_event(runtime, bundle):
    bundle.linux["resources"]["memory"] = {"limit": 8 * MIB, "swap": 8 * MIB}
    runtime.start_detached(
        bundle.sh(f"sleep {seconds(1):.0f}; dd if=/dev/zero of=/dev/null bs=64M count=1; true").build()
    )
    lines = runtime.ok("events", "--interval", "60s", "c").out.splitlines()
    assert {"type": "oom", "id": "c"} in [json.loads(line) for line in lines]
