"""delete, and what is left after each way to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.patience import seconds
from support.runtime import ours_only


def test_delete_of_a_running_container_fails(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    done = runtime("delete", "c")
    assert done.code == 1
    assert "cannot delete container c that is not stopped: running" in done.err
    assert runtime.state()["status"] == "running"


def test_force_deletes_a_running_container(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    paths = runtime.cgroup_paths()
    runtime.ok("delete", "--force", "c")
    assert not (runtime.root / "c").exists()
    assert not any(Path(path).exists() for path in paths.values())


def test_a_created_container_is_deleted_without_force(runtime, bundle):
    runtime.create(bundle.build())
    runtime.ok("delete", "c")
    assert not (runtime.root / "c").exists()


def test_delete_of_a_paused_container_with_force(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    runtime.ok("pause", "c")
    runtime.ok("delete", "--force", "c")
    assert not (runtime.root / "c").exists()


def test_delete_of_nobody(runtime):
    assert runtime("delete", "nope").code == 1
    assert runtime("delete", "--force", "nope").code == 0


def test_sub_cgroups_go_too(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    path = runtime.cgroup("pids")
    (path / "a/b").mkdir(parents=True)
    runtime.ok("delete", "--force", "c")
    assert not path.exists()


def test_processes_without_a_pid_namespace_are_killed(runtime, bundle):
    runtime.start_detached(bundle.without_namespace("pid").sh("sleep 100 & sleep 100").build())
    while len(pids := json.loads(runtime.ok("ps", "-f", "json", "c").out)) < 2:
        pass
    runtime.ok("delete", "--force", "c")
    deadline = time.monotonic() + seconds(5)
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@ours_only("a create killed at any moment is removed by delete --force")
@pytest.mark.requires("strace")
@pytest.mark.parametrize(
    "call",
    [
        "mkdir:when=4",
        pytest.param("mkdir:when=9", marks=pytest.mark.requires("cgroup_v1")),  # so many hierarchies
        "clone3:when=1",
        "rename:when=2",
        "mknod:when=1",
    ],
)
def test_what_a_killed_create_leaves_is_found_and_removed(runtime, bundle, call):
    path = bundle.args("sleep", "100").build()
    name, _, when = call.partition(":")
    name = {"mknod": "mknodat"}.get(name, name)
    argv = [
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={name}",
        "-e",
        f"inject={name}:signal=SIGKILL:{when}",
    ]
    done = subprocess.run(
        [*argv, *runtime.argv("create", "--bundle", str(path), "c")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=30,
    )
    assert done.returncode in (-signal.SIGKILL, 137)
    if (runtime.root / "c").exists():
        runtime.ok("delete", "--force", "c")
    assert not (runtime.root / "c").exists()
    assert not os.path.exists(f"/sys/fs/cgroup/pids{bundle.cgroup}")
