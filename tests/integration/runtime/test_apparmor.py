"""AppArmor profiles of containers and of execs, loaded into the kernel for the test.

Spec: runtime-spec config.md#linux-process; runc exec --apparmor
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.programs import TOP

pytestmark = pytest.mark.requires("apparmor")
PARSER = TOP / ".peers/vm/root/sbin/apparmor_parser"
RULES = "  file,\n  capability,\n  mount,\n  pivot_root,\n  signal,\n  unix,\n"


@pytest.fixture
def profile(short_tmp):
    """The name of a loaded profile under which /etc/passwd can't be read."""
    name = f"pyrunc-{os.getpid()}"
    text = f"profile {name} flags=(attach_disconnected) {{\n{RULES}  deny /etc/passwd r,\n}}\n"
    path = short_tmp / "profile"
    path.write_text(text)
    options = ["--skip-cache", "--base", "/etc", "--config-file", "/dev/null"]
    subprocess.run([PARSER, *options, "--replace", path], check=True)
    yield name
    subprocess.run([PARSER, *options, "--remove", path], check=True)


def test_init_is_confined(runtime, bundle, profile):
    bundle.process["apparmorProfile"] = profile
    script = "cat /proc/self/attr/current; cat /etc/group >/dev/null && echo readable; cat /etc/passwd"
    done = runtime.run(bundle.sh(script).build())
    assert done.out.splitlines() == [f"{profile} (enforce)", "readable"], done
    assert "Permission denied" in done.err


def test_an_exec_is_confined_as_init_or_as_it_says(runtime, bundle, profile):
    runtime.start_detached(bundle.args("sleep", "100").build())
    label = ("cat", "/proc/self/attr/current")
    assert runtime.ok("exec", "c", *label).out == "unconfined\n"
    assert runtime.ok("exec", "--apparmor", profile, "c", *label).out == f"{profile} (enforce)\n"
    assert runtime("exec", "--apparmor", profile, "c", "cat", "/etc/passwd").code != 0
    bundle.process["apparmorProfile"] = profile
    bundle.linux["cgroupsPath"] += "-second"
    runtime.start_detached(bundle.build(), "second")
    assert Path(f"/proc/{runtime.pid('second')}/attr/current").read_text() == f"{profile} (enforce)\n"
    assert runtime.ok("exec", "second", *label).out == f"{profile} (enforce)\n"


def test_a_profile_that_is_not_loaded_fails(runtime, bundle):
    bundle.process["apparmorProfile"] = "no-such-profile"
    done = runtime.run(bundle.args("true").build())
    assert done.code == 1
    words = "apparmor failed to apply profile: write /proc/self/attr/apparmor/exec: no such file or directory"
    assert f"unable to apply apparmor profile: {words}" in done.err
    assert not (runtime.root / "c").exists()
    del bundle.process["apparmorProfile"]
    runtime.start_detached(bundle.args("sleep", "100").build())
    done = runtime("exec", "--apparmor", "no-such-profile", "c", "true")
    assert done.code == 255
    assert f"unable to start container process: {words}" in done.err
