"""The shim of io.containerd.runtime.v1.linux: Debian's containerd-shim and ours, call by call (S005)."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from pycontainerd.lib import errdefs
from pycontainerd.lib.api.anys import is_type
from pycontainerd.lib.api.light import runctypes, shim_v1, wkt
from support import linux_shims, programs, shims
from support.walkthrough import wait_until

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4

pytestmark = [pytest.mark.requires("root", "cgroup_v1"), pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shims.make_rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture(params=["stock", "ours"])
def shim(request: pytest.FixtureRequest, rootfs: Path):
    with tempfile.TemporaryDirectory(prefix="shim", dir="/tmp") as folder:
        made = linux_shims.LinuxShim(Path(folder), rootfs, request.param)
        yield made
        made.close()


def refused(
    shim: linux_shims.LinuxShim, error: type[errdefs.ContainerdError], text: str, method: str, **fields
) -> None:
    with pytest.raises(error) as caught:
        shim.call(method, **fields)
    assert (type(caught.value), str(caught.value)) == (error, text), method


def test_s005_the_life_of_a_container_and_only_its_exit_is_published(shim):
    streams = shim.create("/bin/sh", "-c", "echo hello; exit 42")
    assert shim.status() == CREATED
    started = shim.call("Start", id=shim.id)
    waited = shim.call("Wait", id=shim.id)
    assert (started.id, waited.exit_status, shim.status()) == (shim.id, 42, STOPPED)
    deleted = shim.call("Delete")
    assert (deleted.pid, deleted.exit_status, deleted.exited_at) == (started.pid, 42, waited.exited_at)
    assert streams.read_all() == b"hello\n"
    ((words, event),) = shim.published()
    assert words == f"--address {shim.grpc_address} publish --topic /tasks/exit --namespace suite"
    assert (event.container_id, event.id, event.pid, event.exit_status) == (shim.id, shim.id, started.pid, 42)
    assert event.exited_at == waited.exited_at


def test_files_in_the_bundle_and_the_runtimes_state(shim):
    shim.run("/bin/sleep", "100")
    # log.json is a runtime program's.
    assert set(os.listdir(shim.bundle)) - {"log.json"} == {"config.json", "init.pid", "log"}
    assert os.listdir(shim.folder / "runc/suite") == [shim.id]
    listed = subprocess.run(
        [programs.peer("runc"), "--root", shim.folder / "runc/suite", "state", shim.id],
        capture_output=True, text=True, env=programs.peer_environment(), check=True,
    )  # fmt: skip
    assert '"status": "running"' in listed.stdout


def test_the_command_line_is_what_ps_shows(shim):
    shim.run("/bin/true")
    argv = Path(f"/proc/{shim.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    assert [word.decode() for word in argv] == [shim.program, *shim.flags()]


def test_a_container_is_the_shims_child(shim):
    shim.run("/bin/sleep", "100")
    status = Path(f"/proc/{shim.call('State', id=shim.id).pid}/status").read_text()
    assert f"PPid:\t{shim.pid}\n" in status


def test_nothing_is_there_before_create(shim):
    shim.write_spec("/bin/true")
    shim.start()
    for method in ("Delete", "Pause", "Resume", "ListPids", "Kill", "Update", "Checkpoint", "Exec"):
        refused(shim, errdefs.FailedPrecondition, "container must be created: failed precondition", method)
    for method in ("State", "Start", "Wait", "CloseIO", "DeleteProcess"):
        refused(shim, errdefs.NotFound, "process c1 does not exist: not found", method, id="c1")
    refused(shim, errdefs.Unknown, "process does not exist c1", "ResizePty", id="c1")


def test_forbidden_verbs_say_why(shim):
    shim.create("/bin/sleep", "100")
    refused(shim, errdefs.NotFound, "process nope does not exist: not found", "State", id="nope")
    refused(shim, errdefs.NotFound, "process  does not exist: not found", "State")
    refused(
        shim,
        errdefs.InvalidArgument,
        "cannot delete init process with DeleteProcess",
        "DeleteProcess",
        id="c1",
    )
    refused(shim, errdefs.Unknown, "cannot pause task in created state", "Pause")
    shim.call("Start", id=shim.id)
    refused(shim, errdefs.Unknown, "cannot start a running process", "Start", id=shim.id)
    refused(shim, errdefs.Unknown, "cannot delete a running process", "Delete")
    refused(shim, errdefs.Unknown, "cannot resume a running process", "Resume")
    refused(shim, errdefs.AlreadyExists, "id c1: already exists", "Exec", id="c1")
    shim.call("Kill", signal=9)
    shim.call("Wait", id=shim.id)
    refused(shim, errdefs.Unknown, "cannot start a stopped process", "Start", id=shim.id)
    refused(shim, errdefs.NotFound, "process already finished: not found", "Kill", signal=9)
    shim.call("Delete")
    refused(shim, errdefs.FailedPrecondition, "container must be created: failed precondition", "Delete")


def test_pause_and_resume(shim):
    shim.run("/bin/sleep", "100")
    shim.call("Pause")
    assert shim.status() == PAUSED
    with pytest.raises(errdefs.Unknown, match=r"^cannot exec in a paused state$"):
        shim.add_exec("p", "/bin/true")
    shim.call("Resume")
    assert shim.status() == RUNNING


def test_limits_are_updated(shim):
    shim.run("/bin/sleep", "100")
    resources = wkt.Any(
        type_url="types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
        value=b'{"memory":{"limit":67108864}}',
    )
    shim.call("Update", resources=resources)
    pid = shim.call("State", id=shim.id).pid
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    below = next(line.split(":")[2] for line in lines if line.split(":")[1] == "memory")
    # The path may be the whole machine's, where the test has a cgroup of its own.
    folders = [f"/sys/fs/cgroup/memory{below[at:]}" for at, char in enumerate(below) if char == "/"]
    found = next(folder for folder in folders if os.path.isdir(folder))
    assert Path(found, "memory.limit_in_bytes").read_text() == "67108864\n"


def test_execs_by_their_ids(shim):
    shim.run("/bin/sleep", "100")
    shim.add_exec("e1", "/bin/sh", "-c", "echo hi; exit 7")
    refused(shim, errdefs.AlreadyExists, "id e1: already exists", "Exec", id="e1")
    refused(
        shim,
        errdefs.FailedPrecondition,
        "process not created: failed precondition",
        "Kill",
        id="e1",
        signal=9,
    )
    started = shim.call("Start", id="e1")
    assert (started.id, shim.call("Wait", id="e1").exit_status) == ("e1", 7)
    state = shim.call("State", id="e1")
    assert (state.id, state.bundle, state.status) == ("e1", str(shim.bundle), STOPPED)
    deleted = shim.call("DeleteProcess", id="e1")
    assert (deleted.pid, deleted.exit_status) == (started.pid, 7)
    refused(shim, errdefs.NotFound, "process e1 does not exist: not found", "State", id="e1")
    ((_, event),) = shim.published()
    assert (event.container_id, event.id, event.pid, event.exit_status) == (shim.id, "e1", started.pid, 7)


def test_pids_are_named_init_too(shim):
    shim.run("/bin/sleep", "100")
    shim.exec("e1", "/bin/sleep", "100")
    found = {}
    for process in shim.call("ListPids", id=shim.id).processes:
        assert is_type(process.info, runctypes.ProcessDetails)
        found[process.pid] = runctypes.ProcessDetails.FromString(process.info.value).exec_id
    assert found == {shim.call("State", id=name).pid: name for name in (shim.id, "e1")}


def test_failures_of_the_runtime_are_in_its_words(shim):
    with pytest.raises(errdefs.Unknown) as caught:
        shim.create("/nope")
    text = 'unable to start container process: exec: "/nope": stat /nope: no such file or directory'
    assert str(caught.value) == f"OCI runtime create failed: runc create failed: {text}"
    refused(shim, errdefs.NotFound, "process c1 does not exist: not found", "State", id="c1")


def test_stdin_is_closed_when_the_daemon_says_so(shim):
    streams = shim.run("/bin/cat")
    streams.write(b"through")
    shim.call("CloseIO", id=shim.id, stdin=True)
    assert shim.call("Wait", id=shim.id).exit_status == 0
    assert streams.read_all() == b"through"


def test_without_streams_a_container_has_none_of_the_daemons(shim):
    shim.create("/bin/sh", "-c", "echo lost; sleep 100", stdio={})
    shim.call("Start", id=shim.id)
    pid = shim.call("State", id=shim.id).pid
    wait_until(lambda: Path(f"/proc/{pid}/exe").readlink().name == "busybox")
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}


def test_a_terminal_and_its_size(shim):
    streams = shim.run("/bin/sh", "-c", "read x; stty size", terminal=True)
    shim.call("ResizePty", id=shim.id, width=120, height=33)
    streams.write(b"\n")
    assert b"33 120" in streams.read_until(b"120")


def test_a_runtime_program_is_taken_by_its_path(shim):
    streams = shim.create("/bin/echo", "by runc", runtime=programs.peer("runc"))
    shim.call("Start", id=shim.id)
    shim.call("Wait", id=shim.id)
    assert streams.read_all() == b"by runc\n"
    assert (shim.bundle / "log.json").exists()


def test_the_owner_of_the_streams(shim):
    options = runctypes.CreateOptions(io_uid=1234, io_gid=4321)
    streams = shim.create("/bin/sh", "-c", "id; sleep 100", create_options=options)
    shim.call("Start", id=shim.id)
    streams.read_until(b"uid=0")
    pid = shim.call("State", id=shim.id).pid
    assert os.stat(f"/proc/{pid}/fd/1").st_gid == 4321  # runc gives the uid to the container's user


def test_other_services_are_not_there(shim):
    shim.write_spec("/bin/true")
    shim.start()
    with pytest.raises(errdefs.Unimplemented, match=r"^service containerd\.task\.v2\.Task$"):
        shim.client.call("containerd.task.v2.Task", "State", b"")
    with pytest.raises(errdefs.Unimplemented, match=r"^method Nope$"):
        shim.client.call(shim_v1.SHIM.name, "Nope", b"")


def test_the_log_is_in_the_work_folder(shim):
    shim.write_spec("/bin/true")
    shim.start()
    assert 'level=debug msg="serving api on unix socket" socket="[inherited from parent]"' in shim.log()


def test_a_container_outlives_a_killed_shim_until_the_runtime_deletes_it(shim):
    shim.run("/bin/sleep", "100")
    pid = shim.call("State", id=shim.id).pid
    wait_until(lambda: Path(f"/proc/{pid}/exe").readlink().name == "busybox")
    shim.kill()
    assert Path(f"/proc/{pid}/exe").readlink().name == "busybox"
    command = [programs.peer("runc"), "--root", str(shim.folder / "runc/suite"), "delete", "--force", shim.id]
    subprocess.run(command, check=True, env=programs.peer_environment())
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize("kind", ["stock", "ours"])
def test_usage_and_status_of_a_wrong_command_line(kind):
    program = linux_shims.program(kind)
    newer = kind == "stock" and programs.containerd_since_1_7()
    expected = STOCK_USAGE
    if newer:  # which has -v, too
        expected = expected.replace("criu binary\n", "criu binary (deprecated: do not use)\n")
        expected = expected.replace("  -workdir", "  -v\tshow the shim version and exit\n  -workdir")
        expected = expected.replace("storge", "storage")
    for words, status in ((["-h"], 0), (["-v"], 2), (["-namespace"], 2), (["-debug=maybe"], 2)):
        if newer and words == ["-v"]:
            continue
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, env=programs.peer_environment(), check=False
        )
        assert (done.returncode, done.stdout) == (status, ""), words
        assert done.stderr.partition(":\n")[2] == expected
    assert done.stderr.startswith('invalid boolean value "maybe" for -debug: parse error\nUsage of')


STOCK_USAGE = """\
  -address string
    \tgrpc address back to main containerd
  -containerd-binary containerd publish
    \tpath to containerd binary (used for containerd publish) (default "containerd")
  -criu string
    \tpath to criu binary
  -debug
    \tenable debug output in logs
  -namespace string
    \tnamespace that owns the shim
  -runtime-root string
    \troot directory for the runtime (default "/run/containerd/runc")
  -socket string
    \tsocket path to serve
  -systemd-cgroup
    \tset runtime to use systemd-cgroup
  -workdir string
    \tpath used to storge large temporary data
"""


@pytest.mark.parametrize("shim", ["ours"], indirect=True)
def test_ours_serves_a_named_socket_as_a_file_of_its_owner(shim):
    # Debian's makes an abstract socket of the name, which anybody may open.
    shim.write_spec("/bin/true")
    shim.start_by_name()
    assert os.stat(shim.address).st_mode & 0o777 == 0o600
