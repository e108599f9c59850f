"""The main job by every pair of client and daemon: pull, run, exec, kill, delete; the same text and status on both.

What the real client prints on the real daemon is the measure; ids, times and digests of runs are masked.
"""

from __future__ import annotations

import re
import time

import pytest

from support import parity

MASKS = (
    (re.compile(r"elapsed: .*"), "elapsed"),
    (re.compile(r"done: [0-9.]+[a-zµ]+"), "done: TIME"),
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ \t\n\"]*( \+0000 UTC)?"), "TIME"),
    (re.compile(r"(?m)^(\S+)( +)\d+( +)(RUNNING|STOPPED|CREATED)"), r"\1 PID \4"),
    (re.compile(r"Less than a second|\d+ seconds?"), "AGE"),
    (re.compile(r"[ \t]+"), " "),
)


def masked(text: str) -> str:
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    return text


@pytest.fixture(scope="module", params=["our_stack", "real_stack"])
def stack(request, busybox):
    stack = request.getfixturevalue(request.param)
    stack.run("ctr", "image", "pull", "--plain-http", busybox)
    return stack


@pytest.fixture(params=["ctr", "pyctr"])
def client(request):
    return request.param


def wait_for(stack, client: str, id_: str, status: str) -> None:
    deadline = time.monotonic() + 10
    while f"{status}" not in stack.run(client, "tasks", "ls").stdout.partition(id_)[2].partition("\n")[0]:
        assert time.monotonic() < deadline, stack.run(client, "tasks", "ls").stdout
        time.sleep(0.05)


def test_s045_to_s053_pull_prints_and_stores_the_same(our_stack, real_stack, busybox, client):
    outputs = []
    for stack in (our_stack, real_stack):
        stack.run("ctr", "image", "rm", "--sync", busybox, check=False)
        pulled = stack.run(client, "image", "pull", "--plain-http", busybox).stdout
        lines = [line for line in masked(pulled).splitlines() if "done" in line or "unpacking" in line]
        outputs.append(({line.partition(":")[0] for line in lines}, masked(stack.ctr("image", "ls").stdout)))
        assert "elapsed" in masked(pulled)
    # Which lines there are: how often they are drawn again depends on how fast the registry was.
    assert outputs[0] == outputs[1]


def test_s015_run_prints_and_passes_the_exit_status(stack, client, busybox):
    done = stack.run(
        client,
        "run",
        "--rm",
        busybox,
        f"r-{client}",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 42",
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 42)
    assert f"r-{client}" not in stack.ctr("containers", "ls").stdout
    assert f"r-{client}" not in stack.ctr("snapshots", "ls").stdout


def test_s014_unknown_image_is_the_same_error(stack, client):
    done = stack.run(client, "run", "docker.io/library/nosuch:latest", "x", check=False)
    assert done.returncode == 1
    assert done.stderr == 'ctr: image "docker.io/library/nosuch:latest": not found\n'


def test_missing_binary_fails_and_leaves_nothing(stack, client, busybox):
    done = stack.run(client, "run", "--rm", busybox, f"m-{client}", "/nosuch", check=False)
    assert done.returncode == 1
    assert 'exec: "/nosuch": stat /nosuch: no such file or directory' in done.stderr
    assert f"m-{client}" not in stack.ctr("containers", "ls").stdout


def test_s044_detached_exec_kill_and_delete(stack, client, busybox):
    id_ = f"d-{client}"
    stack.run(client, "run", "-d", busybox, id_, "sh", "-c", "trap : TERM; while :; do sleep 0.1; done")
    wait_for(stack, client, id_, "RUNNING")
    done = stack.run(
        client, "tasks", "exec", "--exec-id", "e1", id_, "sh", "-c", "echo in; exit 7", check=False
    )
    assert (done.stdout, done.returncode) == ("in\n", 7)
    stack.run(client, "tasks", "kill", id_)
    time.sleep(0.5)
    wait_for(stack, client, id_, "RUNNING")
    again = stack.run(client, "run", busybox, id_, "true", check=False)
    assert again.returncode == 1
    assert "already exists" in again.stderr
    refused = stack.run(client, "containers", "rm", id_, check=False)
    assert refused.returncode == 1
    assert "cannot delete a non stopped container" in refused.stderr
    stack.run(client, "tasks", "kill", "-s", "KILL", id_)
    wait_for(stack, client, id_, "STOPPED")
    removed = stack.run(client, "tasks", "rm", id_)
    assert f"task {id_} exit with non-zero exit code 137" in removed.stderr
    stack.run(client, "containers", "rm", id_)
    assert id_ not in stack.ctr("snapshots", "ls").stdout


def test_s037_metrics_have_the_same_rows(our_stack, real_stack, busybox, client):
    rows = []
    for stack in (our_stack, real_stack):
        stack.ctr("image", "pull", "--plain-http", busybox)
        id_ = f"me-{client}"
        stack.run(client, "run", "-d", busybox, id_, "sleep", "100")
        out = stack.run(client, "tasks", "metrics", id_).stdout
        rows.append([line.split()[0] for line in out.splitlines() if line.strip()])
        stack.ctr("tasks", "rm", "-f", id_, check=False)
        stack.ctr("containers", "rm", id_)
    assert rows[0] == rows[1]


def test_s054_s055_create_then_start(stack, client, busybox):
    id_ = f"c-{client}"
    stack.run(client, "containers", "create", busybox, id_, "cat", "/etc/hostname-of-nobody")
    assert id_ in stack.ctr("containers", "ls").stdout
    assert id_ not in stack.ctr("tasks", "ls").stdout
    done = stack.run(client, "tasks", "start", id_, check=False)
    assert (done.returncode, "can't open" in done.stderr) == (1, True)
    stack.run(client, "containers", "rm", id_)


def test_s016_to_s036_container_info_is_the_same_document(our_stack, real_stack, busybox):
    import json

    documents = []
    for stack in (our_stack, real_stack):
        stack.ctr("image", "pull", "--plain-http", busybox)
        for client in ("ctr", "pyctr"):
            stack.run(client, "containers", "create", busybox, f"info-{client}", "sh")
            shown = stack.run(client, "containers", "info", f"info-{client}").stdout
            document = json.loads(parity.shown_by_ctr(shown) if client == "ctr" else shown)
            for key in ("ID", "SnapshotKey", "CreatedAt", "UpdatedAt"):
                document[key] = ""
            document["Spec"]["linux"]["cgroupsPath"] = ""
            documents.append(json.dumps(document))
            stack.ctr("containers", "rm", f"info-{client}")
    assert documents[0] == documents[2]  # ctr on ours, ctr on theirs
    assert documents[1] == documents[0]  # pyctr on ours
    assert documents[3] == documents[0]  # pyctr on theirs
