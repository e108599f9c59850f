"""Limits, placement, statistics.

Spec: runtime-spec config-linux.md#control-groups; walkthrough S032 S033
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.patience import seconds
from support.runtime import ours_only

pytestmark = pytest.mark.requires("cgroup_v1")
ROOT = Path("/sys/fs/cgroup")


def test_limits_are_written(runtime, bundle):
    bundle.linux["cgroupsPath"] = f"{bundle.cgroup}/c"
    bundle.linux["resources"].update(
        memory={"limit": 64 << 20, "reservation": 32 << 20, "swappiness": 10},
        cpu={"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
        pids={"limit": 50},
    )
    runtime.create(bundle.build())
    try:
        assert runtime.cgroup("memory") == ROOT / f"memory{bundle.cgroup}/c"
        for controller, name, value in (
            ("memory", "memory.limit_in_bytes", str(64 << 20)),
            ("memory", "memory.soft_limit_in_bytes", str(32 << 20)),
            ("memory", "memory.swappiness", "10"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "50"),
        ):
            assert (runtime.cgroup(controller) / name).read_text().strip() == value
    finally:
        runtime.ok("delete", "--force", "c")
        for folder in ROOT.glob(f"*{bundle.cgroup}"):
            folder.rmdir()


def test_init_is_in_every_cgroup_of_its_state(runtime, bundle):
    runtime.create(bundle.build())
    paths = runtime.cgroup_paths()
    for path in paths.values():
        assert str(runtime.pid()) in (Path(path) / "cgroup.procs").read_text().split()


def test_devices_are_denied_but_for_the_list(runtime, bundle):
    """R16."""
    bundle.linux["resources"]["devices"].append(
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    )
    bundle.capabilities("CAP_MKNOD", "CAP_DAC_OVERRIDE")
    done = runtime.run(
        bundle.writable()
        .sh("mknod /d b 254 0 && dd if=/d of=/dev/null count=1; echo x > /dev/null && echo fine")
        .build()
    )
    assert "Operation not permitted" in done.err
    assert "fine" in done.out
    runtime.create(bundle.args("true").build())
    lines = (runtime.cgroup("devices") / "devices.list").read_text().split("\n")
    assert "c 10:229 rw" in lines
    assert "c 1:3 rwm" in lines
    assert not any(line.startswith("a") for line in lines)


def test_allow_all_devices(runtime, bundle):
    bundle.linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    runtime.create(bundle.build())
    assert "a *:* rwm" in (runtime.cgroup("devices") / "devices.list").read_text()


def test_a_limit_below_what_is_used_fails_with_the_usage(runtime, bundle):
    bundle.linux["resources"]["memory"] = {"limit": 1000}
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "unable to set memory limit to 1000 (current usage: " in done.err


def test_update(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    runtime.ok("update", "--memory", "67108864", "--pids-limit", "33", "--cpu-share", "700", "c")
    assert (runtime.cgroup("memory") / "memory.limit_in_bytes").read_text().strip() == "67108864"
    assert (runtime.cgroup("pids") / "pids.max").read_text().strip() == "33"
    runtime.ok("update", "--resources", "-", "c", stdin='{"pids": {"limit": 44}}')
    assert (runtime.cgroup("pids") / "pids.max").read_text().strip() == "44"
    assert (runtime.cgroup("cpu") / "cpu.shares").read_text().strip() == "700"


@ours_only("cpu burst and idle")
def test_update_of_burst_and_idle(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    folder = runtime.cgroup("cpu")
    runtime.ok("update", "--cpu-quota", "50000", "--cpu-period", "100000", "--cpu-burst", "5000", "c")
    assert (folder / "cpu.cfs_burst_us").read_text().strip() == "5000"
    runtime.ok("update", "--cpu-idle", "1", "c")
    assert (folder / "cpu.idle").read_text().strip() == "1"
    done = runtime("update", "--cpu-burst", "x", "c")
    assert done.code == 1
    assert "invalid value for cpu-burst" in done.err


def test_unified_on_v1_fails(runtime, bundle):
    bundle.linux["resources"]["unified"] = {"memory.high": "1"}
    assert runtime.run(bundle.build()).code == 1


def test_stats_have_runcs_shape(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    event = json.loads(runtime.ok("events", "--stats", "c").out)
    assert event["type"] == "stats"
    assert set(event["data"]) == {
        "cpu",
        "cpuset",
        "memory",
        "pids",
        "blkio",
        "hugetlb",
        "intel_rdt",
        "network_interfaces",
    }
    assert event["data"]["cpu"]["usage"]["total"] > 0
    assert event["data"]["memory"]["usage"]["usage"] > 0
    assert event["data"]["pids"]["current"] == 1


@ours_only("events ends with its container")
def test_events_end_with_the_container(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", f"{seconds(1):.0f}").build())
    lines = runtime.ok("events", "--interval", "200ms", "c").out.splitlines()
    assert {json.loads(line)["type"] for line in lines} == {"stats"}


@ours_only("events ends with its container")
def test_oom_is_an_event(runtime, bundle):
    bundle.linux["resources"]["memory"] = {"limit": 8 << 20}
    script = f"sleep {seconds(1):.0f}; dd if=/dev/zero of=/dev/null bs=64M count=1"
    runtime.start_detached(bundle.sh(script).build())
    lines = runtime.ok("events", "--interval", "5s", "c").out.splitlines()
    assert {"type": "oom", "id": "c"} in [json.loads(line) for line in lines]


@ours_only("events ends with its container")
def test_an_oom_that_ends_the_container_is_told_however_late_somebody_looks(runtime, bundle):
    bundle.linux["resources"]["memory"] = {"limit": 8 << 20}
    script = "until [ -e /go ]; do sleep 0.1; done; dd if=/dev/zero of=/dev/null bs=64M count=1"
    path = bundle.sh(script).build()
    runtime.start_detached(path)
    events = subprocess.Popen(
        runtime.argv("events", "--interval", "60s", "c"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert json.loads(events.stdout.readline())["type"] == "stats"
        time.sleep(seconds(0.5))  # it watches by then
        events.send_signal(signal.SIGSTOP)
        (path / "rootfs/go").touch()
        runtime.wait_status("stopped")
        events.send_signal(signal.SIGCONT)
        assert [json.loads(line) for line in events.stdout] == [{"type": "oom", "id": "c"}]
        assert events.wait(seconds(10)) == 0
    finally:
        events.kill()
        events.wait()
        events.stdout.close()


def test_a_relative_path_counts_from_the_callers_own_cgroup(runtime, bundle):
    del bundle.linux["cgroupsPath"]
    id = f"id{bundle.cgroup[1:]}"
    runtime.create(bundle.build(), id)
    paths = runtime.cgroup_paths(id)
    own = {
        name: path
        for line in Path("/proc/self/cgroup").read_text().split()
        for name, path in [line.split(":", 2)[1:]]
    }
    assert paths["memory"] == str(ROOT / "memory") + own["memory"].rstrip("/") + f"/{id}"
    runtime.ok("delete", id)


def test_a_cgroup_that_is_frozen(runtime, bundle):
    folders = [ROOT / name / bundle.linux["cgroupsPath"].strip("/") for name in ("devices", "freezer")]
    for folder in folders:
        folder.mkdir(parents=True)
    try:
        (folders[1] / "freezer.state").write_text("FROZEN")
        done = runtime.run(bundle.args("true").build())
    finally:
        for folder in folders:
            folder.rmdir()
    assert done.code == 1
    assert "container's cgroup unexpectedly frozen" in done.err


@ours_only("the root of all cgroups is refused")
@pytest.mark.parametrize("path", ["/", "/.", "//"])
def test_the_root_of_all_cgroups(runtime, bundle, path):
    bundle.linux["cgroupsPath"] = path
    done = runtime.run(bundle.args("true").build())
    assert done.code == 1
    assert "linux.cgroupsPath: the root of all cgroups can't be a container's" in done.err


def test_a_create_that_fails_leaves_another_containers_cgroup_alone(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    path = bundle.args("nosuch").build()
    done = runtime("create", "--bundle", str(path), "d")
    assert done.code == 1
    assert "container's cgroup is not empty: 1 process(es) found" in done.err
    assert runtime.state()["status"] == "running"
