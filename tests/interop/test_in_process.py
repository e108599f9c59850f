"""A daemon inside the caller's process: what it leaves alone, how it ends, and that nobody can tell it from one of its own.

What the client does with it, `test_python_client.py` shows on the same tests as for other daemons.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pycontainerd.client import Containerd
from pycontainerd.client.client import Client
from pycontainerd.embedded import Daemon, in_process
from pycontainerd.lib.api.light import (
    containers_v1,
    content_v1,
    events_v1,
    images_v1,
    leases_v1,
    namespaces_v1,
    snapshots_v1,
    tasks_v1,
)
from pycontainerd.lib.errdefs import (
    AlreadyExists,
    ContainerdError,
    DeadlineExceeded,
    InvalidArgument,
    Unavailable,
)
from support import leaks, patience
from support.daemons import process_running
from support.programs import BIN, ours, peer_environment

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]
SRC = Path(__file__).parents[2] / "src"
FORKS = []
os.register_at_fork(before=lambda: FORKS.append(threading.current_thread().name))


@pytest.fixture
def folders(short_tmp):
    """(root, state); the containers that a test has left there go with them."""
    root, state = f"{short_tmp}/r", f"{short_tmp}/s"
    yield root, state
    if os.path.exists(root):
        with in_process(root, state) as containerd:
            for container in containerd.containers.list():
                container.delete(force=True)


def resources():
    """What a daemon in this process could leave behind in it."""
    threads = sorted(thread.name for thread in threading.enumerate())
    return threads, leaks.open_fds().keys(), leaks.children()


def settled(look, wanted, timeout_s=10):
    """What `look` gives, once that is what is wanted or the time is over."""
    deadline = time.monotonic() + patience.seconds(timeout_s)
    while (found := look()) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_it_leaves_no_thread_no_descriptor_and_no_process(folders, busybox):
    with in_process(*folders) as containerd:
        containerd.images.pull(busybox)  # what Python itself keeps open for ever is opened by now
    before = resources()
    for _ in range(2):
        with in_process(*folders) as containerd, containerd.another() as other:
            with containerd.run(busybox, ["echo", "hello"]) as task:
                assert task.communicate()[0] == b"hello\n"
            assert [image.name for image in other.images.list()] == [busybox]
        assert settled(resources, before) == before


def test_it_changes_nothing_of_the_process_around_it_and_never_forks_it(folders, busybox):
    def state():
        handlers = [signal.getsignal(number) for number in range(1, 32)]
        status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
        kept = {key: status[key] for key in ("Umask", "SigBlk", "SigIgn", "SigCgt")}
        limits = Path("/proc/self/limits").read_text()
        score = Path("/proc/self/oom_score_adj").read_text()
        return dict(os.environ), handlers, kept, limits, score, os.getcwd(), signal.set_wakeup_fd(-1)

    before = state()
    FORKS.clear()
    with in_process(*folders) as containerd:
        containerd.images.pull(busybox)
        assert state() == before
        with containerd.run(busybox, ["true"], id="c") as task:
            assert task.wait(timeout_s=20) == 0
            assert state() == before
    assert state() == before
    assert FORKS == []


def test_a_shim_is_what_it_is_everywhere_and_nobody_here_is_its_parent(folders, busybox):
    with in_process(*folders) as containerd:
        containerd.images.pull(busybox)
        deadline = time.monotonic() + patience.seconds(10)
        while "pycontainerd-fo" not in map(leaks.title, leaks.children()) and time.monotonic() < deadline:
            time.sleep(0.02)
        with containerd.run(busybox, ["sleep", "1000"], id="c", pipes=False) as task:
            shim = int(Path(f"/proc/{task.pid}/stat").read_text().rpartition(")")[2].split()[1])
            assert shim not in leaks.children()
            command = Path(f"/proc/{shim}/cmdline").read_bytes().decode().split("\0")
            address = f"{folders[1]}/pycontainerd.sock"
            assert command[:-1] == [
                *(f"{BIN}/containerd-shim-pyrunc-v2", "-namespace", "default", "-id", "c"),
                *("-address", address),
            ]
    log = Path(f"{folders[1]}/pycontainerd.log")
    assert "starting signal loop" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("after", ["it runs", "it was killed"])
def test_a_container_outlives_it_and_the_next_daemon_finds_it(folders, busybox, after):
    with in_process(*folders) as containerd:
        containerd.images.pull(busybox)
        container = containerd.containers.create(busybox, ["sleep", "1000"], id="kept")
        with contextlib.closing(container.start(pipes=False)) as task:
            pid = task.pid
    assert process_running(pid)
    if after == "it was killed":
        os.kill(pid, signal.SIGKILL)
        assert not settled(lambda: process_running(pid), False)
    with in_process(*folders) as containerd:
        found = containerd.containers.get("kept")
        task = found.task()
        assert (task.pid, task.status) == (pid, "running" if after == "it runs" else "stopped")
        if after == "it runs":
            task.kill("KILL")
        assert task.wait(timeout_s=20) == 137
        task.close()
        found.delete(force=True)
        assert containerd.containers.list() == []
    assert not process_running(pid)


def test_folders_have_one_daemon_whichever_kind_it_is(folders, short_tmp):
    root, state = folders
    program = [ours("pycontainerd"), "--root", root, "--state", state, "--address", f"{short_tmp}/c.sock"]
    before = resources()
    with Daemon(root, state):
        with pytest.raises(
            AlreadyExists, match=rf"another daemon \(pid {os.getpid()}\) is using --root {root}"
        ):
            Daemon(root, f"{state}2")
        with pytest.raises(AlreadyExists, match=f"--state {state}"):
            Daemon(f"{root}2", state)
        done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 1
        assert f"another daemon (pid {os.getpid()}) is using --root {root}" in done.stderr
    assert settled(resources, before) == before
    with Daemon(root, state):  # and it was given back
        pass


def test_programs_beside_see_it_by_the_socket_in_its_state_and_by_the_one_it_was_given(
    folders, busybox, short_tmp
):
    def ask(address, *arguments):
        argv = [ours("pyctr"), "-a", address, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout

    inner, given = f"{folders[1]}/pycontainerd.sock", f"{short_tmp}/given.sock"
    with in_process(*folders, namespace="scripts") as containerd:
        containerd.images.pull(busybox)
        assert ask(inner, "-n", "scripts", "image", "ls", "-q") == f"{busybox}\n"
        assert [os.path.exists(path) for path in (inner, f"{inner}.ttrpc")] == [False, True]
        assert os.stat(f"{inner}.ttrpc").st_mode & 0o777 == 0o660
    with in_process(*folders, address=given), Client(given, "scripts", kind="grpc") as client:
        names = client.call(images_v1.IMAGES, "List", images_v1.ListImagesRequest()).images
        assert [image.name for image in names] == [busybox]
    assert not [path for path in (f"{inner}.ttrpc", given, f"{given}.ttrpc") if os.path.exists(path)]


def test_calls_end_when_it_is_closed_under_them(folders):
    daemon = Daemon(*folders)
    containerd = daemon.containerd()
    waiting = daemon.containerd()
    ends = []

    def wait_for_an_event():
        with waiting.events() as events:
            started.set()
            try:
                next(iter(events))
            except ContainerdError as error:
                ends.append(error)

    started = threading.Event()
    thread = threading.Thread(target=wait_for_an_event)
    thread.start()
    assert started.wait(20)
    daemon.close()
    thread.join(20)
    assert [type(error) for error in ends] == [Unavailable]
    with pytest.raises(Unavailable):
        containerd.version()
    with pytest.raises(Unavailable, match="has stopped"):
        containerd.another()
    daemon.close()
    for client in (containerd, waiting):
        client.client.close()


def test_a_call_has_a_deadline_and_a_client_that_closes_ends_its_calls(folders, busybox):
    with Daemon(*folders) as daemon, daemon.containerd() as containerd:
        containerd.images.pull(busybox)
        with containerd.run(busybox, ["sleep", "1000"], id="c", pipes=False) as task:
            wait = tasks_v1.WaitRequest(container_id="c")
            with pytest.raises(DeadlineExceeded):
                containerd.client.call(tasks_v1.TASKS, "Wait", wait, timeout_s=0.2)
            other = containerd.another()
            reply = other.client.start(tasks_v1.TASKS, "Wait", wait)
            other.client.close()
            with pytest.raises(Unavailable):
                reply.result()
            assert task.status == "running"


def test_clients_in_several_threads_run_side_by_side(folders, busybox):
    results = {}

    def job(number, containerd):
        with containerd, containerd.run(busybox, ["cat"], id=f"c{number}") as task:
            results[number] = task.communicate(b"%d" % number * 100_000, timeout_s=60)[0]

    with in_process(*folders) as containerd:
        containerd.images.pull(busybox)
        threads = [threading.Thread(target=job, args=(n, containerd.another())) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert containerd.containers.list() == []
    assert results == {n: b"%d" % n * 100_000 for n in range(4)}


BAD_CALLS = (
    (containers_v1.CONTAINERS, "Get", containers_v1.GetContainerRequest(id="nobody")),
    (containers_v1.CONTAINERS, "Create", containers_v1.CreateContainerRequest()),
    (containers_v1.CONTAINERS, "List", containers_v1.ListContainersRequest(filters=["((("])),
    (content_v1.CONTENT, "Info", content_v1.InfoRequest(digest="sha256:beef")),
    (images_v1.IMAGES, "Delete", images_v1.DeleteImageRequest(name="nobody")),
    (leases_v1.LEASES, "Delete", leases_v1.DeleteRequest(id="nobody")),
    (namespaces_v1.NAMESPACES, "Create", namespaces_v1.CreateNamespaceRequest()),
    (snapshots_v1.SNAPSHOTS, "Stat", snapshots_v1.StatSnapshotRequest(snapshotter="nobody", key="k")),
    (tasks_v1.TASKS, "Start", tasks_v1.StartRequest(container_id="nobody")),
)
BAD_STREAMS = (
    (content_v1.CONTENT, "Read", content_v1.ReadContentRequest(digest="sha256:" + "0" * 64)),
    (events_v1.EVENTS, "Subscribe", events_v1.SubscribeRequest(filters=["((("])),
)


def errors_of(client):
    """How each bad call ends, unary ones and streams."""
    found = []
    for service, method, request in BAD_CALLS:
        with pytest.raises(ContainerdError) as caught:
            client.call(service, method, request)
        found.append((method, type(caught.value), str(caught.value)))
    for service, method, request in BAD_STREAMS:
        with client.stream(service, method, request) as stream, pytest.raises(ContainerdError) as caught:
            stream.receive()
        found.append((method, type(caught.value), str(caught.value)))
    with client.stream(content_v1.CONTENT, "Write") as stream:
        for _ in range(20):  # more than the queues hold, to somebody who has ended the call
            stream.send(content_v1.WriteContentRequest(action=0, ref=""))
        with pytest.raises(ContainerdError) as caught:
            stream.receive()
    found.append(("Write", type(caught.value), str(caught.value)))
    return found


def test_errors_are_those_of_a_socket(folders, short_tmp):
    given = f"{short_tmp}/given.sock"
    with in_process(*folders, address=given) as containerd:
        direct = errors_of(containerd.client)
        for kind in ("ttrpc", "grpc"):
            with Client(given, kind=kind) as client:
                assert errors_of(client) == direct


def test_a_blob_larger_than_a_ttrpc_message_crosses_whole(folders):
    data = os.urandom(9 << 20)
    with in_process(*folders) as containerd:
        with containerd.client.stream(content_v1.CONTENT, "Write") as stream:
            write = content_v1.WriteAction.WRITE
            stream.send(content_v1.WriteContentRequest(action=write, ref="r", offset=0, data=data))
            assert stream.receive().offset == len(data)
            stream.send(
                content_v1.WriteContentRequest(
                    action=content_v1.WriteAction.COMMIT, ref="r", offset=len(data)
                )
            )
            digest = stream.receive().digest
        with containerd.client.stream(
            content_v1.CONTENT, "Read", content_v1.ReadContentRequest(digest=digest)
        ) as stream:
            assert b"".join(bytes(message.data) for message in stream) == data


def test_a_script_that_forgets_to_close_ends_as_ever_and_its_container_stays(folders, busybox):
    script = f"""
