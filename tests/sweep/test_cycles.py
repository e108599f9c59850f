"""Thousands of containers and execs one after the other: nothing is left and nothing grows."""

from __future__ import annotations

import os
import time
from pathlib import Path

from support import leaks
from support.patience import seconds

MARK = "86398"


def kernel_keys() -> int:
    """Keys that the kernel holds: each container has a session keyring, which goes with its last process."""
    return Path("/proc/keys").read_text().count("\n")


def world(runtime) -> dict[str, object]:
    """What must be the same after any number of containers."""
    return {
        "state": sorted(os.listdir(runtime.root)) if runtime.root.exists() else [],
        "mounts": leaks.mounts(),
        "cgroups": {path for path, _, _ in os.walk("/sys/fs/cgroup") if runtime.root.parent.name in path},
        "processes": set(leaks.our_processes((MARK, str(runtime.root.parent)))),
        "runtime files": sorted(str(path) for path in Path("/run/pycontainerd").rglob("*")),
        "fds": leaks.open_fds(),
    }


def settles(found, wanted, timeout_s=10) -> bool:
    """Whether a value that the kernel brings down later comes to what it should be."""
    deadline = time.monotonic() + seconds(timeout_s)
    while not wanted(found()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def cycle(runtime, bundle, id="c"):
    runtime.create(bundle.path, id)
    runtime.ok("start", id)
    runtime.ok("kill", id, "KILL")
    runtime.ok("delete", "--force", id)


def test_containers_leave_nothing(runtime, bundle, amount):
    bundle.args("sleep", MARK).build()
    cycle(runtime, bundle)  # what is made once and stays
    before, keys = world(runtime), kernel_keys()
    for _ in range(amount(15, 2000)):
        cycle(runtime, bundle)
    assert world(runtime) == before
    assert settles(kernel_keys, lambda found: found <= keys + 2)


def memory_of(bundle) -> int:
    """Bytes that are charged to the container."""
    name = "memory.usage_in_bytes" if os.path.isdir("/sys/fs/cgroup/memory") else "memory.current"
    folder = "/sys/fs/cgroup/memory" if os.path.isdir("/sys/fs/cgroup/memory") else "/sys/fs/cgroup"
    return int(Path(f"{folder}{bundle.cgroup}/{name}").read_text())


def test_execs_leave_nothing_and_the_container_does_not_grow(runtime, bundle, amount):
    runtime.start_detached(bundle.args("sleep", MARK).build())
    times = amount(15, 2000)
    for _ in range(max(5, times // 10)):
        runtime.ok("exec", "c", "true")
    before, keys, memory = world(runtime), kernel_keys(), memory_of(bundle)
    init_fds = os.listdir(f"/proc/{runtime.pid()}/fd")
    for number in range(times):
        code = number % 7
        assert runtime("exec", "c", "sh", "-c", f"exit {code}").code == code
    assert world(runtime) == before
    assert os.listdir(f"/proc/{runtime.pid()}/fd") == init_fds
    assert settles(kernel_keys, lambda found: found <= keys + 2)
    assert settles(lambda: memory_of(bundle), lambda found: found <= memory + (1 << 20))
    procs = Path(f"/sys/fs/cgroup/pids{bundle.cgroup}/cgroup.procs")
    assert not procs.exists() or procs.read_text().split() == [str(runtime.pid())]
