"""The forkserver's promises: one shim per id, nothing frozen goes along, shims outlive it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from pycontainerd.daemon.core.blocking import Pools
from pycontainerd.daemon.plugins.runtime_v2.binary import OWN_SHIM
from pycontainerd.daemon.plugins.runtime_v2.forkserver import ForkserverStarter
from pycontainerd.daemon.plugins.runtime_v2.starter import ShimCommand
from pycontainerd.lib import errdefs, launcher, spawn
from pycontainerd.lib.log import Logger
from support import patience, shims


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory):
    return shims.make_rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture
def client():
    made = spawn.SpawnClient.start()
    yield made
    made.close()
    os.waitpid(made.pid, 0)


@pytest.fixture
def shim(client, rootfs):
    with tempfile.TemporaryDirectory(prefix="shim", dir="/tmp") as path:
        under_test = shims.ForkedShim(Path(path), rootfs)
        under_test.forkserver = client
        under_test.write_spec("/bin/sleep", "100")
        yield under_test
        under_test.close()


def request_for(shim: shims.ForkedShim, **more) -> spawn.ShimRequest:
    return spawn.ShimRequest("r1", shim.start_argv(), shim.environment(), str(shim.bundle), **more)


# Of status, limits and oom_score_adj: what both processes of a shim have from the request.
_INHERITED = ("Umask", "Cpus_allowed", "SigBlk", "Max ", "3")


def opened(pid: int) -> list[str]:
    """What a process has open, without numbers."""
    names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return sorted(name.partition(":")[0] for name in names)


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def test_same_id_twice_is_one_shim(client, shim) -> None:
    first, second = (client.spawn_shim(request_for(shim)) for _ in range(2))
    assert (first.pid, first.output) == (second.pid, second.output)
    for each in (first, second):
        os.close(each.pidfd)
    shim.connect(first.output.decode())


def test_two_requests_at_once_get_the_one_answer(client, shim) -> None:
    pending = [client.request(request_for(shim)) for _ in range(2)]
    deadline = time.monotonic() + 10
    while not all(each.done for each in pending) and time.monotonic() < deadline:
        client.pump()
        time.sleep(0.005)
    pids = {each.result().pid for each in pending}
    for each in pending:
        os.close(each.result().pidfd)
    assert len(pids) == 1
    shim.connect(pending[0].result().output.decode())


def test_shim_outlives_the_forkserver(rootfs, shim, client) -> None:
    shim.start()
    shim.call("Create", id=shim.id, bundle=str(shim.bundle), options=shims.anys.pack(shim.options()))
    os.kill(client.pid, 9)
    with pytest.raises(errdefs.Unavailable):
        client.spawn_shim(spawn.ShimRequest("r2", shim.start_argv(), {}, "/"))
    shim.call("Start", id=shim.id)
    shim.exec("e1", "/bin/true")
    assert shim.call("Wait", id=shim.id, exec_id="e1").exit_status == 0
    assert int(proc(shim.pid, "stat").rpartition(")")[2].split()[1]) == 1  # nobody's child but init's


def test_child_has_the_state_of_its_request_and_no_stray_descriptor(client, shim) -> None:
    limits = {**spawn.current_limits(), 7: (512, 600)}
    spawned = client.spawn_shim(
        request_for(shim, umask=0o027, limits=limits, nice=5, affinity=[0], oom_score_adj=321)
    )
    os.close(spawned.pidfd)
    shim.connect(spawned.output.decode())
    deadline = time.monotonic() + patience.seconds(5)
    while "pycontainerd-fo" in proc(shim.pid, "comm") and time.monotonic() < deadline:
        time.sleep(0.005)  # the keeper gets the looks of a shim when its attendant has told it
    status = proc(shim.pid, "status")
    assert "Umask:\t0027\n" in status
    assert "Threads:\t1\n" in status
    assert "SigBlk:\t0000000000000000\n" in status
    assert "Cpus_allowed_list:\t0\n" in status
    assert os.getpriority(os.PRIO_PROCESS, shim.pid) == 5
    assert proc(shim.pid, "oom_score_adj") == "321\n"
    assert "Max open files            512                  600" in proc(shim.pid, "limits")
    assert os.readlink(f"/proc/{shim.pid}/cwd") == str(shim.bundle)
    assert os.getsid(shim.pid) != os.getsid(client.pid)
    # Three streams, a signal pipe, and the link between the two.
    assert opened(shim.pid) == sorted(["/dev/null"] * 3 + ["pipe"] * 2 + ["socket"])
    # Three streams, listener, log, epoll, a signal pipe, this connection, the link, the channel.
    attendant = shims.attendant_of(shim.pid)
    assert opened(attendant) == sorted(
        ["/dev/null"] * 3 + ["socket"] * 4 + ["pipe"] * 2 + ["anon_inode", str(shim.bundle / "log")]
    )
    for name in ("status", "limits", "oom_score_adj"):
        same = [line for line in proc(attendant, name).splitlines() if line.startswith(_INHERITED)]
        assert same == [line for line in proc(shim.pid, name).splitlines() if line.startswith(_INHERITED)]


def test_forkserver_itself_is_single_threaded_and_no_subreaper(client, shim) -> None:
    shim.start()
    assert "Threads:\t1\n" in proc(client.pid, "status")
    # Streams, control, the pidfd and the channel of a living shim, two ends of the one in reserve.
    assert len(os.listdir(f"/proc/{client.pid}/fd")) <= 9


def pidfds(client) -> int:
    found = 0
    for fd in os.listdir(f"/proc/{client.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it forks a shim in reserve just now
            found += "pidfd" in os.readlink(f"/proc/{client.pid}/fd/{fd}")
    return found


def test_an_ended_shim_is_forgotten_and_its_id_free_again(client, shim) -> None:
    first = client.spawn_shim(request_for(shim))
    assert pidfds(client) == 1
    os.kill(first.pid, 9)
    os.close(first.pidfd)
    deadline = time.monotonic() + 5
    while pidfds(client) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pidfds(client) == 0
    second = client.spawn_shim(request_for(shim))
    os.close(second.pidfd)
    assert second.pid != first.pid
    shim.connect(second.output.decode())


def test_failure_says_why_and_leaves_nothing(client, shim) -> None:
    (shim.bundle / "config.json").unlink()
    with pytest.raises(errdefs.Unknown, match=r"config\.json"):
        client.spawn_shim(request_for(shim))
    shim.write_spec("/bin/sleep", "100")
    shim.start()  # the same forkserver goes on


def test_another_build_is_refused_as_stale(client, shim) -> None:
    client._build = "older"
    with pytest.raises(errdefs.FailedPrecondition) as caught:
        client.spawn_shim(request_for(shim))
    assert spawn.is_stale(caught.value)


def test_request_too_large_is_refused_by_the_client(client, shim) -> None:
    with pytest.raises(errdefs.ResourceExhausted):
        client.request(spawn.ShimRequest("big", ["x"], {"A": "x" * (200 << 10)}, "/"))


def test_the_shim_in_reserve_is_replaced_when_it_was_killed(client, shim) -> None:
    """What the forkserver forked before anybody asked may be gone by then; the request is served all the same."""
    deadline = time.monotonic() + 5
    while not (spare := _in_reserve(client.pid)):
        assert time.monotonic() < deadline, "no shim was held in reserve"
        time.sleep(0.01)
    for pid in spare:
        os.kill(pid, signal.SIGKILL)
    while any(_is_alive(pid) for pid in spare):
        assert time.monotonic() < deadline
    shim.start()
    assert shim.pid not in spare


def test_the_shim_in_reserve_leaves_with_the_forkserver() -> None:
    with spawn.SpawnClient.start() as client:
        deadline = time.monotonic() + 5
        while not (spare := _in_reserve(client.pid)):
            assert time.monotonic() < deadline, "no shim was held in reserve"
            time.sleep(0.01)
    os.waitpid(client.pid, 0)
    while any(os.path.exists(f"/proc/{pid}") for pid in spare):
        assert time.monotonic() < deadline, f"{spare} outlived the forkserver"
        time.sleep(0.01)


def _in_reserve(forkserver_pid: int) -> list[int]:
    """The attendant at the other end of its pipe: forked by it, and not yet anybody's shim's."""
    pipes = _pipes(forkserver_pid)
    others = (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != forkserver_pid)
    return [pid for pid in others if ": attends to " in _command_line(pid) and pipes & _pipes(pid)]


def _is_alive(pid: int) -> bool:
    try:
        return proc(pid, "stat").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _command_line(pid: int) -> str:
    try:
        return proc(pid, "cmdline")
    except OSError:  # it has ended meanwhile
        return ""


def _pipes(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for name in os.listdir(f"/proc/{pid}/fd"):
            if int(name) > 2:
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return {target for target in found if target.startswith("pipe:")}


@pytest.fixture
def lives(client, rootfs):
    """Runs a container in a shim of this forkserver, from its start to its end; gives the shim's pid."""
    with contextlib.ExitStack() as stack:

        def live(
            number: int, *, during=lambda shim: None, spec=lambda spec: None, environment=(), **more
        ) -> int:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="life", dir="/tmp"))
            shim = shims.ForkedShim(Path(folder), rootfs)
            shim.forkserver = client
            stack.callback(shim.close)
            shim.write_spec("/bin/sleep", "100")
            config = shim.bundle / "config.json"
            document = json.loads(config.read_text())
            spec(document)
            config.write_text(json.dumps(document))
            wanted = {**shim.environment(), **dict(environment)}
            request = spawn.ShimRequest(f"life{number}", shim.start_argv(), wanted, str(shim.bundle), **more)
            spawned = client.spawn_shim(request)
            os.close(spawned.pidfd)
            shim.connect(spawned.output.decode())
            shim.call("Create", id=shim.id, bundle=str(shim.bundle), options=shims.anys.pack(shim.options()))
            shim.call("Start", id=shim.id)
            during(shim)
            shim.call("Kill", id=shim.id, signal=9)
            shim.call("Wait", id=shim.id)
            shim.call("Delete", id=shim.id)
            shim.call("Shutdown", id=shim.id)
            return spawned.pid

        yield live


