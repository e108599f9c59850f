"""All three generations of shims under Debian's containerd and under ours, with Debian's shims and ours (S005, S006, S095)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import grpc
import pytest

from pycontainerd.lib.api.full import containers_v1, runctypes, tasks_v1
from pycontainerd.lib.api.full import wkt as full_wkt
from pycontainerd.lib.api.light import shim_v1, wkt
from pycontainerd.lib.ttrpc.client import Client
from support import parity, shims
from support.daemons import call
from support.programs import ours, peer, peer_environment
from support.stack import Stack
from support.walkthrough import wait_until

pytestmark = [pytest.mark.requires("root", "cgroup_v1", "overlayfs"), pytest.mark.timeout(120)]

LINUX, RUNC_V1 = "io.containerd.runtime.v1.linux", "io.containerd.runc.v1"
SHIMS = {
    "ours": {LINUX: ours("containerd-shim-py"), RUNC_V1: ours("containerd-shim-pyrunc-v1")},
    "stock": {LINUX: "containerd-shim", RUNC_V1: "containerd-shim-runc-v1"},
}
# Lines of ctr events: topic and the ids in it.
TOPIC = re.compile(r" default (/tasks/\S+) ")


class Generations(Stack):
    """A daemon whose older runtimes have shims of one kind."""

    def __init__(self, root: Path, kind: str, shims_of: str) -> None:
        paths = {name: peer(path) if "/" not in path else path for name, path in SHIMS[shims_of].items()}
        extra = f'[plugins."{LINUX}"]\n  shim = "{paths[LINUX]}"\n  shim_debug = true\n'
        environment = {}
        if kind == "ours":
            extra += (
                f'[plugins."io.containerd.shim.v1.manager".runtime_paths]\n"{RUNC_V1}" = "{paths[RUNC_V1]}"\n'
            )
        else:
            links = root / "shims"
            links.mkdir(parents=True)
            (links / "containerd-shim-runc-v1").symlink_to(paths[RUNC_V1])
            environment["PATH"] = f"{links}:{peer_environment()['PATH']}"
        super().__init__(root, kind=kind, env=environment, extra=extra)

    def pid_of(self, name: str) -> int:
        """The pid of a task's init."""
        rows = self.ctr("task", "ls").stdout.splitlines()
        return next(int(row.split()[1]) for row in rows if row.split()[0] == name)

    def status_of(self, name: str) -> str:
        """RUNNING, STOPPED, …; "" without a task."""
        rows = self.ctr("task", "ls").stdout.splitlines()
        return next((row.split()[2] for row in rows if row.split()[0] == name), "")

    def remove(self, name: str) -> None:
        """Ends and removes a container."""
        self.ctr("task", "rm", "-f", name, check=False)
        self.ctr("container", "rm", name)


@pytest.fixture(
    scope="module",
    params=[(kind, shim) for kind in ("real", "ours") for shim in ("stock", "ours")],
    ids="-".join,
)
def stack(request, busybox):
    root = Path(tempfile.mkdtemp(prefix="pv", dir="/tmp"))
    made = Generations(root, *request.param).start()
    made.ctr("image", "pull", "--plain-http", busybox)
    yield made
    made.clean()
    shutil.rmtree(root)  # noqa: TID251 - a folder of the test's own


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory):
    return shims.make_rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture(params=[LINUX, RUNC_V1])
def runtime(request):
    return request.param


def folder(runtime: str) -> str:
    """The name of the folder of a runtime's bundles."""
    return LINUX if runtime == LINUX else "io.containerd.runtime.v2.task"


@contextlib.contextmanager
def listening(stack):
    """`ctr events`, heard by what is yielded; it listens already."""
    path = stack.root / "events"
    with path.open("wb") as file:
        listener = subprocess.Popen(stack.command("ctr", "events"), stdout=file, env=peer_environment())
    try:
        wait_until(lambda: stack.ctr("namespaces", "label", "default", "a=b") and path.stat().st_size)
        yield path.read_text
    finally:
        listener.terminate()
        listener.wait()


