"""The daemon under a service manager: what it is told, the sockets it has opened, and the units; beside the real daemon where that has it.

containerd has no socket activation; dockerd has, with the same contract (sd_listen_fds(3)), and systemd's own programs are the judges.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontainerd.daemon import config
from pycontainerd.daemon.core.files import remove_tree
from support.daemons import Daemon, make_rootfs
from support.patience import seconds
from support.programs import PEERS, TOP, ours, peer, peer_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.requires("root")

UNITS = TOP / "packaging/systemd"


@pytest.fixture
def folder() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
    yield found
    remove_tree(str(found))


class Manager:
    """A service manager's notify socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(seconds(10))

    def hears(self) -> bytes:
        """The next message."""
        return self._socket.recv(100)

    def has_heard_all(self) -> bool:
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            return not self.hears()
        return True

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@pytest.mark.parametrize("address", ["{}/notify", "@pycontainerd{}"])
@pytest.mark.parametrize("real", [True, False], ids=["real", "ours"])
def test_the_manager_is_told_when_the_daemon_is_ready_and_when_it_stops(
    folder: Path, real: bool, address: str
) -> None:
    address = address.format(folder)
    with Manager(address) as manager, Daemon(folder / "d", real=real) as daemon:
        daemon.environment = {"NOTIFY_SOCKET": address}
        daemon.start()
        assert manager.hears() == b"READY=1"
        assert daemon.stop() == 0
        assert manager.hears() == b"STOPPING=1"
        assert manager.has_heard_all()


def test_a_daemon_that_cannot_start_says_that_it_stops_and_never_that_it_is_ready(folder: Path) -> None:
    with Manager(f"{folder}/notify") as manager, Daemon(folder / "d", real=False) as daemon:
        daemon.environment = {"NOTIFY_SOCKET": f"{folder}/notify"}
        Path(daemon.address).write_text("no socket")
        with pytest.raises(AssertionError, match="exists and is not a socket"):
            daemon.start()
        assert manager.hears() == b"STOPPING=1"
        assert manager.has_heard_all()


def test_a_manager_that_went_away_is_a_warning(folder: Path) -> None:
    with Daemon(folder / "d", real=False) as daemon:
        daemon.environment = {"NOTIFY_SOCKET": f"{folder}/nobody"}
        daemon.start()
        assert daemon.stop() == 0
        said = f'"cannot tell {folder}/nobody READY=1: No such file or directory"'
        assert f'level=warning msg="notify failed" error={said}' in daemon.log()


@pytest.mark.parametrize(
    ("real", "runtime"),
    [(True, ""), (False, ""), (False, "pyrunc"), (False, "runc")],
    ids=["real", "ours", "ours-pyrunc", "ours-runc"],
)
def test_containers_are_not_given_the_managers_socket(folder: Path, real: bool, runtime: str) -> None:
    """runc would mount it into them; it is the daemon's, and a container's READY=1 is not."""
    with Manager(f"{folder}/notify") as manager, Daemon(folder / "d", real=real) as daemon:
        daemon.environment = {"NOTIFY_SOCKET": f"{folder}/notify"}
        daemon.start()
        assert manager.hears() == b"READY=1"
        root = make_rootfs(folder / "rootfs")
        binary = {"pyrunc": ours("pyrunc"), "runc": shutil.which("runc", path=peer_environment()["PATH"])}
        flags = ["--runc-binary", str(binary[runtime])] if runtime else []
        script = "echo $NOTIFY_SOCKET; /bin/cat /proc/mounts; /bin/ls /run"
        done = daemon.ctr("run", "--rm", *flags, "--rootfs", str(root), "c1", "/bin/sh", "-c", script)
        assert done.returncode == 0, done.stderr
        assert b"/proc proc" in done.stdout
        assert b"notify" not in done.stdout
        assert manager.has_heard_all()


# As a service manager does it: the sockets from descriptor 3 on, and whom they are for.
MOVE = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 50) for fd in sys.argv[1].split(",") if fd]
for index, fd in enumerate(fds):
    os.dup2(fd, 3 + index)
    os.close(fd)