def comes_back(client, pid: int) -> bool:
    """Whether a shim that has just ended waits for another request: neither dead nor still a shim."""
    deadline = time.monotonic() + patience.seconds(5)
    while time.monotonic() < deadline:
        if not _is_alive(pid):
            return False
        if "a shim in reserve" in _command_line(pid) and pidfds(client) == 0:
            return True
        time.sleep(0.002)
    raise AssertionError(f"shim {pid} neither left nor came back: {_command_line(pid)}")


def test_an_ended_shim_comes_back_as_the_next_one_with_nothing_of_the_last(client, lives) -> None:
    first = lives(1, environment={"LAST": "secret"}.items(), umask=0o077)
    assert comes_back(client, first)
    assert os.readlink(f"/proc/{first}/cwd") == "/"
    seen = {}

    def look(shim) -> None:
        attendant = shims.attendant_of(shim.pid)
        seen["line"] = _command_line(shim.pid)
        seen["cwd"] = {os.readlink(f"/proc/{pid}/cwd") for pid in (shim.pid, attendant)} == {str(shim.bundle)}
        seen["umask"] = ["Umask:\t0022\n" in proc(pid, "status") for pid in (shim.pid, attendant)]
        seen["fds"] = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (shim.pid, attendant)]
        seen["id"] = shim.id

    second = lives(2, during=look)
    assert second == first
    assert f"-id {seen['id']}" in seen["line"].replace("\0", " ")
    assert seen["cwd"] and seen["umask"] == [True, True]
    # As a new one's, above; two ends of the OOM watch and three of the exec FIFO's kind come with a container.
    assert seen["fds"][0] == 6
    third_fds = []
    assert comes_back(client, second)
    lives(
        3, during=lambda shim: third_fds.append(len(os.listdir(f"/proc/{shims.attendant_of(shim.pid)}/fd")))
    )
    assert third_fds == seen["fds"][1:]  # none is left by any life