def test_s005_s006_run_prints_and_exits(stack, runtime, busybox):
    # A moment, because ctr opens its ends of the streams beside everything else.
    done = stack.ctr(
        "run",
        "--rm",
        "--runtime",
        runtime,
        busybox,
        "r1",
        "sh",
        "-c",
        "echo hi; sleep 0.3; exit 42",
        check=False,
    )
    said = parity.said_by_ctr(done.stderr)
    assert (done.stdout, done.returncode, said) == ("hi\n", 42, "")
    assert not os.listdir(f"{stack.root}/s/{folder(runtime)}/default")
    assert not os.listdir(f"{stack.root}/r/{folder(runtime)}/default")


def test_a_missing_program_is_told_in_the_runtimes_words(stack, runtime, busybox):
    done = stack.ctr("run", "--rm", "--runtime", runtime, busybox, "r2", "/nope", check=False)
    prefix = "" if runtime == LINUX else "failed to create shim task: "
    text = 'unable to start container process: exec: "/nope": stat /nope: no such file or directory'
    assert (done.returncode, parity.said_by_ctr(done.stderr)) == (
        1,
        f"ctr: {prefix}OCI runtime create failed: runc create failed: {text}: unknown\n",
    )


def test_the_life_of_a_container_and_its_events(stack, runtime, busybox):
    with listening(stack) as heard:
        stack.ctr("run", "-d", "--runtime", runtime, busybox, "life", "sleep", "100")
        assert stack.status_of("life") == "RUNNING"
        done = stack.ctr(
            "task", "exec", "--exec-id", "e1", "life", "sh", "-c", "echo in; exit 7", check=False
        )
        assert (done.stdout, done.returncode) == ("in\n", 7)
        stack.ctr("task", "pause", "life")
        assert stack.status_of("life") == "PAUSED"
        stack.ctr("task", "resume", "life")
        assert "memory.usage_in_bytes" in stack.ctr("task", "metrics", "life").stdout
        rows = stack.ctr("task", "ps", "life").stdout.splitlines()
        assert rows[1].split()[0] == str(stack.pid_of("life"))
        stack.ctr("task", "kill", "-s", "KILL", "life")
        wait_until(lambda: stack.status_of("life") == "STOPPED")
        assert "exit with non-zero exit code 137" in stack.ctr("task", "rm", "life").stderr
        stack.ctr("container", "rm", "life")
        wait_until(lambda: "/tasks/delete" in heard() and heard().count("/tasks/exit") == 2)
        text = heard()
    topics = TOPIC.findall(text)
    for once in ("create", "start", "exec-started", "paused", "resumed", "delete"):
        assert topics.count(f"/tasks/{once}") == 1, (once, text)
    assert sorted(
        re.findall(r'/tasks/exit \{"container_id":"life","id":"(\w+)".*"exit_status":(\d+)', text)
    ) == [("e1", "7"), ("life", "137")]


def test_a_task_that_was_never_started_is_deleted_at_once(stack, runtime, rootfs):
    stack.ctr("container", "create", "--rootfs", "--runtime", runtime, str(rootfs), "c1", "/bin/sleep", "100")
    try:
        with grpc.insecure_channel(f"unix://{stack.address}") as channel:
            code, text, _ = call(
                channel, tasks_v1.TASKS, "Create", tasks_v1.CreateTaskRequest(container_id="c1")
            )
            assert (code, text) == ("OK", "")
            assert stack.status_of("c1") == "CREATED"
            begun = time.monotonic()
            code, text, _ = call(
                channel, tasks_v1.TASKS, "Delete", tasks_v1.DeleteTaskRequest(container_id="c1")
            )
            assert (code, text) == ("OK", "")
            # Nobody waits for the exit of what never ran.
            assert time.monotonic() - begun < 2.5
        assert stack.status_of("c1") == ""
    finally:
        stack.ctr("container", "rm", "c1")


