"""The daemon as a program: command line, locks, publish, idle exit, stack dump."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.light import events, images_v1, wkt
from pycontainerd.lib.errdefs import FailedPrecondition, NotFound, Unimplemented
from pycontainerd.lib.ttrpc.client import Client
from support.daemons import Daemon
from support.programs import ours, peer, peer_environment


@pytest.fixture
def daemon():
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with Daemon(folder / "d", real=False, level="debug") as daemon:
        yield daemon.start()
    remove_tree(str(folder))


def _program(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None):
    return subprocess.run(
        [ours("pycontainerd"), *arguments], input=stdin, capture_output=True, env=env, check=False, timeout=30
    )


def test_a_second_daemon_on_the_same_root_or_state_is_refused(daemon):
    folder = daemon.folder
    for flags, name in (
        (("--root", f"{folder}/root", "--state", f"{folder}/s2"), "--root"),
        (("--root", f"{folder}/r2", "--state", f"{folder}/state"), "--state"),
    ):
        done = _program(*flags, "--address", f"{folder}/other.sock")
        assert done.returncode == 1
        assert f"another daemon (pid {daemon.pid}) is using {name}" in done.stderr.decode()
        assert "try:" in done.stderr.decode()
    assert not Path(f"{folder}/other.sock").exists()


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(daemon):
    folder = daemon.folder
    done = _program("--root", f"{folder}/r2", "--state", f"{folder}/s2", "--address", daemon.address)
    assert done.returncode == 1
    assert "another daemon is answering" in done.stderr.decode()
    daemon.stop(signal.SIGKILL)
    assert Path(daemon.address).exists()
    daemon.start()
    assert daemon.ctr("version").returncode == 0


def test_s011_publish_works_from_an_empty_environment(daemon):
    listener = subprocess.Popen(
        [peer("ctr"), "--address", daemon.address, "events"],
        stdout=subprocess.PIPE,
        text=True,
        env=peer_environment(),
    )
    assert listener.stdout is not None
    message = events.TaskOOM(container_id="c1")
    payload = wkt.Any(type_url="containerd.events.TaskOOM", value=message.SerializeToString())
    try:
        os.set_blocking(listener.stdout.fileno(), False)
        deadline, line = time.monotonic() + 10, ""
        while not line and time.monotonic() < deadline:
            done = _program(
                *("--address", daemon.address, "publish", "--topic", "/tasks/oom", "--namespace", "ns1"),
                stdin=payload.SerializeToString(),
                env={},
            )
            assert done.returncode == 0, done.stderr
            line = listener.stdout.readline()
    finally:
        listener.terminate()
        listener.wait()
        listener.stdout.close()
    assert line.split(" ", 4)[4] == 'ns1 /tasks/oom {"container_id":"c1"}\n'


def test_publish_says_what_is_wrong():
    done = _program("--address", "/nonexistent.sock", "publish", "--topic", "/a", "--namespace", "n")
    assert done.returncode == 1
    assert "/nonexistent.sock.ttrpc" in done.stderr.decode()
    done = _program("publish", "--namespace", "n")
    assert (done.returncode, done.stderr) == (1, b"pycontainerd: topic required to publish event\n")


def test_publish_imports_nothing_of_the_daemon():
    code = (
        "import sys; sys.argv=['x']; import pycontainerd.daemon.main, pycontainerd.daemon.publish;"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('asyncio','grpclib','google','sqlite3','typing_extensions','h2')))"
    )
    source = str(Path(__file__).resolve().parents[3] / "src")
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {source!r}); {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_every_service_answers_over_ttrpc_too(daemon):
    client = Client.connect(f"{daemon.address}.ttrpc", timeout_s=5)
    metadata = {"containerd-namespace-ttrpc": "default"}
    images = "containerd.services.images.v1.Images"
    try:
        answer = client.call(images, "List", b"", metadata)
        assert images_v1.ListImagesResponse.FromString(answer).images == []
        with pytest.raises(NotFound, match='image "x": not found'):
            client.call(images, "Get", images_v1.GetImageRequest(name="x").SerializeToString(), metadata)
        with pytest.raises(FailedPrecondition, match="namespace is required"):
            client.call(images, "List")
        with pytest.raises(Unimplemented):
            client.call("containerd.services.nope.v1.Nope", "List", b"", metadata)
        stream = client.stream("containerd.services.content.v1.Content", "List", b"", metadata)
        assert list(stream) == []
    finally:
        client.close()


def test_an_idle_daemon_leaves_and_a_leased_one_stays(daemon):
    daemon.stop()
    daemon.start("--idle-exit", "1")
    assert daemon.ctr("leases", "create", "--id", "l").returncode == 0
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.wait(4)
    assert daemon.ctr("leases", "rm", "l").returncode == 0
    assert daemon.wait(10) == 0
    assert "nothing to do, leaving" in daemon.log()
    assert not Path(daemon.address).exists()


def test_sigusr1_dumps_stacks_and_the_daemon_goes_on(daemon):
    os.kill(daemon.pid, signal.SIGUSR1)
    assert daemon.ctr("version").returncode == 0
    log = daemon.log()
    assert "=== BEGIN goroutine stack dump ===" in log
    assert "metadata-writer" in log


def test_sigusr2_lets_it_debug_and_not_any_more(daemon):
    # The fixture's is started to debug.
    for level, silent in (("info", True), ("debug", False)):
        os.kill(daemon.pid, signal.SIGUSR2)
        deadline = time.monotonic() + 5
        line = f'level={level} msg="log level changed" now={level}'
        while line not in daemon.log() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert line in daemon.log()
        before = len(daemon.log())
        # Forwarded events are told at level debug.
        assert daemon.ctr("namespaces", "create", f"n-{level}").returncode == 0
        assert (" level=debug " not in daemon.log()[before:]) is silent


def test_sockets_are_0660(daemon):
    for path in (daemon.address, f"{daemon.address}.ttrpc"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660


def test_boot_lines_are_those_of_containerd(daemon):
    deadline = time.monotonic() + 5
    while "successfully booted" not in daemon.log() and time.monotonic() < deadline:
        time.sleep(0.02)
    log = daemon.log()
    for part in (
        'level=info msg="starting containerd" revision=',
        r'level=info msg="loading plugin \"io.containerd.content.v1.content\"..." type=io.containerd.content.v1',
        f"level=info msg=serving... address={daemon.address}.ttrpc",
        f"level=info msg=serving... address={daemon.address}\n",
        'msg="containerd successfully booted in 0.',
    ):
        assert part in log


def test_config_default_is_read_back_as_itself(tmp_path):
    default = _program("config", "default").stdout
    path = tmp_path / "config.toml"
    path.write_bytes(default)
    drop_ins = b'imports = ["/etc/pycontainerd/conf.d/*.toml"]'
    assert drop_ins in default
    named = default.replace(drop_ins, f'imports = ["{path}"]'.encode())  # as containerd: every file read
    assert _program("--config", str(path), "config", "dump").stdout == named


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nope",), "flag provided but not defined: -nope"),
        (("--log-level", "loud"), 'not a valid logrus Level: "loud"'),
        (("what",), "no such command: what"),
        (
            ("--config", "/nonexistent.toml"),
            "failed to load config file /nonexistent.toml: no such file or directory",
        ),
        (("--root", "relative"), "root must be an absolute path: 'relative'"),
    ],
)
def test_bad_command_lines_say_so_and_exit_1(arguments, message):
    done = _program(*arguments)
    assert done.returncode == 1
    assert message in done.stderr.decode()


def test_kill_9_keeps_every_acknowledged_change(daemon):
    for number in range(20):
        assert daemon.ctr("namespaces", "create", f"n{number}").returncode == 0
    daemon.stop(signal.SIGKILL)
    daemon.start()
    listed = daemon.ctr("namespaces", "ls", "-q").stdout.decode().split()
    assert listed == sorted(f"n{number}" for number in range(20))
