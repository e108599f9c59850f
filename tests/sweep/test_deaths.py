"""kill -9 of the daemon, the forkserver and shims at random moments of real work.

Nothing that a client was told is lost, containers go on, exits keep their status, and in the end nothing is left. The seed of the
moments is in each failure's message; SWEEP_SEED sets it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from support import images, leaks
from support.patience import seconds
from support.stack import Stack

SEED = int(os.environ.get("SWEEP_SEED", random.SystemRandom().randrange(1 << 30)))
ACTIONS = ("pull", "run", "exec", "delete", "collect")
# A shim that answers later than in two seconds has its task listed as UNKNOWN, as with containerd. What is asked here is
# whether something is lost, however busy the machine is.
PATIENCE = '[timeouts]\n"io.containerd.timeout.task.state" = "60s"\n'


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Two images: one that containers run from, one that comes and goes."""
    with images.registry(tmp_path_factory.mktemp("registry")) as host:
        for name, text in (("busybox", b"1"), ("guest", b"2" * 3_000_000)):
            entries = [*images.busybox_entries(), ("etc/mark", "file", text, 0o644)]
            layout = images.build_layout(
                tmp_path_factory.mktemp(name), contents=[entries, images.top_entries()]
            )
            images.push(layout, f"{host}/{name}:latest")
        yield host


@pytest.fixture
def world(registry):
    root = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    stack = Stack(root, kind="ours", extra=PATIENCE).start()
    try:
        yield World(stack, registry)
    finally:
        stack.clean()
        shutil.rmtree(root)  # noqa: TID251 - a folder of the test's own


class World:
    """A daemon, what it has acknowledged, and what is asked of it after each death."""

    def __init__(self, stack: Stack, registry: str) -> None:
        self.stack = stack
        self.image, self.guest = f"{registry}/busybox:latest", f"{registry}/guest:latest"
        self.random = random.Random(SEED)
        stack.ctr("image", "pull", "--plain-http", self.image)
        self.survivor = self.run(self.name("survivor"), "sleep 10000")

    def name(self, what: object) -> str:
        """An id of this test alone: cgroups are named after it, and the machine has one tree of them."""
        return f"{self.stack.root.name.replace('_', 'x')}-{what}"  # what ends with _ is no id

    def run(self, id_: str, script: str) -> int:
        """A detached container; its pid."""
        # Streams to nowhere: a client's FIFOs would end with the client.
        self.stack.ctr("run", "-d", "--null-io", self.image, id_, "sh", "-c", script)
        return self.tasks()[id_][0]

    def tasks(self) -> dict[str, tuple[int, str]]:
        """id -> (pid, status)."""
        rows = (line.split() for line in self.stack.ctr("tasks", "ls").stdout.splitlines()[1:])
        return {id_: (int(pid), status) for id_, pid, status in rows}

    def containers(self) -> set[str]:
        return set(self.stack.ctr("containers", "ls", "-q").stdout.split())

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """A client that works while something dies."""
        null = subprocess.DEVNULL
        argv = self.stack.command("ctr", *words)
        return subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, env=self.stack.environment)

    def a_while(self, longest_s: float) -> None:
        time.sleep(self.random.uniform(0, longest_s))

    def restart(self) -> None:
        """kill -9 and a new daemon on the same folders."""
        self.stack.stop(signal.SIGKILL)
        self.stack.start()

    def remove(self, id_: str) -> None:
        """A container in whatever state it is."""
        self.stack.ctr("tasks", "rm", "-f", id_, check=False)
        self.stack.ctr("containers", "rm", id_, check=False)
        assert id_ not in self.containers() | set(self.tasks())

    def check_survivor(self, what: object) -> None:
        assert self.tasks().get(self.name("survivor")) == (self.survivor, "RUNNING"), (SEED, what)
        # Ours opens its end of a FIFO before it asks; Debian's ctr may come too late for it on a busy machine, and prints nothing.
        script = ("sh", "-c", "echo here; exit 6")
        done = self.stack.pyctr(
            "tasks", "exec", "--exec-id", "asked", self.name("survivor"), *script, check=False
        )
        assert (done.stdout, done.returncode) == ("here\n", 6), (SEED, what, done)

    def check_disk(self, what: object) -> None:
        """The database and the disk agree, once the collector has been."""
        self.stack.ctr("images", "tag", "--force", self.image, "docker.io/library/passing:1")
        self.stack.ctr("images", "rm", "--sync", "docker.io/library/passing:1")
        root = self.stack.root / "r"
        known = {digest.partition(":")[2] for digest in self.stack.ctr("content", "ls", "-q").stdout.split()}
        blobs = set(os.listdir(root / "io.containerd.content.v1.content/blobs/sha256"))
        assert blobs == known, (SEED, what)
        snapshots = self.stack.ctr("snapshots", "ls").stdout.splitlines()[1:]
        folders = os.listdir(root / "io.containerd.snapshotter.v1.overlayfs/snapshots")
        assert len(folders) == len(snapshots), (SEED, what, folders, snapshots)

    def nothing_left(self) -> None:
        """Without containers, images and leases nothing is on the disk, and no shim, mount or cgroup is there."""
        for id_ in self.containers() | set(self.tasks()):
            self.remove(id_)
        for lease in self.stack.ctr("leases", "ls", "-q").stdout.split():
            self.stack.ctr("leases", "rm", "--sync", lease)
        for name in self.stack.ctr("images", "ls", "-q").stdout.split():
            self.stack.ctr("images", "rm", "--sync", name)
        root = self.stack.root / "r"
        assert self.stack.ctr("content", "ls", "-q").stdout == ""
        assert self.stack.ctr("snapshots", "ls").stdout.splitlines()[1:] == []
        assert os.listdir(root / "io.containerd.content.v1.content/blobs/sha256") == []
        assert os.listdir(root / "io.containerd.snapshotter.v1.overlayfs/snapshots") == []
        deadline = time.monotonic() + seconds(10)
        while self.stack.shims() or [point for point in leaks.mounts() if str(self.stack.root) in point]:
            assert time.monotonic() < deadline, (SEED, self.stack.shims(), leaks.mounts())
            time.sleep(0.05)


