"""Hooks of all six kinds.

Spec: runtime-spec config.md#posix-platform-hooks; walkthrough S105
"""

from __future__ import annotations

import json
import os
import re

import pytest

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def test_hooks_run_in_order_with_the_state_on_stdin(runtime, bundle, short_tmp):
    log = short_tmp / "log"
    log.mkdir()
    hooks = {}
    for at, kind in enumerate(KINDS):
        if kind == "startContainer":
            continue
        hooks[kind] = [{"path": script(short_tmp / kind, f"cat > {log}/{at}-{kind}\n")}]
    bundle.spec["hooks"] = hooks
    bundle.spec["annotations"] = {"spam": "ham"}
    runtime.create(bundle.args("sleep", "100").build())
    made = sorted(entry.name for entry in log.iterdir())
    assert made[:3] == ["0-prestart", "1-createRuntime", "2-createContainer"]
    runtime.ok("start", "c")
    state = json.loads((log / "4-poststart").read_text())
    assert state["id"] == "c"
    assert state["pid"] == runtime.pid()
    assert state["annotations"] == {"spam": "ham"}
    assert state["bundle"] == str(bundle.path)
    assert json.loads((log / "1-createRuntime").read_text())["status"] == "creating"
    runtime.ok("delete", "--force", "c")
    assert json.loads((log / "5-poststop").read_text())["status"] == "stopped"


def test_start_container_hook_runs_inside(runtime, bundle):
    bundle.spec["hooks"] = {
        "startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", "cat > /state; env > /env"], "env": ["A=b"]}
        ]
    }
    path = bundle.writable().args("cat", "/state", "/env").build()
    done = runtime.run(path)
    assert '"id":"c"' in done.out
    assert "A=b" in done.out


def test_create_container_hook_sees_the_containers_mount_namespace(runtime, bundle, short_tmp):
    text = f"readlink /proc/self/ns/mnt > {short_tmp}/ns\n"
    bundle.spec["hooks"] = {
        "createContainer": [{"path": script(short_tmp / "h", text), "env": ["PATH=/bin:/usr/bin"]}]
    }
    assert runtime.run(bundle.args("true").build()).code == 0
    assert (short_tmp / "ns").read_text().strip() != os.readlink("/proc/self/ns/mnt")


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_fails_create_and_leaves_nothing(runtime, bundle, short_tmp, kind):
    bundle.spec["hooks"] = {kind: [{"path": script(short_tmp / "h", "echo out; echo err >&2; exit 3\n")}]}
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "error running hook #0" in done.err
    assert "exit status 3, stdout: out" in done.err
    assert [entry for entry in runtime.root.iterdir() if entry.is_dir()] == []


def test_a_hook_that_is_not_there_fails(runtime, bundle):
    bundle.spec["hooks"] = {"createRuntime": [{"path": "/nosuch"}]}
    assert "fork/exec /nosuch: no such file or directory" in runtime.run(bundle.build()).err


def test_a_hook_that_takes_too_long_is_killed(runtime, bundle, short_tmp):
    bundle.spec["hooks"] = {
        "createRuntime": [
            {"path": script(short_tmp / "h", "exec sleep 100\n"), "timeout": 1, "env": ["PATH=/bin:/usr/bin"]}
        ]
    }
    assert "hook ran past specified timeout of 1" in runtime.run(bundle.build()).err


def test_failing_poststop_hook_is_only_a_warning(runtime, bundle, short_tmp):
    bundle.spec["hooks"] = {"poststop": [{"path": script(short_tmp / "h", "exit 1\n")}]}
    done = runtime.run(bundle.args("true").build())
    assert done.code == 0
    assert re.search(r'level=\w+ msg="[^"]*hook #0: error running hook: exit status 1', done.err), done.err
