"""checkpoint and restore: every flag of runc is known, the answer is one error, and nothing is touched.

What runc refuses before it asks criu (a container that isn't there, isn't running) is the same on both.
"""

from __future__ import annotations

import json
import re

import pytest

from support.programs import peer
from support.runtime import Runtime, ours_only

refused = ours_only("checkpoint and restore are refused")


@pytest.mark.parametrize("command", ["checkpoint", "restore"])
def test_every_flag_of_runc_is_known(runtime, tmp_path, command):
    runc = Runtime(tmp_path / "other", peer("runc"))
    wanted = set(re.findall(r"^   (--[a-z-]+(?: value)?)", runc.ok(command, "--help").out, re.MULTILINE))
    assert len(wanted) > 10
    assert wanted <= set(
        re.findall(r"^   (--[a-z-]+(?: value)?)", runtime.ok(command, "--help").out, re.MULTILINE)
    )


def test_checkpoint_of_nothing(runtime):
    done = runtime("checkpoint", "none")
    assert done.code == 1
    assert "container does not exist" in done.err


def test_checkpoint_of_a_created_container(runtime, bundle, tmp_path):
    runtime.create(bundle.args("true").build())
    done = runtime("checkpoint", "--image-path", str(tmp_path / "image"), "c")
    assert done.code == 1
    assert "Container cannot be checkpointed in created state" in done.err


@refused
def test_checkpoint_of_a_running_container_leaves_it_alone(runtime, bundle, tmp_path):
    runtime.start_detached(bundle.args("sleep", "100").build())
    before = runtime.state()
    image = tmp_path / "image"
    flags = ("--image-path", str(image), "--work-path", str(image), "--leave-running", "--status-fd", "7")
    log = tmp_path / "log"
    done = runtime(
        "--criu", "/bin/false", "--log", str(log), "--log-format", "json", "checkpoint", *flags, "c"
    )
    assert (done.code, done.out) == (1, "")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["level"] for line in lines] == ["error"]
    assert "does not run criu" in lines[0]["msg"]
    assert runtime.state() == before
    assert not image.exists()


@refused
def test_restore_makes_nothing(runtime, bundle, tmp_path):
    flags = ("--detach", "--image-path", str(tmp_path / "image"), "--manage-cgroups-mode", "ignore")
    done = runtime("restore", "--bundle", str(bundle.args("true").build()), *flags, "c")
    assert (done.code, done.out) == (1, "")
    assert "does not run criu" in done.err
    assert not (runtime.root / "c").exists()
    assert not (tmp_path / "image").exists()
