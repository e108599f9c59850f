"""--systemd-cgroup: a container as a transient unit, with a service manager that is made up and that Debian's runc takes.

Spec: systemd docs/CONTROL_GROUP_INTERFACE.md; runc docs/systemd.md
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from support.patience import seconds
from support.programs import peer
from support.runtime import Runtime, is_ours, ours_only
from support.systemd import ROOT, FakeSystemd, slice_path

pytestmark = pytest.mark.requires("root")
BOOTED = Path("/run/systemd/system")
IS_V1 = os.path.isdir(f"{ROOT}/memory")


class SystemdRuntime(Runtime):
    """The runtime with the global flag."""

    def argv(self, *words):
        found = super().argv(*words)
        return [found[0], "--systemd-cgroup", *found[1:]]


@pytest.fixture
def systemd(short_tmp, monkeypatch):
    """A service manager, on a machine that says it was booted by one."""
    if BOOTED.exists():
        pytest.skip("this machine has a systemd of its own")
    BOOTED.mkdir(parents=True)
    made = FakeSystemd(short_tmp / "bus")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
    yield made
    made.close()
    BOOTED.rmdir()


def remove(folder: Path) -> None:
    """Removes a cgroup once its last process is gone."""
    deadline = time.monotonic() + seconds(5)
    while folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{folder} is still in use"
            time.sleep(0.02)


@pytest.fixture
def slice_name(short_tmp):
    """A slice of this test alone, whose folders are removed with it."""
    name = f"pc{short_tmp.name.replace('_', '').replace('-', '')}.slice"
    yield name
    hierarchies = os.listdir(ROOT) if IS_V1 else [""]
    for hierarchy in hierarchies:
        remove(Path(ROOT, hierarchy, slice_path(name)))


@pytest.fixture
def runtime(systemd, short_tmp, slice_name):
    made = SystemdRuntime(short_tmp / "root")
    yield made
    made.clean()


@pytest.fixture
def bundle(bundle, slice_name):
    bundle.linux["cgroupsPath"] = f"{slice_name}:pc:{bundle.path.parent.name}"
    return bundle


def unit_of(bundle) -> str:
    return f"pc-{bundle.path.parent.name}.scope"


def cgroup(slice_name, bundle, controller="memory") -> Path:
    return Path(ROOT, controller if IS_V1 else "", slice_path(slice_name), unit_of(bundle))


def test_a_container_is_a_scope(runtime, bundle, systemd, slice_name):
    runtime.create(bundle.args("sleep", "100").build())
    assert list(systemd.units) == [unit_of(bundle)]
    assert systemd.calls[0][0] == "StartTransientUnit"
    assert systemd.calls[0][1][:2] == [unit_of(bundle), "replace"]
    wanted = systemd.properties("StartTransientUnit")
    assert wanted["Slice"] == ("s", slice_name)
    # runc's first child is only the father of init.
    assert wanted["PIDs"] == ("au", [runtime.pid()]) or (not is_ours() and len(wanted["PIDs"][1]) == 1)
    assert wanted["Delegate"] == wanted["MemoryAccounting"] == wanted["TasksAccounting"] == ("b", True)
    assert wanted["BlockIOAccounting" if IS_V1 else "IOAccounting"] == ("b", True)
    assert wanted["DefaultDependencies"] == ("b", False)
    assert wanted["Description"] == ("s", f"libcontainer container {bundle.path.parent.name}")
    for controller in ("memory", "devices", "pids") if IS_V1 else ("",):
        procs = cgroup(slice_name, bundle, controller) / "cgroup.procs"
        assert procs.read_text().split() == [str(runtime.pid())]
    runtime.ok("start", "c")
    runtime.ok("exec", "c", "true")
    assert runtime.ok("ps", "--format", "json", "c").out.strip() == json.dumps([runtime.pid()])
    runtime.ok("delete", "--force", "c")
    assert not systemd.units
    assert [name for name, _arguments in systemd.calls if name == "StopUnit"]
    assert not cgroup(slice_name, bundle).exists()


def test_limits_are_properties_and_files(runtime, bundle, systemd, slice_name):
    bundle.linux["resources"] = {
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 512, "quota": 12345, "period": 100000, "cpus": "0"},
        "pids": {"limit": 50},
    }
    runtime.create(bundle.args("sleep", "100").build())
    wanted = systemd.properties("SetUnitProperties")
    assert wanted["MemoryLimit" if IS_V1 else "MemoryMax"] == ("t", 64 << 20)
    assert wanted["CPUShares" if IS_V1 else "CPUWeight"] == ("t", 512 if IS_V1 else 20)
    assert wanted["CPUQuotaPeriodUSec"] == ("t", 100000)
    assert wanted["CPUQuotaPerSecUSec"] == ("t", 130000)  # 12.345 % of a CPU, rounded up
    assert wanted["TasksMax"] == ("t", 50)
    assert wanted["AllowedCPUs"] == ("ay", [1])
    assert wanted["DevicePolicy"] == ("s", "strict")
    allowed = dict(wanted["DeviceAllow"][1])
    assert allowed["/dev/char/1:3"] == "rwm"
    assert allowed.get("char-136") == "rwm" or (not is_ours() and allowed["char-pts"] == "rwm")
    assert allowed["block-*"] == "m"
    if IS_V1:
        assert (cgroup(slice_name, bundle) / "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
        # As systemd has rounded it; runc 1.1 writes over that.
        rounded = "13000\n" if is_ours() else "12345\n"
        assert (cgroup(slice_name, bundle, "cpu") / "cpu.cfs_quota_us").read_text() == rounded


def test_update(runtime, bundle, systemd, slice_name):
    runtime.start_detached(bundle.args("sleep", "100").build())
    runtime.ok("update", "--pids-limit", "33", "c")
    wanted = systemd.properties("SetUnitProperties")
    assert wanted["TasksMax"] == ("t", 33)
    assert "DevicePolicy" not in wanted
    name = "pids" if IS_V1 else ""
    assert (cgroup(slice_name, bundle, name) / "pids.max").read_text() == "33\n"
    runtime.ok("pause", "c")
    runtime.ok("update", "--pids-limit", "44", "c")
    assert runtime.state()["status"] == "paused"
    runtime.ok("resume", "c")


def test_run_leaves_nothing(runtime, bundle, systemd, slice_name):
    done = runtime.run(bundle.sh("cat /proc/self/cgroup; exit 3").build())
    assert done.code == 3, done
    assert not systemd.units
    assert not cgroup(slice_name, bundle).exists()


def test_without_a_path_it_is_named_after_the_container(runtime, bundle, systemd):
    bundle.linux["cgroupsPath"] = ""
    id = bundle.path.parent.name
    assert runtime.run(bundle.args("true").build(), id).code == 0
    assert systemd.calls[0][1][0] == f"runc-{id}.scope"
    assert systemd.properties("StartTransientUnit")["Slice"] == ("s", "system.slice")
    for hierarchy in os.listdir(ROOT) if IS_V1 else []:
        folder = Path(ROOT, hierarchy, "system.slice")
        if folder.is_dir() and not any(entry.is_dir() for entry in folder.iterdir()):
            folder.rmdir()


def test_annotations_are_properties(runtime, bundle, systemd):
    bundle.spec["annotations"] = {
        "org.systemd.property.TimeoutStopSec": "uint64 7",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.After": "['a.service', 'b.service']",
    }
    runtime.create(bundle.args("true").build())
    wanted = systemd.properties("StartTransientUnit")
    assert wanted["TimeoutStopUSec"] == ("t", 7_000_000)
    assert wanted["CollectMode"] == ("s", "inactive-or-failed")
    assert wanted["After"] == ("as", ["a.service", "b.service"])


@ours_only("security R21: annotations set properties of the container's own unit only")
def test_r21_an_annotation_does_not_act_on_the_host(runtime, bundle, systemd):
    """CVE-2024-3154."""
    bundle.spec["annotations"] = {"org.systemd.property.SuccessAction": "'poweroff-force'"}
    done = runtime.run(bundle.args("true").build())
    assert done.code == 1
    assert "annotation org.systemd.property.SuccessAction" in done.err
    assert systemd.calls == []


def test_the_rest_of_a_unit_that_failed_is_reset(runtime, bundle, systemd):
    systemd.result = "failed"
    done = runtime.run(bundle.args("true").build())
    assert done.code == 1
    text = f"error creating systemd unit `{unit_of(bundle)}`: got `failed`"
    assert f"unable to start container process: unable to apply cgroup configuration: {text}" in done.err
    assert "ResetFailedUnit" in [name for name, _arguments in systemd.calls]
    assert runtime.ok("list", "-q").out == ""


@ours_only("a unit that is there is an error at once")
def test_a_unit_that_is_there(runtime, bundle, systemd):
    runtime.create(bundle.args("sleep", "100").build())
    done = runtime("create", "--bundle", str(bundle.build()), "d")
    assert done.code == 1
    assert f'unable to start unit \\"{unit_of(bundle)}\\": Unit {unit_of(bundle)} already exists.' in done.err
    assert list(systemd.units) == [unit_of(bundle)]
    assert runtime.state()["status"] == "created"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "/x",
            'expected cgroupsPath to be of format \\"slice:prefix:name\\" for systemd cgroups, got \\"/x\\" instead',
        ),
        ("a:runc:c", "invalid slice name: a"),
        ("a--b.slice:runc:c", "invalid slice name: a--b.slice"),
    ],
)
def test_paths_that_are_none(runtime, bundle, path, text):
    bundle.linux["cgroupsPath"] = path
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert text in done.err
    assert not (runtime.root / "c").exists()


def test_without_systemd(short_tmp, bundle):
    if BOOTED.exists():
        pytest.skip("this machine has a systemd of its own")
    runtime = SystemdRuntime(short_tmp / "root")
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "systemd not running on this host, cannot use systemd cgroups manager" in done.err
    assert not (runtime.root / "c").exists()


@ours_only("the test drives both runtimes itself")
def test_runc_deletes_ours_and_we_delete_runcs(runtime, bundle, systemd, short_tmp):
    runc = SystemdRuntime(runtime.root, peer("runc"))
    for maker, other in ((runtime, runc), (runc, runtime)):
        maker.create(bundle.args("sleep", "100").build())
        assert other.state()["status"] == "created"
        other.ok("start", "c")
        other.ok("update", "--pids-limit", "21", "c")
        other.ok("delete", "--force", "c")
        assert not systemd.units