import sys
from pycontainerd.embedded import Daemon
containerd = Daemon({folders[0]!r}, {folders[1]!r}).containerd()
containerd.images.pull({busybox!r})
task = containerd.containers.create({busybox!r}, ["sleep", "1000"], id="kept").start(pipes=False)
print(task.pid)
"""
    environment = peer_environment(PYTHONPATH=str(SRC))
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pid = int(done.stdout)
    assert process_running(pid)
    assert settled(lambda: leaks.our_processes((f"{folders[0]}",)), {}) == {}
    with in_process(*folders) as containerd:
        assert containerd.containers.get("kept").task().status == "running"
        containerd.containers.get("kept").delete(force=True)
    assert not process_running(pid)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("oom_score = -500", "oom_score is for a daemon in a process of its own"),
        ('temp = "/tmp/t"', "temp is for a daemon"),
        (
            '[plugins."io.containerd.internal.v1.opt"]\npath = "/opt/c"',
            "path of io.containerd.internal.v1.opt",
        ),
    ],
)
def test_settings_that_would_change_the_whole_process_are_refused(folders, tmp_path, text, said):
    config = tmp_path / "config.toml"
    config.write_text(f"version = 2\n{text}\n")
    before = resources()
    with pytest.raises(InvalidArgument, match=said):
        Daemon(*folders, config=str(config))
    with pytest.raises(InvalidArgument, match="absolute"):
        Daemon("here", folders[1])
    with pytest.raises(InvalidArgument, match="Level"):
        Daemon(*folders, log_level="loud")
    assert resources() == before
    assert not os.path.exists(folders[0])


def test_a_configuration_file_counts(folders, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folders[0]}"\nstate = "{folders[1]}"\n[grpc]\naddress = "{tmp_path}/c"\n'
    )
    with in_process(config=str(config)), Containerd(f"{tmp_path}/c") as containerd:
        assert containerd.containers.list() == []


def test_who_isn_t_root_is_told_so(folders):
    script = f"""
import os
from pycontainerd.embedded import Daemon  # while the sources can be read, wherever they are
from pycontainerd.lib.errdefs import PermissionDenied
os.setuid(65534)
try:
    Daemon({folders[0]!r}, {folders[1]!r})
except PermissionDenied as error:
    print(error)
"""
    environment = peer_environment(PYTHONPATH=str(SRC), PYTHONDONTWRITEBYTECODE="1")
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "a daemon needs root's rights\n"), done.stderr
