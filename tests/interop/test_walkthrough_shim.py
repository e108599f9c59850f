"""What a person who follows the classic containerd notes sees, id by id: the shim (S011, S041-S044, S058-S080).

Debian's daemon with its shim first, then ours with ours. What only the shim writes (S072) has its tests with the shim's.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from pycontainerd.lib import errdefs
from pycontainerd.lib.api.light import events, runc_v1, task_v2, wkt
from pycontainerd.lib.ttrpc.client import Client
from support.programs import ours, peer, peer_environment
from support.walkthrough import Pair, RecordingShim, TaskCapture, open_pair, own_stack, wait_until

pytestmark = [pytest.mark.requires("root", "overlayfs", "cgroup_v1"), pytest.mark.timeout(60)]

STAMP = r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)"'


@pytest.fixture(scope="module", params=["real", "ours"])
def pair(request: pytest.FixtureRequest, busybox: str):
    """A client and a daemon of one kind, whose shim writes down its command lines."""
    kind = request.param
    program = peer("containerd-shim-runc-v2") if kind == "real" else ours("containerd-shim-pyrunc-v2")
    with own_stack(kind, program) as (stack, recorder), open_pair(stack, busybox) as pair:
        pair.recorder = recorder  # type: ignore[attr-defined]
        pair("run", "-d", busybox, "w1", "sleep", "1000")
        yield pair


@pytest.fixture(scope="module", params=["real", "ours"])
def captured(request: pytest.FixtureRequest, busybox: str):
    """The daemon's first requests to a shim that only listens: without a terminal, and with one."""
    with own_stack(request.param, "") as (stack, recorder):
        pair = Pair(stack)
        pair("image", "pull", "--plain-http", busybox)
        yield stack, {name: create_request(pair, recorder, busybox, name) for name in ("plain", "terminal")}


