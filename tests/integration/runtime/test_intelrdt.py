"""linux.intelRdt: what it says on a machine without resctrl, and the whole way of a container on a folder that looks like it.

Spec: runtime-spec config-linux.md#intelrdt
"""

from __future__ import annotations

import json
import os
import sys

import pytest

from support.programs import TOP
from support.runtime import Runtime, ours_only

without = pytest.mark.skipif(os.path.exists("/sys/fs/resctrl"), reason="this machine has Intel RDT")
made_up = ours_only("a resctrl that the test has made up")


@without
@pytest.mark.parametrize(
    ("flag", "value", "text"),
    [
        ("--l3-cache-schema", "L3:0=f", "Intel RDT/CAT: l3 cache schema is not enabled"),
        ("--mem-bw-schema", "MB:0=20", "Intel RDT/MBA: memory bandwidth schema is not enabled"),
    ],
)
def test_update_without_resctrl(runtime, bundle, flag, value, text):
    runtime.start_detached(bundle.args("sleep", "100").build())
    done = runtime("update", flag, value, "c")
    assert done.code == 1
    assert text in done.err


@without
def test_a_config_without_resctrl(runtime, bundle):
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=f"}
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "is specified in config, but Intel RDT" in done.err  # 1.5 says it of all of it, 1.1 of this schema
    assert "is not enabled" in done.err
    assert not (runtime.root / "c").exists()


PROGRAM = """#!/bin/sh
exec {python} -c '
import sys
sys.path.insert(0, "{source}")
from pycontainerd.lib.linux import interpreter
from pycontainerd.runtime.libcontainer import intelrdt
interpreter.require_protected = lambda argv: None
intelrdt.find_root = lambda: "{resctrl}"
from pycontainerd.runtime.cli.main import main
sys.exit(main(["pyrunc", *sys.argv[1:]]))
' "$@"
"""


@pytest.fixture
def resctrl(tmp_path):
    folder = tmp_path / "resctrl"
    for name in ("info/L3", "info/MB", "mon_groups"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture
def faked(short_tmp, resctrl):
    """pyrunc, which takes a folder of ours for the mount of resctrl."""
    path = short_tmp / "pyrunc"
    path.write_text(PROGRAM.format(python=sys.executable, source=TOP / "src", resctrl=resctrl))
    path.chmod(0o755)
    made = Runtime(short_tmp / "faked", str(path))
    yield made
    for entry in (resctrl / "c").glob("*"):
        entry.unlink()
    made.clean()


def clear(folder):
    """On a real mount a group can be removed with its files."""
    for entry in folder.iterdir():
        entry.unlink()


@made_up
def test_the_way_of_a_container(faked, bundle, resctrl):
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=f", "schemata": ["L2:0=1"]}
    faked.create(bundle.args("sleep", "100").build())
    pid = faked.pid()
    assert (resctrl / "c/tasks").read_text() == str(pid)
    assert (resctrl / "c/schemata").read_text() == "L3:0=f\nL2:0=1\n"
    stored = json.loads((faked.root / "c/state.json").read_text())
    assert stored["intel_rdt_path"] == str(resctrl / "c")
    faked.ok("start", "c")
    faked.ok("exec", "c", "true")
    assert (resctrl / "c/tasks").read_text() != str(pid)
    faked.ok("update", "--l3-cache-schema", "L3:0=3", "--mem-bw-schema", "MB:0=20", "c")
    assert (resctrl / "c/schemata").read_text() == "L3:0=3\nMB:0=20\nL2:0=1\n"
    assert faked.state()["status"] == "running"
    clear(resctrl / "c")
    faked.ok("delete", "--force", "c")
    assert not (resctrl / "c").exists()


@made_up
def test_a_group_that_must_be_there_and_is_not(faked, bundle, resctrl):
    bundle.linux["intelRdt"] = {"closID": "gold"}
    done = faked.run(bundle.build())
    assert done.code == 1
    assert "unable to apply Intel RDT configuration: clos dir not accessible" in done.err
    assert not (faked.root / "c").exists()
    assert not (resctrl / "gold").exists()


@made_up
def test_a_container_without_a_group_has_none_to_update(faked, bundle):
    faked.start_detached(bundle.args("sleep", "100").build())
    done = faked("update", "--mem-bw-schema", "MB:0=20", "c")
    assert done.code == 1
    assert "updating a non-existent Intel RDT configuration is not supported" in done.err
