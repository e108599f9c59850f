"""kill -9 of pyrunc at each call that changes something: `delete --force` then removes whatever is left.

strace counts the calls of a whole command once, then the command is run once for each of them and killed there. With -f a process
of the command has its own count, so that init dies at its calls, too.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import signal
import subprocess
import time

import pytest

from support import leaks
from support.patience import seconds

pytestmark = pytest.mark.requires("strace")

CHANGES = (
    "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "symlink",
    "symlinkat", "link", "linkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "ftruncate", "write", "pwrite64",
    "sendmsg", "sendto", "mount", "umount2", "move_mount", "open_tree", "fsmount", "mount_setattr", "pivot_root", "setns", "unshare",
    "clone", "clone3", "vfork", "execve", "kill", "pidfd_send_signal", "prlimit64", "keyctl", "bpf", "socket", "bind", "fsync",
)  # fmt: skip
MARK = "86399"


def traced(argv, out, *flags):
    """The exit status of a command under strace, which ends with the command and not with what that leaves running."""
    # The tracer is a grandchild (-D), so the status is the command's.
    code = run(["strace", "-I1", "-D", "-f", "-qq", "-o", str(out), *flags, *argv])
    for pid in leaks.our_processes((f"-o {out} ",)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds(5)
    while leaks.our_processes((f"-o {out} ",)):
        assert time.monotonic() < deadline, "strace stays"
        time.sleep(0.005)
    return code


def command(bundle, verb):
    """The words of a verb on container `c`."""
    return {
        "create": ["create", "--bundle", str(bundle.path), "c"],
        "start": ["start", "c"],
        "exec": ["exec", "--detach", "c", "sleep", MARK],
        "delete": ["delete", "--force", "c"],
    }[verb]


def run(argv):
    """Its exit status; nobody holds its streams."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return done.returncode


def prepare(runtime, bundle, verb):
    """The state that a verb starts from."""
    if verb == "start":
        runtime.create(bundle.path)
    elif verb in ("exec", "delete"):
        runtime.start_detached(bundle.path)


def points(runtime, bundle, verb, out):
    """(call, n): every n-th call that some process of the command makes."""
    # The first of its kind also makes the protected interpreter and leaves its modules' bundle, which no later one does again.
    prepare(runtime, bundle, verb)
    assert run(runtime.argv(*command(bundle, verb))) == 0
    runtime("delete", "--force", "c")
    prepare(runtime, bundle, verb)
    tracing = f"trace=?{',?'.join(CHANGES)}"
    assert traced(runtime.argv(*command(bundle, verb)), out, "-e", tracing) == 0
    runtime("delete", "--force", "c")
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for line in out.read_text(errors="replace").splitlines():
        if found := re.match(r"(\d+)\s+(\w+)\(", line):
            counts[found[1], found[2]] += 1
    most: dict[str, int] = {}
    for (_, call), count in counts.items():
        most[call] = max(most.get(call, 0), count)
    return [(call, at) for call, count in sorted(most.items()) for at in range(1, count + 1)]


def left(runtime, bundle):
    """What is still there of the container."""
    found = {"processes": leaks.our_processes((MARK, str(bundle.path), f"{runtime.root}"))}
    found["state"] = [name for name in os.listdir(runtime.root) if not name.startswith(".seccomp")]
    found["cgroups"] = [
        path
        for path, _, _ in os.walk("/sys/fs/cgroup")
        if path.endswith(bundle.cgroup) or f"{bundle.cgroup}/" in path
    ]
    found["mounts"] = [point for point in leaks.mounts() if str(bundle.path.parent) in point]
    return {kind: what for kind, what in found.items() if what}


def wait_nothing_left(runtime, bundle, what):
    deadline = time.monotonic() + seconds(5)
    while found := left(runtime, bundle):
        assert time.monotonic() < deadline, (what, found)
        time.sleep(0.02)


@pytest.mark.parametrize("verb", ["create", "start", "exec", "delete"])
def test_delete_by_force_removes_what_a_kill_leaves(runtime, bundle, short_tmp, amount, verb):
    bundle.args("sleep", MARK).build()
    out = short_tmp / "trace"
    found = points(runtime, bundle, verb, out)
    assert len(found) >= 4, found
    step = amount(max(1, len(found) // 8), 1)
    chosen = found[step // 2 :: step]
    killed = 0
    for call, at in chosen:
        prepare(runtime, bundle, verb)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={at}"]
        code = traced(runtime.argv(*command(bundle, verb)), out, *inject)
        killed += code != 0  # by the signal, or because init was killed
        if verb == "exec":
            assert runtime.state()["status"] == "running", (call, at)
        again = runtime("delete", "--force", "c")
        assert again.code == 0, (call, at, again)
        wait_nothing_left(runtime, bundle, (verb, call, at))
    # Not all: cgroups that are there already need no mkdir, and what a child's death changes comes later.
    assert killed >= 0.7 * len(chosen)
