"""state, list, ps and state.json, each read by the real runc as well.

Spec: runc state.json; walkthrough S092 S093 S094
"""

from __future__ import annotations

import json
import stat

import pytest

from support.programs import peer
from support.runtime import Runtime, is_ours


@pytest.fixture
def other(runtime):
    """The other runtime on the same root: runc for pyrunc, pyrunc for runc."""
    from support.programs import ours

    return Runtime(runtime.root, peer("runc") if is_ours() else ours("pyrunc"))


def test_state_has_runcs_fields(runtime, bundle):
    runtime.create(bundle.build())
    found = runtime.state()
    assert list(found) == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]
    assert found["bundle"] == str(bundle.path)
    assert found["rootfs"] == str(bundle.rootfs)


def test_state_of_the_other_runtime_is_the_same(runtime, other, bundle):
    runtime.create(bundle.build())
    assert other.ok("state", "c").out == runtime.ok("state", "c").out
    assert other.ok("list").out == runtime.ok("list").out
    assert other.ok("list", "--format", "json").out == runtime.ok("list", "--format", "json").out


def test_the_other_runtime_starts_execs_pauses_kills_and_deletes(runtime, other, bundle):
    runtime.create(bundle.args("sleep", "100").build())
    other.ok("start", "c")
    assert other.ok("exec", "c", "echo", "hi").out == "hi\n"
    other.ok("pause", "c")
    assert runtime.state()["status"] == "paused"
    other.ok("resume", "c")
    other.ok("update", "--pids-limit", "20", "c")
    assert json.loads(other.ok("ps", "--format", "json", "c").out) == [runtime.pid()]
    other.ok("kill", "c", "KILL")
    runtime.wait_status("stopped")
    other.ok("delete", "c")
    assert "container does not exist" in runtime("state", "c").err


def test_the_other_runtime_applies_our_stored_filter_and_hooks(runtime, other, bundle, short_tmp):
    hook = short_tmp / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {short_tmp}/ran\n")
    hook.chmod(0o755)
    bundle.spec["hooks"] = {"poststop": [{"path": str(hook), "env": ["PATH=/bin:/usr/bin"]}]}
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    runtime.start_detached(bundle.args("sleep", "100").build())
    assert "not supported" in other("exec", "c", "mkdir", "/dev/x").err
    other.ok("delete", "--force", "c")
    assert (short_tmp / "ran").exists()


def test_the_folder_and_the_fifo_have_runcs_modes(runtime, bundle):
    runtime.create(bundle.build())
    folder = runtime.root / "c"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    assert stat.S_IMODE((folder / "exec.fifo").stat().st_mode) == 0o622
    assert stat.S_IMODE((folder / "state.json").stat().st_mode) == 0o600
    runtime.ok("start", "c")
    assert sorted(entry.name for entry in folder.iterdir()) == ["state.json"]


def test_annotations_are_in_the_state(runtime, bundle):
    bundle.spec["annotations"] = {"a": "b=c"}
    runtime.create(bundle.build())
    assert runtime.state()["annotations"] == {"a": "b=c"}


def test_state_of_nobody_fails(runtime):
    done = runtime("state", "nope")
    assert done.code == 1
    assert "container does not exist" in done.err


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"config": 5}'])
def test_a_state_that_is_damaged_is_said_to_be(runtime, bundle, text):
    runtime.start_detached(bundle.args("sleep", "100").build())
    file = runtime.root / "c/state.json"
    whole = file.read_text()
    try:
        file.write_text(text)
        done = runtime("state", "c")
        listed = runtime("list")
    finally:
        file.write_text(whole)
    assert done.code == 1
    assert done.err.startswith('time="')
    assert (listed.code, listed.out.count("\n")) == (0, 1)
    assert "load container c: " in listed.err