def test_what_was_said_to_the_last_one_is_not_in_the_next_ones_environment(client, lives, short_tmp) -> None:
    sockets = []

    def look(shim) -> None:
        sockets.append((shim.bundle / "address").read_text())

    said = {"PYCONTAINERD_SHIM_SOCKET_DIR": str(short_tmp)}
    first = lives(1, environment=said.items(), during=look)
    assert comes_back(client, first)
    assert lives(2, during=look) == first
    assert [str(short_tmp) in socket for socket in sockets] == [True, False]


@pytest.mark.parametrize(
    "more",
    [{"nice": 7}, {"affinity": [0]}, {"limits": {**spawn.current_limits(), 7: (512, 600)}}],
    ids=lambda more: next(iter(more)),
)
def test_one_that_was_placed_elsewhere_does_not_come_back(client, lives, more) -> None:
    if more == {"affinity": sorted(os.sched_getaffinity(0))}:
        pytest.skip("this machine has one processor")
    first = lives(1, **more)
    assert not comes_back(client, first)


def test_one_with_another_oom_score_is_not_taken(client, lives) -> None:
    first = lives(1, oom_score_adj=300)
    assert comes_back(client, first)
    assert lives(2, oom_score_adj=200) != first
    assert lives(3, oom_score_adj=300) == first


