"""NOTIFY_SOCKET: a container says that it is ready, and the host's service manager hears it.

The container's own words are sent into its socket through /proc/PID/root, that is through its mount.

Man: sd_notify(3)
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time

import pytest

from support.patience import seconds
from support.runtime import is_ours, ours_only


class Host:
    """The service manager: a datagram socket, whose messages are read; a barrier's descriptor is closed when read."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(10)

    def message(self) -> bytes:
        data, ancillary, _flags, _address = self._socket.recvmsg(4096, socket.CMSG_SPACE(16))
        for _level, _kind, raw in ancillary:
            os.close(int.from_bytes(raw[:4], "little"))
        return data

    def is_silent(self) -> bool:
        self._socket.setblocking(False)
        try:
            self.message()
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(10)
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def host(short_tmp):
    made = Host(short_tmp / "host")
    yield made
    made.close()


@pytest.fixture
def launch(runtime, host, short_tmp):
    """Starts a command with the host's socket in its environment and doesn't wait for it."""
    started = []

    def launch(*words, path=""):
        with (short_tmp / "out").open("ab") as out:
            process = subprocess.Popen(
                runtime.argv(*words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "NOTIFY_SOCKET": path or host.path},
            )
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def until(found):
    """What `found` gives once it gives something; for ten seconds."""
    deadline = time.monotonic() + seconds(10)
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


@pytest.fixture
def container_socket(runtime):
    """The path of the container's socket through its own root, once somebody listens there."""

    def init() -> int:
        try:
            return int(json.loads((runtime.root / "c/state.json").read_text())["init_process_pid"])
        except FileNotFoundError:
            return 0

    def find() -> str:
        path = f"/proc/{until(init)}/root/run/notify/notify.sock"
        until(lambda: os.path.exists(path) and _listens(path))
        return path

    return find


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(path) == 0


def say(path: str, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(path)
        sender.send(data)


SHOW = "echo $NOTIFY_SOCKET; grep ' /run/notify ' /proc/self/mountinfo; "


def test_run_in_the_foreground_tells_of_itself(launch, runtime, bundle, host, container_socket, short_tmp):
    # The rest of a message is the container's own affair, as is what it says before it is ready.
    running = launch("run", "--bundle", str(bundle.sh(SHOW + "sleep 2; exit 3").build()), "c")
    path = container_socket()
    say(path, b"STATUS=starting")
    say(path, b"READY=1\nSTATUS=there\nMAINPID=7")
    assert host.message() == b"READY=1\n"
    assert host.message() == f"MAINPID={running.pid}\n".encode()
    assert running.wait(10) == 3
    lines = (short_tmp / "out").read_text().splitlines()
    assert lines[0] == "/run/notify/notify.sock"
    assert "ro,nosuid,nodev,noexec" in lines[1]
    assert not (runtime.root / "c").exists()


@pytest.mark.parametrize("ways", [("run",), ("create", "start")])
def test_who_leaves_tells_of_init_and_waits(launch, runtime, bundle, host, container_socket, ways):
    folder = str(bundle.args("sleep", "100").build())
    if ways == ("run",):
        leaving = launch("run", "--detach", "--bundle", folder, "c")
    else:
        assert launch("create", "--bundle", folder, "c").wait(10) == 0
        assert not (runtime.root / "c/notify/notify.sock").exists()
        leaving = launch("start", "c")
    path = container_socket()
    assert os.stat(path).st_mode & 0o777 == 0o777
    assert leaving.poll() is None
    say(path, b"READY=1")
    assert host.message() == b"READY=1\n"
    assert host.message() == f"MAINPID={runtime.pid()}\n".encode()
    if is_ours():  # and runc 1.2 and later
        assert host.message() == b"BARRIER=1"
    assert leaving.wait(10) == 0
    assert runtime.state()["status"] == "running"


def test_a_host_that_is_not_there(launch, runtime, bundle):
    folder = str(bundle.args("sleep", "100").build())
    assert launch("run", "--detach", "--bundle", folder, "c", path="/nobody").wait(10) == 0
    runtime.ok("delete", "--force", "c")
    assert launch("create", "--bundle", folder, "c", path="/nobody").wait(10) == 0
    done = runtime("start", "c", env={"NOTIFY_SOCKET": "/nobody"})
    assert done.code == 1
    assert "dial unixgram /nobody: connect: no such file or directory" in done.err
    assert runtime.state()["status"] == "running"  # too late: it had been started


def test_a_container_made_without_one_is_not_started_with_one(runtime, bundle, host):
    runtime.create(bundle.args("sleep", "100").build())
    done = runtime("start", "c", env={"NOTIFY_SOCKET": host.path})
    assert done.code == 1
    path = runtime.root / "c/notify/notify.sock"
    assert f"listen unixgram {path}: bind: no such file or directory" in done.err
    assert runtime.state()["status"] == "created"


def test_without_one_in_the_environment_of_start_nobody_waits(launch, runtime, bundle, host):
    assert launch("create", "--bundle", str(bundle.args("sleep", "100").build()), "c").wait(10) == 0
    runtime.ok("start", "c")
    assert host.is_silent()


@ours_only("who waits for readiness waits no longer than the container lives")
class TestBetter:
    def test_a_container_that_ends_before_it_is_ready_is_not_waited_for(self, launch, runtime, bundle, host):
        folder = str(bundle.sh("exit 4").build())
        assert launch("run", "--bundle", folder, "c").wait(10) == 4
        assert launch("run", "--detach", "--bundle", folder, "c").wait(10) == 0
        assert host.is_silent()
        runtime.ok("delete", "c")

    def test_lines_have_no_order(self, launch, runtime, bundle, host, container_socket):
        launch("run", "--detach", "--bundle", str(bundle.args("sleep", "100").build()), "c")
        say(container_socket(), b"STATUS=there\nREADY=1")
        assert host.message() == b"READY=1\n"

    def test_signals_go_on_before_it_is_ready(self, launch, bundle, container_socket):
        running = launch(
            "run", "--bundle", str(bundle.sh("trap 'exit 9' TERM; sleep 100 & wait").build()), "c"
        )
        container_socket()
        time.sleep(0.3)
        running.terminate()
        assert running.wait(10) == 9

    def test_an_unprivileged_container(self, launch, bundle, host, container_socket, runtime):
        bundle.with_userns().process["user"] = {"uid": 1000, "gid": 1000}
        launch("run", "--detach", "--bundle", str(bundle.args("sleep", "100").build()), "c")
        say(container_socket(), b"READY=1")
        assert host.message() == b"READY=1\n"