def create_request(pair: Pair, recorder: RecordingShim, image: str, name: str) -> task_v2.CreateTaskRequest:
    """What the daemon asks the shim for when the container `name` is run."""
    Path(recorder.socket).unlink(missing_ok=True)
    capture = TaskCapture(recorder.socket)
    master_fd, slave_fd = pty.openpty()  # a client asks for a terminal of its own
    words = ["run", "-d", *(["-t"] if name == "terminal" else []), image, name, "sleep", "1"]
    try:
        failed = pair.stack.run(pair.client, *words, check=False, stdin=slave_fd)
    finally:
        os.close(master_fd)
        os.close(slave_fd)
        capture.close()
    pair.remove(name)
    assert "Create" in capture.requests, failed.stderr
    return task_v2.CreateTaskRequest.FromString(capture.requests["Create"])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children(pid: int) -> list[int]:
    return [int(name) for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def bundle(pair: Pair, id_: str = "w1") -> Path:
    return Path(f"{pair.stack.root}/s/io.containerd.runtime.v2.task/default/{id_}")


def overlay_options(pair: Pair) -> dict[str, str]:
    """The options of the mount that the container's init has as its root."""
    line = Path(f"/proc/{pair.pid('w1')}/mountinfo").read_text().splitlines()[0]
    assert " - overlay overlay " in line
    return dict(word.partition("=")[::2] for word in line.split()[-1].split(","))


def test_s058_no_runtime_stays(pair: Pair) -> None:
    shim = pair.shim("w1")
    wait_until(lambda: children(shim) == [pair.pid("w1")])
    assert parent(pair.pid("w1")) == shim


def test_s063_the_shim_is_a_subreaper(pair: Pair, busybox: str) -> None:
    # Without a pid namespace of its own, the container's orphans come to the shim.
    pair(
        "run",
        "-d",
        "--with-ns",
        f"pid:/proc/{pair.stack.pid()}/ns/pid",
        busybox,
        "w4",
        "sh",
        "-c",
        "(sleep 999 &) ; sleep 999",
    )
    shim, init = pair.shim("w4"), pair.pid("w4")
    wait_until(lambda: len(children(shim)) == 2)
    assert init in children(shim)
    pair.remove("w4")


def test_s064_s067_the_process_tree(pair: Pair) -> None:
    shim = pair.shim("w1")
    assert parent(shim) != pair.stack.pid()  # not below the daemon
    line = pair.stack.shims()[shim].removesuffix(" -debug")  # repeated where the daemon debugs
    assert re.fullmatch(
        rf"\S*containerd-shim-\w+-v2 -namespace default -id w1 -address {re.escape(pair.stack.address)}", line
    )


def test_s065_the_shim_is_a_program_of_its_own(pair: Pair) -> None:
    shim, daemon = pair.shim("w1"), pair.stack.pid()
    assert os.getpgid(shim) == shim != os.getpgid(daemon)
    names = {Path(f"/proc/{pid}/exe").stat().st_ino for pid in (shim, daemon)}
    assert len(names) == 2 or not pair.is_real  # ours have the one interpreter


def test_s066_s068_start_is_the_last_word(pair: Pair) -> None:
    (argv,) = [call for call in pair.recorder.calls("start") if "w1" in call]  # type: ignore[attr-defined]
    program = os.path.realpath(pair.stack.program)
    assert os.path.realpath(argv[5]) == program
    assert argv == [
        "-namespace", "default", "-address", pair.stack.address, "-publish-binary", argv[5], "-id", "w1", "-debug", "start",
    ]  # fmt: skip


def test_s011_the_publish_binary_publishes_from_an_empty_environment(pair: Pair) -> None:
    (argv,) = [call for call in pair.recorder.calls("start") if "w1" in call]  # type: ignore[attr-defined]
    assert argv[5].startswith("/")
    envelope = wkt.Any(
        type_url="containerd.events.TaskOOM", value=events.TaskOOM(container_id="c9").SerializeToString()
    ).SerializeToString()
    listener = subprocess.Popen(
        pair.stack.command("ctr", "events"), stdout=subprocess.PIPE, env=peer_environment()
    )
    assert listener.stdout is not None
    os.set_blocking(listener.stdout.fileno(), False)
    publish = [
        argv[5],
        "--address",
        pair.stack.address,
        "publish",
        "--topic",
        "/tasks/oom",
        "--namespace",
        "n9",
    ]
    try:
        heard = b""

        def is_heard() -> bool:
            nonlocal heard
            subprocess.run(publish, input=envelope, env={}, check=True, timeout=20)
            assert listener.stdout is not None
            heard += listener.stdout.read() or b""
            return b"n9 /tasks/oom" in heard

        wait_until(is_heard, 20)
    finally:
        listener.terminate()
        listener.wait()
        listener.stdout.close()
    assert b'"container_id":"c9"' in heard


def test_s069_s070_task_calls_over_ttrpc(pair: Pair) -> None:
    address = (bundle(pair) / "address").read_text()
    assert re.fullmatch(r"unix:///run/containerd/s/[0-9a-f]{64}", address)
    client = Client.connect(address.removeprefix("unix://"), timeout_s=5)
    try:
        request = task_v2.StateRequest(id="w1").SerializeToString()
        state = task_v2.StateResponse.FromString(client.call("containerd.task.v2.Task", "State", request))
        request = task_v2.StateRequest(id="nosuch").SerializeToString()
        with pytest.raises(errdefs.NotFound):
            client.call("containerd.task.v2.Task", "State", request)
    finally:
        client.close()
    assert (state.id, state.pid, state.status) == ("w1", pair.pid("w1"), 2)
    assert state.bundle == str(bundle(pair))


def test_s071_s073_lines_of_the_shim_are_in_the_daemons_log(pair: Pair) -> None:
    log = pair.stack.log.read_text()
    pattern = rf'^{STAMP} level=\w+ msg="starting signal loop" namespace=default path=\S+ pid=\d+ runtime=io\.containerd\.\w+\.v2$'
    assert re.search(pattern, log, re.MULTILINE)
    if not pair.is_real:  # Debian's shim has no such line any more
        assert re.search(rf'^{STAMP} level=\w+ msg="registering ttrpc server"', log, re.MULTILINE)


def test_s074_the_create_request(captured) -> None:
    stack, requests = captured
    request = requests["plain"]
    assert (request.id, request.terminal) == ("plain", False)
    assert request.bundle == f"{stack.root}/s/io.containerd.runtime.v2.task/default/plain"
    (mount,) = request.rootfs
    assert (mount.type, mount.source, mount.target) == ("overlay", "overlay", "")
    for name in ("stdin", "stdout", "stderr"):
        assert re.search(rf"/fifo/\d+/plain-{name}$", getattr(request, name))
    assert (request.checkpoint, request.parent_checkpoint) == ("", "")
    assert request.options.type_url == "containerd.runc.v1.Options"
    runc_v1.Options.FromString(request.options.value)


def test_s075_options_are_work_upper_lower_newest_first(captured) -> None:
    stack, requests = captured
    options = [word for word in requests["plain"].rootfs[0].options if not word.startswith("index=")]
    top = f"{stack.root}/r/io.containerd.snapshotter.v1.overlayfs/snapshots/"
    numbers = [re.findall(rf"{re.escape(top)}(\d+)/(\w+)", word) for word in options]
    assert [word.partition("=")[0] for word in options] == ["workdir", "upperdir", "lowerdir"]
    (work,), (upper,), lower = numbers
    assert (work[1], upper[1], work[0]) == ("work", "fs", upper[0])
    assert [int(number) for number, _ in lower] == sorted((int(n) for n, _ in lower), reverse=True)
    assert len(lower) == 2


def test_s075_the_mount_has_them(pair: Pair) -> None:
    options = overlay_options(pair)
    lower = [int(path.split("/")[-2]) for path in options["lowerdir"].split(":")]
    assert lower == sorted(lower, reverse=True)
    assert Path(options["upperdir"]).parent == Path(options["workdir"]).parent


def test_s076_a_snapshot_is_a_numbered_folder_with_fs_and_work(pair: Pair) -> None:
    folder = Path(overlay_options(pair)["upperdir"]).parent
    top = Path(f"{pair.stack.root}/r/io.containerd.snapshotter.v1.overlayfs/snapshots")
    assert folder.parent == top
    assert folder.name.isdigit()
    assert {path.name for path in folder.iterdir()} == {"fs", "work"}
    pair.inside("echo written > /tmp/written")
    assert (folder / "fs/tmp/written").read_text() == "written\n"


def test_s041_s077_the_bundle_and_its_rootfs(pair: Pair) -> None:
    assert {"config.json", "rootfs", "log", "init.pid", "work"} <= {p.name for p in bundle(pair).iterdir()}
    points = [line.split()[4] for line in Path(f"/proc/{pair.shim('w1')}/mountinfo").read_text().splitlines()]
    assert str(bundle(pair) / "rootfs") in points


def test_s042_s078_fifos_carry_stdio_and_nothing_else(pair: Pair) -> None:
    state = json.loads(pair("shim", "--id", "w1", "state").stdout)
    folder = Path(state["stdout"]).parent
    assert {path.name for path in folder.iterdir()} == {"w1-stdin", "w1-stdout", "w1-stderr"}
    assert all(stat.S_ISFIFO(path.stat().st_mode) for path in folder.iterdir())


def test_s079_a_terminal_has_no_stderr(captured) -> None:
    request = captured[1]["terminal"]
    assert (request.terminal, request.stderr) == (True, "")
    assert request.stdout.endswith("-stdout")


def test_s080_sigusr1_dumps_the_stacks_into_the_daemons_log(pair: Pair) -> None:
    os.kill(pair.shim("w1"), signal.SIGUSR1)
    wait_until(lambda: re.search(r"=== BEGIN (goroutine )?stack dump ===", pair.stack.log.read_text()))
    assert "RUNNING" in pair("task", "ls").stdout


def test_s068_delete_is_the_last_word_of_the_clean_up(pair: Pair, busybox: str) -> None:
    pair("run", "-d", busybox, "w5", "sleep", "1000")
    os.kill(pair.shim("w5"), signal.SIGKILL)
    wait_until(lambda: any("w5" in call for call in pair.recorder.calls("delete")))  # type: ignore[attr-defined]
    (argv,) = [call for call in pair.recorder.calls("delete") if "w5" in call]  # type: ignore[attr-defined]
    assert argv[argv.index("-bundle") + 1] == str(bundle(pair, "w5"))
    wait_until(lambda: not bundle(pair, "w5").exists())
    pair.remove("w5")


def test_s044_kill_sends_term_which_a_shell_may_ignore(pair: Pair, busybox: str) -> None:
    pair("run", "-d", busybox, "w6", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    wait_until(lambda: "SigIgn" in pair.inside("cat /proc/1/status", "w6"))
    pair("task", "kill", "w6")
    assert re.search(r"w6 +\d+ +RUNNING", pair("task", "ls").stdout)
    pair("task", "kill", "-s", "KILL", "w6")
    wait_until(lambda: re.search(r"w6 +\d+ +STOPPED", pair("task", "ls").stdout))
    pair.remove("w6")