def test_a_kill_for_memory_is_told(stack, runtime, busybox):
    with listening(stack) as heard:
        limit = ("--memory-limit", str(20 << 20))
        script = "sleep 0.5; tail /dev/zero"
        stack.ctr("run", "-d", "--runtime", runtime, *limit, busybox, "oom", "sh", "-c", script)
        wait_until(lambda: stack.status_of("oom") == "STOPPED", 20)
        stack.remove("oom")
        wait_until(lambda: '/tasks/oom {"container_id":"oom"}' in heard())


def test_a_terminal(stack, runtime, busybox):
    stack.ctr("run", "-d", "--runtime", runtime, busybox, "tty", "sleep", "100")
    command = " ".join(stack.command("ctr", "task", "exec", "-t", "--exec-id", "t1", "tty", "tty"))
    done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, env=stack.environment, check=False, stdin=subprocess.DEVNULL)  # fmt: skip
    assert "/dev/pts/0" in done.stdout
    stack.remove("tty")


def test_s095_the_bundle_and_the_process(stack, runtime, busybox):
    stack.ctr("run", "-d", "--runtime", runtime, busybox, "b1", "sleep", "100")
    bundle = Path(f"{stack.root}/s/{folder(runtime)}/default/b1")
    assert (bundle / "config.json").exists()
    assert (bundle.stat().st_mode & 0o777, (bundle / "rootfs").stat().st_mode & 0o777) == (0o700, 0o755)
    address = (bundle / "address").read_text()
    assert re.fullmatch(r"unix:///run/containerd/s/[0-9a-f]{64}", address)
    shim = int(Path(f"/proc/{stack.pid_of('b1')}/stat").read_text().rpartition(")")[2].split()[1])
    argv = Path(f"/proc/{shim}/cmdline").read_bytes().decode().split("\0")[1:-1]
    if runtime == LINUX:
        assert (bundle / "shim.pid").read_text() == str(shim)
        work = f"{stack.root}/r/{LINUX}/default/b1"
        assert argv[:7] == [
            "-namespace",
            "default",
            "-workdir",
            work,
            "-address",
            stack.address,
            "-containerd-binary",
        ]
        assert os.path.realpath(argv[7]) == os.path.realpath(stack.program)
        assert argv[-1] == "-debug"
        assert set(os.listdir(work)) == {"shim.stdout.log", "shim.stderr.log"}
        assert {"address", "config.json", "init.pid", "rootfs", "shim.pid"} <= set(os.listdir(bundle))
        assert "work" not in os.listdir(bundle)
    else:
        assert [word for word in argv if word != "-debug"] == [
            "-namespace",
            "default",
            "-id",
            "b1",
            "-address",
            stack.address,
        ]
    stack.remove("b1")
    assert not bundle.exists()
    wait_until(lambda: not Path(f"/proc/{shim}").exists())
    wait_until(lambda: not Path(address.removeprefix("unix://")).exists())


def test_a_container_outlives_the_daemon(stack, runtime, busybox):
    # It ends after the daemon's start: since 1.7 that collects shims whose processes have ended.
    waiting = "trap 'exit 9' TERM; while :; do sleep 0.1; done"
    stack.ctr("run", "-d", "--runtime", runtime, busybox, "s1", "sh", "-c", waiting)
    stack.ctr("run", "-d", "--runtime", runtime, busybox, "s2", "sleep", "100")
    stack.stop(9)
    stack.start()
    assert stack.status_of("s2") == "RUNNING"
    assert stack.ctr("task", "exec", "--exec-id", "e", "s2", "echo", "still").stdout == "still\n"
    stack.ctr("task", "kill", "s1")
    wait_until(lambda: stack.status_of("s1") == "STOPPED")
    assert "exit code 9" in stack.ctr("task", "rm", "s1", check=False).stderr
    stack.ctr("container", "rm", "s1")
    stack.remove("s2")


def test_a_killed_shim_is_cleaned_up(stack, runtime, busybox):
    stack.ctr("run", "-d", "--runtime", runtime, busybox, "k1", "sleep", "100")
    pid = stack.pid_of("k1")
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, 9)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    wait_until(lambda: not Path(f"{stack.root}/s/{folder(runtime)}/default/k1").exists())
    stack.ctr("container", "rm", "k1")