def test_one_that_has_rested_does_not_come_back(client, lives) -> None:
    def rest(shim) -> None:
        deadline = time.monotonic() + patience.seconds(5)
        while shims.attendant_of(shim.pid):
            assert time.monotonic() < deadline, "it does not rest"
            time.sleep(0.01)

    first = lives(1, during=rest, environment={"PYCONTAINERD_SHIM_QUIET_S": "0.05"}.items())
    assert not comes_back(client, first)


def holds(pid: int, text: bytes) -> bool:
    """Whether a process's memory has it anywhere."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            words = line.split()
            if words[1].startswith("rw") and not words[-1].startswith("[v"):
                start, end = (int(word, 16) for word in words[0].split("-"))
                if text in os.pread(memory.fileno(), end - start, start):
                    return True
    return False


@contextlib.contextmanager
def traced(pid: int, lines: list[str]):
    """What a process and all that it starts execute, and which namespaces they enter, in order."""
    with tempfile.NamedTemporaryFile(mode="r") as out:
        argv = ["strace", "-f", "-o", out.name, "-e", "trace=execve,setns,clone3", "-p", str(pid)]
        tracer = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline()
        yield
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
        lines += out.read().splitlines()


@pytest.mark.requires("strace")
@pytest.mark.parametrize("lives_before", [0, 1])
def test_what_others_can_look_into_begins_without_the_memory_of_an_earlier_container(
    client, lives, lives_before
) -> None:
    """An exec is born among the container's processes, and CAP_SYS_PTRACE sees all of one before its execve."""
    secret = os.urandom(16).hex()
    many = [f"P{number}={'x' * (number % 400)}{secret}" for number in range(2000)]  # of all sizes
    for number in range(lives_before):
        assert comes_back(
            client, first := lives(number, spec=lambda spec: spec["process"]["env"].extend(many))
        )
        assert holds(shims.attendant_of(first), secret.encode())  # else this test would show nothing
    lines: list[str] = []

    def look(shim) -> None:
        with traced(shims.attendant_of(shim.pid), lines):
            shim.exec("e1", "/bin/true")
            assert shim.call("Wait", id=shim.id, exec_id="e1").exit_status == 0

    lives(lives_before, during=look)
    runtime = [at for at, line in enumerate(lines) if "execve(" in line and "pyrunc" in line]
    entered = [at for at, line in enumerate(lines) if "setns(" in line]
    assert entered, lines
    if lives_before:  # a program of its own by then
        assert runtime and runtime[0] < entered[0], lines
    else:
        assert not runtime, lines


