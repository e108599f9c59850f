"""Seccomp filters.

Spec: runtime-spec config-linux.md#seccomp; security D1
"""

from __future__ import annotations

import json
import os
import socket
import threading

import pytest

from support.runtime import ours_only

DENY_MKDIR = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]


def profile(syscalls, default="SCMP_ACT_ALLOW", **more):
    return {
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": syscalls,
        **more,
    }


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_a_denied_call_fails_with_eperm(runtime, bundle, no_new_privs):
    bundle.process["noNewPrivileges"] = no_new_privs
    bundle.linux["seccomp"] = profile(DENY_MKDIR)
    done = runtime.run(bundle.sh("grep ^Seccomp: /proc/self/status; mkdir /dev/x").build())
    assert done.out.split() == ["Seccomp:", "2"]
    assert "Operation not permitted" in done.err


def test_errno_of_a_rule(runtime, bundle):
    bundle.linux["seccomp"] = profile([{**DENY_MKDIR[0], "errnoRet": 95}])
    assert "not supported" in runtime.run(bundle.args("mkdir", "/dev/x").build()).err


def test_kill(runtime, bundle):
    bundle.linux["seccomp"] = profile([{**DENY_MKDIR[0], "action": "SCMP_ACT_KILL_PROCESS"}])
    assert runtime.run(bundle.args("mkdir", "/dev/x").build()).code == 159


def test_argument_conditions(runtime, bundle):
    rule = {
        "names": ["kill"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 95,
        "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}],
    }
    bundle.linux["seccomp"] = profile([rule])
    done = runtime.run(bundle.sh("kill -0 $$ && echo zero; kill -10 $$").build())
    assert done.out == "zero\n"
    assert "not supported" in done.err


def test_names_that_nobody_knows_are_ignored(runtime, bundle):
    bundle.linux["seccomp"] = profile([{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}])
    assert runtime.run(bundle.args("true").build()).code == 0


@pytest.mark.parametrize(
    "broken",
    [
        {"defaultAction": "SCMP_ACT_NOPE"},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOPE"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "nope"}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["NOPE"]},
    ],
)
def test_a_broken_profile_fails_create(runtime, bundle, broken):
    bundle.linux["seccomp"] = broken
    assert runtime.run(bundle.args("true").build()).code == 1


@ours_only("compiled seccomp filters are kept in the root, as .seccomp-DIGEST.bpf")
def test_the_compiled_filter_is_cached(runtime, bundle):
    bundle.linux["seccomp"] = profile(DENY_MKDIR)
    path = bundle.args("mkdir", "/dev/x").build()
    first = runtime.run(path)
    (cached,) = runtime.root.glob(".seccomp-*.bpf")
    stamp = cached.stat().st_mtime_ns
    assert runtime.run(path).err == first.err
    assert cached.stat().st_mtime_ns == stamp
    assert cached.stat().st_mode & 0o077 == 0


def received(connection: socket.socket) -> tuple[dict, list[int]]:
    """What an agent gets: the container-process-state and its descriptors."""
    data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
    return json.loads(data), fds


def test_a_listener_gets_the_filter_and_the_state(runtime, bundle, short_tmp):
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(short_tmp / "agent"))
        agent.listen()
        agent.settimeout(20)
        bundle.linux["seccomp"] = profile(
            [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
            listenerPath=str(short_tmp / "agent"),
            listenerMetadata="mine",
        )
        runtime.create(bundle.sh("mkdir /dev/x 2>/dev/error; cat /dev/error > /out").writable().build())
        starting = threading.Thread(target=lambda: runtime("start", "c"))
        starting.start()
        connection, _ = agent.accept()
        with connection:
            state, fds = received(connection)
        starting.join()
    assert state["metadata"] == "mine"
    assert state["fds"] == ["seccompFd"]
    assert state["pid"] == runtime.pid()
    assert (state["state"]["id"], state["state"]["bundle"]) == ("c", str(bundle.path))
    (notify,) = fds
    assert os.readlink(f"/proc/self/fd/{notify}") == "anon_inode:seccomp notify"
    os.close(notify)  # with nobody to ask the call doesn't exist
    runtime.wait_status("stopped")
    assert "not implemented" in (bundle.rootfs / "out").read_text()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "SCMP_ACT_NOTIFY cannot be used as default action"),
        (
            {"syscalls": [{"names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY"}]},
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
    ],
)
def test_what_no_agent_may_be_asked_for(runtime, bundle, fields, text):
    bundle.linux["seccomp"] = profile([], listenerPath="/nonexistent") | fields
    done = runtime.run(bundle.args("true").build())
    assert done.code == 1
    assert text in done.err


def test_a_listener_that_nothing_is_asked_is_not_called(runtime, bundle):
    bundle.linux["seccomp"] = profile([], listenerPath="/nonexistent")
    assert runtime.run(bundle.args("true").build()).code == 0