def test_a_shim_that_died_while_the_daemon_was_away(stack, runtime, busybox):
    stack.ctr("run", "-d", "--runtime", runtime, busybox, "k2", "sleep", "100")
    pid = stack.pid_of("k2")
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    stack.stop(9)
    os.kill(shim, 9)
    stack.start()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    wait_until(lambda: stack.status_of("k2") == "")
    stack.ctr("container", "rm", "k2")


def test_a_shim_whose_task_was_deleted_while_the_daemon_died_ends(stack, busybox):
    stack.ctr("run", "-d", "--runtime", LINUX, busybox, "d1", "sleep", "100")
    shim = int(Path(f"/proc/{stack.pid_of('d1')}/stat").read_text().rpartition(")")[2].split()[1])
    address = Path(f"{stack.root}/s/{LINUX}/default/d1/address").read_text()
    stack.stop(9)
    # As far as a daemon gets that dies between the two calls of a deletion.
    with Client.connect(address) as client:
        for method, request in (
            ("Kill", shim_v1.KillRequest(id="d1", signal=9)),
            ("Wait", shim_v1.WaitRequest(id="d1")),
            ("Delete", wkt.Empty()),
        ):
            client.call(shim_v1.SHIM.name, method, request.SerializeToString(), timeout_s=10)
    stack.start()
    if stack.kind == "real":
        os.kill(shim, 9)  # containerd 1.6 leaves it running
    wait_until(lambda: not Path(f"/proc/{shim}").exists())
    wait_until(lambda: stack.status_of("d1") == "")
    wait_until(lambda: not Path(address.removeprefix("unix://")).exists())
    stack.ctr("container", "rm", "d1")


