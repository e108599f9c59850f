"""Rule 9: between pivot_root (or setns) and execve nothing is loaded, and only the allow-listed calls are made.

The rootfs holds a hostile Python library and NSS files, so that any lookup there would be seen twice: in the trace, and
by what it does.
"""

from __future__ import annotations

import subprocess

import pytest

from support.runtime import ours_only

pytestmark = [
    pytest.mark.requires("strace"),
    ours_only("the prepared list is of this program"),
]

# What the operations of init.program are made of, and what the C library and the interpreter do between them.
PREPARED = {
    "fchdir", "pivot_root", "mount", "umount2", "chdir", "umask", "prctl", "capset", "setgroups", "setresgid",
    "setresuid", "setgid", "setuid", "getcwd", "stat", "newfstatat", "sendto", "sendmsg", "write", "read", "recvfrom",
    "close", "openat", "close_range", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "seccomp", "execve",
}  # fmt: skip
INTERPRETER = {"mmap", "munmap", "brk", "madvise", "mremap", "futex", "gettid", "getpid", "rt_sigtimedwait"}
SCHEDULING = {"sched_setattr", "ioprio_set", "set_mempolicy", "sched_setaffinity"}
EXEC_ONLY = {"ioctl", "dup2", "dup3", "fstat", "fchown", "setns", "setsid", "keyctl"}


def hostile(rootfs):
    """Every place that an interpreter inside this root might look at."""
    for folder in ("usr/lib/python3.11/encodings", "usr/lib/python3", "usr/lib/x86_64-linux-gnu", "lib"):
        (rootfs / folder).mkdir(parents=True, exist_ok=True)
    evil = "import os\nos.system('touch /evil')\nraise SystemExit(99)\n"
    for name in ("json", "encodings/idna", "encodings/cp1252", "traceback", "linecache", "os", "signal"):
        (rootfs / f"usr/lib/python3.11/{name}.py").write_text(evil)
    (rootfs / "etc/nsswitch.conf").write_text("passwd: evil\n")


def trace(runtime, short_tmp, *words):
    out = short_tmp / "trace"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-s", "200", "-o", str(out), *runtime.argv(*words)],
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done, out.read_text(errors="replace").splitlines()


def between(lines, begins, ends):
    """Calls of the one process that makes `begins`, from there to its `ends`."""
    found, pid = [], ""
    for line in lines:
        who, _, call = line.partition(" ")
        call = call.strip()
        if not pid and call.startswith(begins):
            pid = who
        if pid == who:
            if call.startswith(ends):
                found.append(call)
                return found
            if not call.startswith(("<...", "+++", "---")):
                found.append(call)
    raise AssertionError(f"no {ends} after {begins}")


def joining(lines):
    """Calls of the process that an exec becomes: it is born with the container's root, so the first one counts already."""
    *_, last = [line for line in lines if " execve(" in line]
    who = last.split()[0]
    calls = [line.partition(" ")[2].strip() for line in lines if line.split()[0] == who]
    calls = [call for call in calls if not call.startswith(("<...", "+++", "---"))]
    return calls[: 1 + next(index for index, call in enumerate(calls) if call.startswith("execve("))]


def opened(calls):
    return [call for call in calls if call.startswith(("open(", "openat(", "openat2("))]


def names(calls):
    return {call.split("(")[0] for call in calls}


def test_run_opens_only_the_exec_fifo_after_pivot_root(runtime, bundle, short_tmp):
    hostile(bundle.rootfs)
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    done, lines = trace(
        runtime, short_tmp, "run", "--bundle", str(bundle.writable().args("true").build()), "c"
    )
    assert done.returncode == 0, done
    calls = between(lines, "pivot_root(", "execve(")
    (fifo,) = opened(calls)
    assert "self/fd/" in fifo
    assert names(calls) - PREPARED - INTERPRETER == set()
    assert not (bundle.rootfs / "evil").exists()


def test_with_a_filter_only_execve_follows_it(runtime, bundle, short_tmp):
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mseal"], "action": "SCMP_ACT_ERRNO"}],
    }
    _done, lines = trace(runtime, short_tmp, "run", "--bundle", str(bundle.args("true").build()), "c")
    calls = between(lines, "pivot_root(", "execve(")
    at = next(index for index, call in enumerate(calls) if call.startswith("seccomp("))
    assert names(calls[at + 1 :]) <= {"execve", "brk", "munmap", "mmap"}


def test_a_failing_init_opens_nothing_either(runtime, bundle, short_tmp):
    hostile(bundle.rootfs)
    done, lines = trace(
        runtime, short_tmp, "run", "--bundle", str(bundle.writable().args("nosuch").build()), "c"
    )
    assert "executable file not found" in done.stderr
    calls = between(lines, "pivot_root(", ("exit_group(", "+++ killed"))  # the parent may be quicker
    assert opened(calls) == []
    assert not (bundle.rootfs / "evil").exists()


def test_exec_opens_nothing_after_setns(runtime, bundle, short_tmp):
    hostile(bundle.rootfs)
    runtime.start_detached(bundle.writable().args("sleep", "100").build())
    done, lines = trace(runtime, short_tmp, "exec", "--user", "1000:1000", "c", "true")
    assert done.returncode == 0, done
    calls = joining(lines)
    assert not any("CLONE_NEWNS" in call for call in calls if call.startswith("setns("))
    assert opened(calls) == []
    assert names(calls) - PREPARED - INTERPRETER - EXEC_ONLY == set()
    assert not (bundle.rootfs / "evil").exists()


def test_start_container_hooks_open_nothing(runtime, bundle, short_tmp):
    hostile(bundle.rootfs)
    bundle.spec["hooks"] = {"startContainer": [{"path": "/bin/true"}]}
    done, lines = trace(
        runtime, short_tmp, "run", "--bundle", str(bundle.writable().args("true").build()), "c"
    )
    assert done.returncode == 0, done
    calls = between(lines, "pivot_root(", "execve(")
    assert [call for call in opened(calls) if "self/fd/" not in call] == []


def test_scheduling_opens_nothing(runtime, bundle, short_tmp):
    hostile(bundle.rootfs)
    bundle.process.update(
        scheduler={"policy": "SCHED_BATCH"},
        ioPriority={"class": "IOPRIO_CLASS_IDLE"},
        execCPUAffinity={"final": "0"},
    )
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_PREFERRED", "nodes": "0"}
    done, lines = trace(
        runtime, short_tmp, "run", "--bundle", str(bundle.writable().args("true").build()), "c"
    )
    assert done.returncode == 0, done
    calls = between(lines, "pivot_root(", "execve(")
    assert SCHEDULING - names(calls) == {"sched_setaffinity"}  # which is for execs
    assert len(opened(calls)) == 1
    assert names(calls) - PREPARED - INTERPRETER - SCHEDULING == set()
    runtime.start_detached(bundle.args("sleep", "100").build())
    done, lines = trace(runtime, short_tmp, "exec", "c", "true")
    assert done.returncode == 0, done
    calls = joining(lines)
    assert names(calls) >= SCHEDULING
    assert opened(calls) == []
    assert names(calls) - PREPARED - INTERPRETER - EXEC_ONLY - SCHEDULING == set()