def test_one_that_came_back_leaves_the_second_exec_to_the_next_attendant(client, lives) -> None:
    """However busy it is kept: what it has `pyrunc` do takes three times as long."""
    first = lives(1)
    assert comes_back(client, first)
    attendants: list[int] = []

    def keep_busy(shim) -> None:
        deadline = time.monotonic() + patience.seconds(10)
        while len(set(attendants)) < 2:
            assert time.monotonic() < deadline, (
                "it waits for a tenth of a second in which nobody asks for anything"
            )
            attendants.append(shims.attendant_of(shim.pid))
            name = f"e{len(attendants)}"
            shim.exec(name, "/bin/true")
            assert shim.call("Wait", id=shim.id, exec_id=name).exit_status == 0
            # Never as long as one that isn't in a hurry waits for, but on a slow machine longer than telling of the end takes.
            time.sleep(min(0.02 + 0.002 * len(attendants), 0.08))

    assert lives(2, during=keep_busy) == first


@pytest.mark.requires("strace")
def test_a_joined_pid_namespace_is_entered_by_a_program_of_its_own(client, lives) -> None:
    first = lives(1)
    assert comes_back(client, first)

    def join(spec) -> None:
        for each in spec["linux"]["namespaces"]:
            if each["type"] == "pid":
                each["path"] = f"/proc/{os.getpid()}/ns/pid"

    lines: list[str] = []
    with traced(shims.attendant_of(first), lines):
        assert lives(2, spec=join) == first
    runtime = [at for at, line in enumerate(lines) if "execve(" in line and "pyrunc" in line]
    entered = [at for at, line in enumerate(lines) if "setns(" in line or "CLONE_NEW" in line]
    assert runtime and entered and runtime[0] < entered[0], lines


def test_those_that_came_back_leave_when_nobody_wants_them(client, lives) -> None:
    first = lives(1)
    assert comes_back(client, first)
    attendant = shims.attendant_of(first)
    deadline = time.monotonic() + patience.seconds(10)
    while any(_is_alive(pid) for pid in (first, attendant)):
        assert time.monotonic() < deadline, "it stays in reserve for good"
        time.sleep(0.05)
    assert lives(2) != first


def test_one_that_came_back_and_was_killed_is_not_asked(client, lives) -> None:
    first = lives(1)
    assert comes_back(client, first)
    attendant = shims.attendant_of(first)
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + patience.seconds(5)
    while _is_alive(attendant):
        assert time.monotonic() < deadline, "it outlived its keeper"
    assert lives(2) != first


def test_those_that_came_back_leave_with_the_forkserver(rootfs, client, lives) -> None:
    first = lives(1)
    assert comes_back(client, first)
    os.kill(client.pid, signal.SIGKILL)
    deadline = time.monotonic() + patience.seconds(5)
    while _is_alive(first):
        assert time.monotonic() < deadline, "it outlived the forkserver"
        time.sleep(0.01)


def test_a_forkserver_whose_end_is_noticed_by_a_request_is_replaced_at_once(shim) -> None:
    """The new one's socket has the number of the old one's, and the daemon's loop must not take it for that."""
    command = ShimCommand(
        binary=launcher.path(OWN_SHIM),
        namespace=shims.NAMESPACE,
        id=shim.id,
        bundle=str(shim.bundle),
        address=shim.grpc_address,
        ttrpc_address=shim.environment()["TTRPC_ADDRESS"],
        publish_binary="/bin/false",
    )

    async def story() -> str:
        pools = Pools()
        starter = ForkserverStarter(pools, Logger(2))
        await starter.warm()
        pid = (await starter._connected()).pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        try:
            # Well below the time after which it gives up on a forkserver.
            async with asyncio.timeout(patience.seconds(5)):
                return (await starter.start(command, None)).address
        finally:
            await starter.close()
            pools.close()

    shim.connect(asyncio.run(story()))