def shim_of(pid: int) -> int:
    """The parent of a container's init."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_shim_goes_where_shim_cgroup_says_and_its_container_does_not(stack, rootfs):
    name = f"shims-{os.getpid()}"
    folders = [path / name for path in Path("/sys/fs/cgroup").iterdir() if (path / "tasks").exists()]
    for path in folders:
        if not path.parent.is_symlink():
            path.mkdir()
            if path.parent.name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (path / file).write_text((path.parent / file).read_text())
    create = ("container", "create", "--rootfs", "--runtime", LINUX, str(rootfs))
    try:
        with grpc.insecure_channel(f"unix://{stack.address}") as channel:
            for id, wanted in (("g1", f"/{name}"), ("g2", "/nowhere")):
                stack.ctr(*create, id, "/bin/sleep", "100")
                given = runctypes.CreateOptions(shim_cgroup=wanted).SerializeToString()
                options = full_wkt.Any(type_url="containerd.linux.runc.CreateOptions", value=given)
                request = tasks_v1.CreateTaskRequest(container_id=id, options=options)
                code, text, answer = call(channel, tasks_v1.TASKS, "Create", request)
                if id == "g2":
                    # cgroups.Load of a path that is nowhere says so.
                    assert (code, text.endswith("cgroup deleted")) == ("UNKNOWN", True), text
                    continue
                assert (code, text) == ("OK", "")
                shim = shim_of(answer.pid)
                where = Path(f"/proc/{shim}/cgroup").read_text().splitlines()
                assert {line.split(":")[1] for line in where if line.endswith(f"/{name}")} >= {
                    "pids",
                    "memory",
                }
                assert f"/{name}" not in Path(f"/proc/{answer.pid}/cgroup").read_text()
        assert stack.status_of("g2") == ""
        assert not Path(f"{stack.root}/s/{LINUX}/default/g2").exists()
        stack.remove("g1")
        wait_until(lambda: not Path(f"/proc/{shim}").exists())
    finally:
        for id in ("g1", "g2"):
            stack.ctr("task", "rm", "-f", id, check=False)
            stack.ctr("container", "rm", id, check=False)
        for path in folders:
            if path.is_dir():
                path.rmdir()


def delete_record(stack, id: str) -> None:
    """Of a container whose task runs, which no ctr would do."""
    with grpc.insecure_channel(f"unix://{stack.address}") as channel:
        request = containers_v1.DeleteContainerRequest(id=id)
        assert call(channel, containers_v1.CONTAINERS, "Delete", request)[0] == "OK"


def test_a_task_whose_record_is_gone_goes_on(stack, busybox):
    stack.ctr("run", "-d", "--runtime", LINUX, busybox, "lost", "sleep", "100")
    pid = stack.pid_of("lost")
    delete_record(stack, "lost")
    stack.stop(9)
    stack.start()
    assert stack.status_of("lost") == "RUNNING"
    spec = stack.root / "lost.json"
    spec.write_text(Path(f"{stack.root}/s/{LINUX}/default/lost/config.json").read_text())
    stack.ctr("container", "create", "--runtime", LINUX, "--config", str(spec), "lost")
    stack.remove("lost")
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("shims_of", ["stock", "ours"])
@pytest.mark.parametrize("how", ["its shim hangs until it is killed", "its shim is dead and its record gone"])
def test_a_bundle_that_nobody_speaks_for_any_more_is_cleaned_up(shims_of, how, busybox):
    """Ours alone: containerd 1.6 asks a shim of this runtime nothing when it starts and waits for it later on, and
    doesn't know by which runtime to end a container without a record.
    """
    root = Path(tempfile.mkdtemp(prefix="pv", dir="/tmp"))
    stack = Generations(root, "ours", shims_of)
    stack.extra += '[timeouts]\n"io.containerd.timeout.shim.load" = "1s"\n'
    stack.start()
    hangs = how == "its shim hangs until it is killed"
    try:
        stack.ctr("image", "pull", "--plain-http", busybox)
        stack.ctr("run", "-d", "--runtime", LINUX, busybox, "hung", "sleep", "100")
        pid = stack.pid_of("hung")
        shim = shim_of(pid)
        address = Path(f"{root}/s/{LINUX}/default/hung/address").read_text()
        if not hangs:
            delete_record(stack, "hung")
        stack.stop(9)
        os.kill(shim, signal.SIGSTOP if hangs else signal.SIGKILL)
        stack.start()
        if hangs:
            assert stack.status_of("hung") == "UNKNOWN"
            os.kill(pid, 0)
            os.kill(shim, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{shim}").exists())
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        wait_until(lambda: stack.status_of("hung") == "")
        assert not Path(f"{root}/s/{LINUX}/default/hung").exists()
        assert not Path(address.removeprefix("unix://")).exists()
        assert not Path("/run/containerd/runc/default/hung").exists()
        stack.ctr("container", "rm", "hung", check=hangs)
    finally:
        stack.clean()
        shutil.rmtree(root)  # noqa: TID251 - a folder of the test's own


@pytest.mark.parametrize(
    ("shim", "text"),
    [
        ("/bin/false", "failed to start shim: shim /bin/false does not answer: "),
        ("containerd-shim-nowhere", 'exec: "containerd-shim-nowhere": executable file not found in $PATH'),
    ],
)
def test_a_shim_that_does_not_run_leaves_nothing(shim, text, busybox):
    root = Path(tempfile.mkdtemp(prefix="pv", dir="/tmp"))
    sockets = set(os.listdir("/run/containerd/s")) if os.path.isdir("/run/containerd/s") else set()
    stack = Stack(root, kind="ours", extra=f'[plugins."{LINUX}"]\n  shim = "{shim}"\n').start()
    try:
        stack.ctr("image", "pull", "--plain-http", busybox)
        done = stack.ctr("run", "--rm", "--runtime", LINUX, busybox, "none", "true", check=False)
        assert done.returncode == 1
        assert text in done.stderr
        assert not os.listdir(f"{root}/s/{LINUX}/default")
        assert not os.listdir(f"{root}/r/{LINUX}/default")
        assert set(os.listdir("/run/containerd/s")) <= sockets
        children = Path(f"/proc/{stack.pid()}/task/{stack.pid()}/children").read_text().split()
        wait_until(
            lambda: not any("Z (zombie)" in Path(f"/proc/{pid}/status").read_text() for pid in children)
        )
    finally:
        stack.clean()
        shutil.rmtree(root)  # noqa: TID251 - a folder of the test's own
