"""User namespaces: joined by path, with namespaces of their own made in them.

Spec: runtime-spec config-linux.md#namespaces
"""

from __future__ import annotations

import os

import pytest

from support.runtime import ours_only

pytestmark = pytest.mark.requires("root", "userns")


@pytest.fixture
def other(runtime, bundle):
    """The pid of a container whose user namespace is joined; the bundle is for the second one then."""
    bundle.with_userns().args("sleep", "100")
    runtime.start_detached(bundle.build(), "first")
    pid = runtime.pid("first")
    # With its mappings, which runc 1.1 wants to be told.
    bundle.with_namespace("user", f"/proc/{pid}/ns/user")
    bundle.linux["cgroupsPath"] += "-second"
    return pid


SHOW = "for n in ipc net pid user uts; do readlink /proc/self/ns/$n; done; echo $$; cat /proc/self/uid_map"


def test_new_namespaces_in_a_joined_user_namespace(runtime, bundle, other):
    done = runtime.run(bundle.sh(SHOW).build())
    assert done.code == 0, done
    lines = done.out.splitlines()
    joined = os.readlink(f"/proc/{other}/ns/user")
    theirs = {os.readlink(f"/proc/{other}/ns/{name}") for name in ("ipc", "net", "pid", "uts")}
    assert lines[3] == joined
    assert not theirs & set(lines)
    assert lines[5] == "1"  # init of its own pid namespace
    assert lines[6].split() == ["0", "100000", "65536"]


@ours_only("what is made in a joined user namespace belongs to its root")
def test_what_is_made_in_it_belongs_to_its_root(runtime, bundle, other):
    done = runtime.run(bundle.args("stat", "-c", "%u", "/dev/mqueue").build())
    assert done.out == "0\n", done


def test_what_is_made_in_a_new_one_belongs_to_its_root(runtime, bundle):
    done = runtime.run(bundle.with_userns().args("stat", "-c", "%u", "/dev/mqueue").build())
    assert done.out == "0\n", done


def test_it_can_be_created_started_entered_and_killed(runtime, bundle, other, short_tmp):
    pid_file = short_tmp / "pid"
    runtime.create(bundle.args("sleep", "100").build(), "c", "--pid-file", str(pid_file))
    assert int(pid_file.read_text()) == runtime.pid()
    runtime.ok("start", "c")
    assert runtime.ok("exec", "c", "sh", "-c", "cat /proc/1/comm").out == "sleep\n"
    with open(f"/proc/{runtime.pid()}/status") as file:
        assert "\nNSpid:\t" in (status := file.read())
    assert status.split("NSpid:")[1].split()[1] == "1"
    runtime.ok("kill", "c", "KILL")
    runtime.wait_status("stopped")
    runtime.ok("delete", "c")


def test_a_mount_of_proc_shows_its_own_processes_only(runtime, bundle, other):
    done = runtime.run(bundle.sh("ps | wc -l").build())
    assert int(done.out) <= 4, done


def test_an_error_of_init_comes_back(runtime, bundle, other):
    done = runtime.run(bundle.args("nosuch").build())
    assert done.code == 1
    assert "executable file not found in $PATH" in done.err
    assert "first" in runtime.ok("list", "-q").out.split()


@ours_only("time namespaces")
def test_time_offsets_with_a_joined_user_namespace(runtime, bundle, other):
    if not os.path.exists("/proc/self/timens_offsets"):
        pytest.skip("needs time namespaces")
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1000000}}
    done = runtime.run(bundle.args("cat", "/proc/uptime").build())
    assert float(done.out.split()[0]) > 1000000, done