pid = os.getpid() + int(sys.argv[3])
environment = {**os.environ, "LISTEN_FDS": sys.argv[2] or str(len(fds)), "LISTEN_PID": str(pid), "LISTEN_FDNAMES": "a:b"}
os.execve(sys.argv[4], sys.argv[4:], environment)
"""


class Activated:
    """Daemons of one folder, started one after the other with sockets that are this test's."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.address = f"{folder}/c.sock"
        self.log = folder / "log"
        self._stack = stack
        self.config = folder / "config.toml"
        self.config.write_text("version = 2\n")

    def listener(self, path: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A bound socket of a path; one of streams listens."""
        found = self._stack.enter_context(socket.socket(socket.AF_UNIX, kind))
        found.bind(path)
        if kind != socket.SOCK_DGRAM:
            found.listen()
        return found

    def start(self, *sockets: int, count: str = "", pid_off: int = 0) -> subprocess.Popen[bytes]:
        """A daemon that is given descriptors; `count` and `pid_off` tell it something else than what is so."""
        command = [
            *(ours("pycontainerd"), "--config", str(self.config), "--root", f"{self.folder}/root"),
            *("--state", f"{self.folder}/state", "--address", self.address),
        ]
        with self.log.open("wb") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-c", MOVE, ",".join(map(str, sockets)), count, str(pid_off), *command],
                pass_fds=sockets,
                env=peer_environment(),
                stderr=log,
            )
        self._stack.callback(self._end, daemon)
        return daemon

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Debian's ctr, which waits for a daemon behind a socket that somebody listens on."""
        return subprocess.run(
            [peer("ctr"), "-a", self.address, *arguments],
            env=peer_environment(),
            check=False,
            capture_output=True,
            timeout=30,
        )

    def said(self) -> str:
        return self.log.read_text()

    @staticmethod
    def _end(daemon: subprocess.Popen[bytes]) -> None:
        if daemon.poll() is None:
            daemon.terminate()
            daemon.wait(20)


@pytest.fixture
def activated(folder: Path) -> Iterator[Activated]:
    with contextlib.ExitStack() as stack:
        yield Activated(folder, stack)


def test_inherited_sockets_are_served_and_left_in_place(activated: Activated) -> None:
    address = activated.address
    fds = [
        activated.listener(path).fileno()
        for path in (address, f"{address}.ttrpc", f"{activated.folder}/other.sock")
    ]
    daemon = activated.start(*fds)
    inode = Path(address).stat().st_ino
    done = activated.ctr("version")
    assert done.returncode == 0, done.stderr
    assert b"Server:" in done.stdout
    daemon.terminate()
    assert daemon.wait(20) == 0
    assert Path(address).stat().st_ino == inode
    assert re.search(rf"inherited socket is no address.*{activated.folder}/other.sock", activated.said())


def test_clients_wait_while_the_daemon_is_restarted_and_containers_run_on(activated: Activated) -> None:
    sockets = [activated.listener(activated.address), activated.listener(f"{activated.address}.ttrpc")]
    fds = [listener.fileno() for listener in sockets]
    first = activated.start(*fds)
    root = make_rootfs(activated.folder / "rootfs")
    assert activated.ctr("run", "-d", "--rootfs", str(root), "c1", "/bin/sleep", "100").returncode == 0
    first.terminate()
    assert first.wait(20) == 0
    client = subprocess.Popen(
        [peer("ctr"), "-a", activated.address, "tasks", "ls"], env=peer_environment(), stdout=subprocess.PIPE
    )
    time.sleep(0.5)
    assert client.poll() is None  # the socket holds it
    activated.start(*fds)
    listed, _ = client.communicate(timeout=20)
    assert re.search(rb"c1 +\d+ +RUNNING", listed)
    assert activated.ctr("tasks", "rm", "-f", "c1").returncode == 0
    assert activated.ctr("containers", "rm", "c1").returncode == 0


def test_sockets_for_another_process_are_not_taken(activated: Activated) -> None:
    other = activated.listener(f"{activated.folder}/other.sock")
    daemon = activated.start(other.fileno(), pid_off=1)
    deadline = time.monotonic() + seconds(20)
    while not os.path.exists(activated.address):
        assert daemon.poll() is None, activated.said()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert activated.ctr("version").returncode == 0
    assert "inherited socket" not in activated.said()


def test_an_address_is_found_through_a_link(activated: Activated) -> None:
    """/var/run in a unit is /run in a configuration."""
    real = activated.folder / "real"
    real.mkdir()
    (activated.folder / "link").symlink_to(real)
    activated.address = f"{activated.folder}/link/c.sock"
    fds = [activated.listener(f"{real}/c.sock{suffix}").fileno() for suffix in ("", ".ttrpc")]
    activated.start(*fds)
    assert activated.ctr("version").returncode == 0
    assert "inherited socket" not in activated.said()


def test_numbers_are_served_on_an_inherited_tcp_socket(activated: Activated) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        activated.config.write_text(f'version = 2\n[metrics]\n  address = "localhost:{port}"\n')
        daemon = activated.start(listener.fileno())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/metrics", timeout=seconds(20)) as answer:
            assert answer.status == 200
        daemon.terminate()
        assert daemon.wait(20) == 0
        assert "inherited socket" not in activated.said()


def test_what_is_no_listening_socket_is_refused(activated: Activated) -> None:
    datagrams = activated.listener(f"{activated.folder}/d.sock", socket.SOCK_DGRAM)
    packets = activated.listener(f"{activated.folder}/s.sock", socket.SOCK_SEQPACKET)
    with socket.socket(socket.AF_UNIX) as unbound, open("/dev/null") as null:
        for given, count, text in (
            (datagrams.fileno(), "", rf"descriptor 3 \({activated.folder}/d.sock\) is no listening stream socket"),
            (packets.fileno(), "", rf"descriptor 3 \({activated.folder}/s.sock\) is no listening stream socket"),
            (unbound.fileno(), "", r"descriptor 3 \(without a name\) is no listening stream socket"),
            (null.fileno(), "", "descriptor 3 is no socket: Socket operation on non-socket"),
            (packets.fileno(), "9", "descriptor 3 "),
        ):  # fmt: skip
            daemon = activated.start(given, count=count)
            assert daemon.wait(20) == 1
            assert re.search(rf"^pycontainerd: LISTEN_FDS: {text}", activated.said(), re.MULTILINE)
            assert "Traceback" not in activated.said()


def test_fewer_sockets_than_promised_are_an_error(activated: Activated) -> None:
    listener = activated.listener(activated.address)
    assert activated.start(listener.fileno(), count="2").wait(20) == 1
    assert "LISTEN_FDS: descriptor 4 is no socket: Bad file descriptor" in activated.said()


@pytest.mark.requires("systemd")
def test_systemds_own_program_activates_it(activated: Activated) -> None:
    command = [
        *(ours("pycontainerd"), "--config", str(activated.config), "--root", f"{activated.folder}/root"),
        *("--state", f"{activated.folder}/state", "--address", activated.address),
    ]
    addresses = [f"--listen={activated.address}{suffix}" for suffix in ("", ".ttrpc")]
    environment = [f"--setenv={name}" for name in ("PATH", "LD_LIBRARY_PATH", "HOME")]
    with activated.log.open("wb") as log:
        manager = subprocess.Popen(
            ["systemd-socket-activate", *addresses, *environment, *command],
            env=peer_environment(),
            stderr=log,
        )
    try:
        deadline = time.monotonic() + seconds(10)
        while not os.path.exists(f"{activated.address}.ttrpc"):
            assert time.monotonic() < deadline, activated.said()
            time.sleep(0.02)
        assert not os.path.exists(f"{activated.folder}/root")  # nobody has asked for it yet
        done = activated.ctr("version")
        assert done.returncode == 0, (done.stderr, activated.said())
        assert "inherited socket" not in activated.said()
    finally:
        manager.terminate()  # by now it is the daemon
        assert manager.wait(20) == 0


def _unit(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_service_has_all_that_containerds_has() -> None:
    peer("containerd")
    folders = ("lib/systemd/system", "usr/lib/systemd/system")  # the second since Debian 13
    real = _unit(next(path for name in folders if (path := PEERS / name / "containerd.service").exists()))
    unit = _unit(UNITS / "pycontainerd.service")
    assert real["Service"].pop("ExecStart") == "/usr/bin/containerd"
    assert unit["Service"].items() >= real["Service"].items()
    assert unit["Install"] == real["Install"]
    assert set(unit["Unit"]["After"].split()) >= set(real["Unit"]["After"].split())


def test_the_socket_unit_and_the_folders_are_those_of_the_defaults() -> None:
    lines = (UNITS / "pycontainerd.socket").read_text().splitlines()
    defaults = config.Config()
    assert [line.partition("=")[2] for line in lines if line.startswith("ListenStream=")] == [
        defaults.grpc.address,
        defaults.ttrpc_address,
    ]
    service = _unit(UNITS / "pycontainerd.service")["Service"]
    assert f"/var/lib/{service['StateDirectory']}" == defaults.root
    assert f"/run/{service['RuntimeDirectory']}" == defaults.state
    assert service["RuntimeDirectoryPreserve"] == "yes"  # the containers' bundles are in it


def test_units_are_written_for_a_program_that_is_there(folder: Path) -> None:
    script = str(TOP / "scripts/units")
    subprocess.run([script, str(folder / "own")], check=True)
    assert _unit(folder / "own/pycontainerd.service")["Service"]["ExecStart"] == f"{TOP}/bin/pycontainerd"
    subprocess.run([script, str(folder / "other"), "/bin/true"], check=True)
    assert _unit(folder / "other/pycontainerd.service")["Service"]["ExecStart"] == "/bin/true"
    assert (folder / "other/pycontainerd.socket").read_text() == (UNITS / "pycontainerd.socket").read_text()
    for program in ("relative", "/no/such", "/bin/a b"):
        done = subprocess.run(
            [script, str(folder / "bad"), program], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr[:7]) == (1, "units: ")
        assert not (folder / "bad").exists()


@pytest.mark.requires("systemd")
def test_systemd_understands_the_units(folder: Path) -> None:
    subprocess.run([str(TOP / "scripts/units"), str(folder), "/bin/true"], check=True)
    done = subprocess.run(
        ["systemd-analyze", "verify", f"{folder}/pycontainerd.service", f"{folder}/pycontainerd.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
