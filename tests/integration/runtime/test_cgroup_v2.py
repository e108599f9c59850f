"""The version 2 manager on a real version 2 hierarchy: all that works without controllers does so on a hybrid machine.

Spec: cgroup-v2.rst
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pycontainerd.lib.cgroups.hierarchy import read_mounts
from pycontainerd.lib.cgroups.v2 import UnifiedManager
from pycontainerd.lib.linux import bpf
from pycontainerd.lib.linux.process import clone3


@pytest.fixture
def manager():
    root = read_mounts().unified
    if not root:
        pytest.skip("needs a cgroup v2 mount")
    made = UnifiedManager(f"{root}/pyrunc-v2-{os.getpid()}/c")
    made.create()
    yield made
    made.kill()
    made.destroy()
    os.rmdir(os.path.dirname(made.path))


@pytest.fixture
def sleeper(manager):
    running = subprocess.Popen(["sleep", "100"])
    manager.attach(running.pid)
    yield running
    running.kill()
    running.wait()


def test_processes_are_listed(manager, sleeper):
    assert manager.pids() == [sleeper.pid]


def test_freeze_and_thaw(manager, sleeper):
    assert not manager.is_frozen()
    manager.freeze()
    assert manager.is_frozen()
    manager.thaw()
    assert not manager.is_frozen()


def test_kill_reaches_frozen_processes(manager, sleeper):
    manager.freeze()
    manager.kill()
    assert sleeper.wait(5) == -signal.SIGKILL


def test_clone3_starts_inside(manager):
    read_fd, write_fd = os.pipe()
    folder_fd = manager.open_fd()

    def child() -> None:
        os.read(read_fd, 1)
        os._exit(7)

    try:
        pid = clone3(child, cgroup_fd=folder_fd)
        assert manager.pids() == [pid]
        os.write(write_fd, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    finally:
        for fd in (read_fd, write_fd, folder_fd):
            os.close(fd)


def test_destroy_waits_for_the_dying_and_takes_sub_cgroups(manager):
    os.makedirs(f"{manager.path}/a/b")
    running = subprocess.Popen(["sleep", "100"])
    manager.attach(running.pid)
    manager.kill()
    manager.destroy()
    assert not manager.exists()
    running.wait()
    manager.create()


def _can_open(manager, path: str, flags: int) -> bool:
    """Whether a process in the cgroup may open a device."""

    def child() -> None:
        try:
            os.open(path, flags)
        except PermissionError:
            os._exit(1)
        os._exit(0)

    folder_fd = manager.open_fd()
    try:
        pid = clone3(child, cgroup_fd=folder_fd)
    finally:
        os.close(folder_fd)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.requires("root")
def test_device_rules_are_an_ebpf_program(manager):
    assert _can_open(manager, "/dev/kmsg", os.O_RDONLY)
    manager.set({"devices": [{"allow": False, "access": "rwm"}]})
    assert _can_open(manager, "/dev/null", os.O_RDWR)
    assert not _can_open(manager, "/dev/kmsg", os.O_RDONLY)
    manager.set(
        {
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"},
            ]
        }
    )
    assert _can_open(manager, "/dev/kmsg", os.O_RDONLY)
    assert not _can_open(manager, "/dev/kmsg", os.O_WRONLY)
    folder_fd = manager.open_fd()
    try:
        assert len(bpf.query_programs(folder_fd, bpf.BPF_CGROUP_DEVICE)) == 1
    finally:
        os.close(folder_fd)


def test_stats_without_controllers_are_zeros(manager, sleeper):
    if "memory" in (Path(manager.path) / "cgroup.controllers").read_text():
        pytest.skip("has the memory controller")
    stats = manager.stats()
    assert stats["memory"]["usage"]["limit"] == 0
    assert stats["pids"] == {}
    assert set(stats) >= {"cpu", "memory", "pids", "blkio"}


def test_freezing_an_empty_cgroup_returns(manager):
    began = time.monotonic()
    manager.freeze()
    manager.thaw()
    assert time.monotonic() - began < 5
