"""Limits, and descriptors from and for others: each seen to be in force.

Spec: runtime-spec config.md, config-linux.md; runc(8)
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from support.runtime import ours_only

V1 = pytest.mark.requires("cgroup_v1")


def own(runtime, controller: str) -> Path:
    state = json.loads((runtime.root / "c/state.json").read_text())
    return Path(state["cgroup_paths"][controller])


@ours_only("personality")
def test_personality(runtime, bundle):
    bundle.linux["personality"] = {"domain": "LINUX32"}
    assert runtime.run(bundle.args("busybox", "uname", "-m").build()).out == "i686\n"


@V1
def test_the_oom_killer_can_be_disabled(runtime, bundle):
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20, "disableOOMKiller": True}
    runtime.create(bundle.args("true").build())
    assert "oom_kill_disable 1" in (own(runtime, "memory") / "memory.oom_control").read_text()


@V1
def test_block_devices_are_throttled(runtime, bundle):
    major, minor = os.major(os.stat("/").st_dev), os.minor(os.stat("/").st_dev)
    if not os.path.exists(f"/sys/dev/block/{major}:{minor}"):
        pytest.skip("the root is on no block device")
    device = {"major": major, "minor": minor}
    bundle.linux["resources"]["blockIO"] = {
        "throttleReadBpsDevice": [{**device, "rate": 1000001}],
        "throttleWriteBpsDevice": [{**device, "rate": 1000002}],
        "throttleReadIOPSDevice": [{**device, "rate": 1003}],
        "throttleWriteIOPSDevice": [{**device, "rate": 1004}],
    }
    runtime.create(bundle.args("true").build())
    for name, rate in (
        ("read_bps", 1000001),
        ("write_bps", 1000002),
        ("read_iops", 1003),
        ("write_iops", 1004),
    ):
        text = (own(runtime, "blkio") / f"blkio.throttle.{name}_device").read_text()
        assert text == f"{major}:{minor} {rate}\n"


@V1
@ours_only("cpu burst and idle")
def test_cpu_burst_and_idle(runtime, bundle):
    bundle.linux["resources"]["cpu"] = {"quota": 50000, "period": 100000, "burst": 4000, "idle": 1}
    runtime.create(bundle.args("true").build())
    assert (own(runtime, "cpu") / "cpu.cfs_burst_us").read_text() == "4000\n"
    assert (own(runtime, "cpu") / "cpu.idle").read_text() == "1\n"
    runtime.ok("update", "--cpu-idle", "0", "--cpu-burst", "0", "c")
    assert (own(runtime, "cpu") / "cpu.idle").read_text() == "0\n"
    assert (own(runtime, "cpu") / "cpu.cfs_burst_us").read_text() == "0\n"


@pytest.mark.parametrize("command", ["run", "exec"])
def test_sockets_that_the_service_manager_opened_are_passed_on(runtime, bundle, short_tmp, command):
    """sd_listen_fds(3): from descriptor 3 on, for the process whose number is 1 in its own namespace."""
    script = "echo $LISTEN_FDS $LISTEN_PID; readlink /proc/self/fd/3; readlink /proc/self/fd/4"
    path = short_tmp / "file"
    path.write_text("")
    words = ["run", "--preserve-fds", "1", "--bundle", str(bundle.sh(script).build()), "c"]
    if command == "exec":
        runtime.start_detached(bundle.args("sleep", "100").build())
        words = ["exec", "--preserve-fds", "1", "c", "sh", "-c", script]
    shell = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3</dev/null 4<{path}'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *runtime.argv(*words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    # Not for exec, which is nobody's service: --preserve-fds counts from 3 there.
    expected = ["1 1", "/dev/null", str(path)] if command == "run" else ["", "/dev/null"]
    assert done.stdout.splitlines() == expected, done.stderr


def test_sockets_for_another_process_are_not_taken(runtime, bundle):
    done = runtime.run(
        bundle.sh("echo ${LISTEN_FDS-none}").build(), env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    )
    assert (done.code, done.out) == (0, "none\n"), done


def test_a_seccomp_listener_gets_the_notify_descriptor_and_the_state(runtime, bundle, short_tmp):
    path = short_tmp / "listener"
    found = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(20)

        def receive():
            peer, _ = listener.accept()
            with peer:
                data, fds, _flags, _address = socket.recv_fds(peer, 65536, 4)
            found.append((json.loads(data), [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]))
            for fd in fds:
                os.close(fd)

        thread = threading.Thread(target=receive)
        thread.start()
        bundle.linux["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "listenerPath": str(path),
            "listenerMetadata": "meta",
            "syscalls": [{"names": ["swapoff"], "action": "SCMP_ACT_NOTIFY"}],
        }
        runtime.start_detached(bundle.args("sleep", "100").build())
        thread.join(20)
    document, links = found[0]
    assert links == ["anon_inode:seccomp notify"]
    assert (document["fds"], document["metadata"]) == (["seccompFd"], "meta")
    assert document["state"]["id"] == "c"
    assert document["pid"] == runtime.pid()


@V1
def test_exec_in_a_sub_cgroup(runtime, bundle, short_tmp):
    runtime.start_detached(bundle.args("sleep", "100").build())
    sub = own(runtime, "pids") / "sub"
    sub.mkdir()
    pid_file = short_tmp / "pid"
    runtime.detached(
        "exec", "--detach", "--cgroup", "pids:sub", "--pid-file", str(pid_file), "c", "sleep", "100"
    )
    pid = pid_file.read_text()
    assert (sub / "cgroup.procs").read_text().split() == [pid]
    assert pid in (own(runtime, "memory") / "cgroup.procs").read_text().split()


@V1
def test_update_of_the_other_limits(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    runtime.ok("update", "--memory", "128m", "--memory-swap", "256m", "--memory-reservation", "64m", "c")
    runtime.ok("update", "--cpuset-cpus", "0", "--cpuset-mems", "0", "c")
    runtime.ok("update", "--cpu-quota", "30000", "--cpu-period", "60000", "c")
    memory, cpuset, cpu = (own(runtime, name) for name in ("memory", "cpuset", "cpu"))
    assert (memory / "memory.limit_in_bytes").read_text() == f"{128 << 20}\n"
    swap = memory / "memory.memsw.limit_in_bytes"
    assert not swap.exists() or swap.read_text() == f"{256 << 20}\n"
    assert (memory / "memory.soft_limit_in_bytes").read_text() == f"{64 << 20}\n"
    assert (cpuset / "cpuset.cpus").read_text() == "0\n"
    assert (cpuset / "cpuset.mems").read_text() == "0\n"
    assert (cpu / "cpu.cfs_quota_us").read_text() == "30000\n"
    assert (cpu / "cpu.cfs_period_us").read_text() == "60000\n"