def words_of(world: World, action: str, number: int) -> list[str]:
    """A client's command, after what it needs."""
    id_ = world.name(number)
    if action == "pull":
        world.stack.ctr("images", "rm", "--sync", world.guest, check=False)
        return ["image", "pull", "--plain-http", world.guest]
    if action == "run":
        return ["run", "-d", "--null-io", world.image, id_, "sleep", "10000"]
    if action == "exec":
        return ["tasks", "exec", "--exec-id", id_, world.name("survivor"), "sh", "-c", "sleep 0.2; exit 5"]
    if action == "delete":
        world.run(id_, "sleep 10000")
        return ["tasks", "rm", "-f", id_]
    world.stack.ctr("image", "pull", "--plain-http", world.guest)
    return ["images", "rm", "--sync", world.guest]


def check_outcome(world: World, action: str, number: int, acknowledged: bool) -> None:
    """What a client was told holds after the daemon's death; what it was not told may be either way."""
    id_, what = world.name(number), (SEED, action, number, acknowledged)
    listed = world.stack.ctr("images", "ls", "-q").stdout.split()
    if action == "pull" and acknowledged:
        assert world.guest in listed, what
        assert "complete" in world.stack.ctr("images", "check", f"name=={world.guest}").stdout, what
    if action == "run" and acknowledged:
        assert world.tasks()[id_][1] == "RUNNING", what
    if action == "delete" and acknowledged:
        assert id_ not in world.tasks(), what
    if action == "collect" and acknowledged:
        assert world.guest not in listed, what
    if action in ("run", "delete"):
        world.remove(id_)


def test_nothing_acknowledged_is_lost_with_the_daemon(world, amount):
    for number in range(amount(len(ACTIONS), 200)):
        action = ACTIONS[number % len(ACTIONS)]
        status = number % 100 + 1
        world.run(world.name(f"mortal{number}"), f"sleep 0.{world.random.randrange(10)}; exit {status}")
        client = world.begin(*words_of(world, action, number))
        world.a_while(0.6)
        world.restart()
        acknowledged = client.wait(30) == (5 if action == "exec" else 0)
        check_outcome(world, action, number, acknowledged)
        deadline = time.monotonic() + seconds(10)
        while world.tasks()[world.name(f"mortal{number}")][1] != "STOPPED":
            assert time.monotonic() < deadline, (SEED, action, number)
        assert (
            f"exit code {status}" in world.stack.ctr("tasks", "rm", world.name(f"mortal{number}")).stderr
        ), (
            SEED,
            number,
        )
        world.stack.ctr("containers", "rm", world.name(f"mortal{number}"))
        world.check_survivor((action, number))
        world.check_disk((action, number))
    world.nothing_left()


def test_a_killed_shim_leaves_nothing_and_its_name_is_free(world, amount):
    for number in range(amount(4, 100)):
        id_ = world.name(number)
        client = world.begin("run", "-d", "--null-io", world.image, id_, "sleep", "10000")
        world.a_while(0.5)
        for pid, line in world.stack.shims().items():
            if f"-id {id_} " in line:
                os.kill(pid, signal.SIGKILL)
        client.wait(30)
        deadline = time.monotonic() + seconds(10)
        while (task := world.tasks().get(id_)) and task[1] != "STOPPED" and not shim_lives(world, id_):
            assert time.monotonic() < deadline, (SEED, number, task)
        world.remove(id_)
        assert world.run(id_, "exit 3") or True
        world.remove(id_)
        world.check_survivor(number)
    world.nothing_left()


def shim_lives(world: World, id_: str) -> bool:
    """Whether the kill came too early for it."""
    return any(f"-id {id_} " in line for line in world.stack.shims().values())


def forkserver(world: World) -> list[int]:
    """Forkservers below this daemon, and what they hold in reserve."""
    found = []
    for pid, line in leaks.our_processes(("pycontainerd-forkserver",)).items():
        # What it forks is called so for a moment, and the process in the middle has gone the next.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            if line and parent == str(world.stack.pid()):
                found.append(pid)
    return found


def test_a_killed_forkserver_takes_no_container_along(world, amount):
    for number in range(amount(3, 100)):
        id_ = world.name(number)
        client = world.begin("run", "-d", "--null-io", world.image, id_, "sleep", "10000")
        world.a_while(0.4)
        for pid in forkserver(world):
            os.kill(pid, signal.SIGKILL)
        if client.wait(30) == 0:
            assert world.tasks()[id_][1] == "RUNNING", (SEED, number)
        world.remove(id_)
        assert world.run(world.name(f"{number}b"), "sleep 10000")
        world.remove(world.name(f"{number}b"))
        world.check_survivor(number)
    world.nothing_left()
