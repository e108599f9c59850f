"""The contract of a shim: what every way of starting one, and containerd's own, has in common."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pycontainerd.lib import errdefs
from pycontainerd.lib.api.light import runc_v1, wkt
from support.shims import NAMESPACE, ShimUnderTest

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4


class ShimSuite:
    """Subclasses give the `shim` fixture."""

    def test_life_of_a_container_and_its_events_in_order(self, shim: ShimUnderTest) -> None:
        streams = shim.create("/bin/sh", "-c", "echo hello; exit 42")
        assert shim.status() == CREATED
        pid = shim.call("Start", id=shim.id).pid
        waited = shim.call("Wait", id=shim.id)
        assert waited.exit_status == 42
        assert shim.status() == STOPPED
        deleted = shim.call("Delete", id=shim.id)
        assert (deleted.pid, deleted.exit_status, deleted.exited_at) == (pid, 42, waited.exited_at)
        assert streams.read_all() == b"hello\n"
        shim.events.wait_for("/tasks/delete")
        expected = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
        topics = shim.events.topics()
        assert (topics if shim.orders_events else sorted(topics, key=expected.index)) == expected
        exited = shim.events.wait_for("/tasks/exit")
        assert (exited.container_id, exited.id, exited.pid, exited.exit_status) == (shim.id, shim.id, pid, 42)
        created = shim.events.wait_for("/tasks/create")
        assert (created.bundle, created.pid, created.io.stdout) == (str(shim.bundle), pid, streams.stdout)

    def test_shutdown_ends_the_shim_only_without_containers(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/true")
        shim.call("Wait", id=shim.id)
        shim.call("Shutdown", id=shim.id)
        shim.call("Delete", id=shim.id)
        shim.call("Shutdown", id=shim.id)
        shim.wait_gone()
        assert not os.path.exists(shim.address.removeprefix("unix://"))

    def test_s067_command_line_is_the_classic_one(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        argv = Path(f"/proc/{shim.pid}/cmdline").read_bytes().split(b"\0")[:-1]
        program, *flags = (word.decode() for word in argv)
        assert os.path.realpath(program) == os.path.realpath(shim.program)
        assert flags == [
            "-namespace", NAMESPACE, "-id", shim.id, "-address", shim.grpc_address, "-debug",
        ]  # fmt: skip

    def test_s043_socket_is_named_after_address_namespace_and_id(self, shim: ShimUnderTest) -> None:
        shim.write_spec("/bin/true")
        shim.start()
        joined = f"{shim.grpc_address}/{NAMESPACE}/{shim.id}"
        assert shim.address == f"unix:///run/containerd/s/{hashlib.sha256(joined.encode()).hexdigest()}"
        assert (shim.bundle / "address").read_text() == shim.address
        assert os.stat(shim.address.removeprefix("unix://")).st_mode & 0o777 == 0o600

    def test_s063_s064_container_is_the_shims_child_in_its_own_group(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        pid = shim.call("State", id=shim.id).pid
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[1]) == shim.pid
        shim_fields = Path(f"/proc/{shim.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(shim_fields[2]) == shim.pid  # process group

    def test_files_in_the_bundle(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        pid = shim.call("State", id=shim.id).pid
        assert (shim.bundle / "init.pid").read_text() == str(pid)
        assert (shim.bundle / "runtime").read_text() == shim.options().binary_name
        assert str(shim.folder / "runc") in (shim.bundle / "options.json").read_text()

    def test_s040_state_of_a_running_container(self, shim: ShimUnderTest) -> None:
        streams = shim.run("/bin/sleep", "100")
        state = shim.call("State", id=shim.id)
        assert (state.id, state.bundle, state.status) == (shim.id, str(shim.bundle), RUNNING)
        assert (state.stdin, state.stdout, state.stderr) == (streams.stdin, streams.stdout, streams.stderr)
        assert (state.exit_status, state.exited_at.seconds) == (0, -62135596800)

    @pytest.mark.parametrize(
        ("command", "status"), [("exit 0", 0), ("exit 255", 255), ("kill -TERM $$", 143)]
    )
    def test_s062_exit_codes(self, shim: ShimUnderTest, command: str, status: int) -> None:
        # Init ignores signals it has no handler for, so the shell that dies is a child of init's namespace.
        shim.run("/bin/sleep", "100")
        shim.exec("e", "/bin/sh", "-c", command)
        assert shim.call("Wait", id=shim.id, exec_id="e").exit_status == status

    def test_kill_gives_137(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        shim.call("Kill", id=shim.id, signal=9)
        assert shim.call("Wait", id=shim.id).exit_status == 137
        with pytest.raises(errdefs.NotFound, match=r"^process already finished: not found$"):
            shim.call("Kill", id=shim.id, signal=9)

    def test_created_container_can_be_killed_and_deleted(self, shim: ShimUnderTest) -> None:
        shim.create("/bin/true")
        shim.call("Kill", id=shim.id, signal=9)
        shim.call("Wait", id=shim.id)
        assert shim.call("Delete", id=shim.id).exit_status == 137
        assert shim.events.wait_for("/tasks/delete").exit_status == 137

    def test_unknown_ids(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        with pytest.raises(errdefs.NotFound, match=r"^container not created: not found$"):
            shim.call("State", id="other")
        with pytest.raises(errdefs.NotFound, match=r"^process does not exist nope: not found$"):
            shim.call("State", id=shim.id, exec_id="nope")

    def test_forbidden_verbs_say_why(self, shim: ShimUnderTest) -> None:
        shim.create("/bin/sleep", "100")
        self._refused(shim, "Pause", "cannot pause task in created state")
        self._refused(shim, "Resume", "cannot resume task in created state")
        shim.call("Start", id=shim.id)
        self._refused(shim, "Start", "cannot start a running process")
        self._refused(shim, "Delete", "cannot delete a running process")
        self._refused(shim, "Resume", "cannot resume a running process")
        shim.call("Pause", id=shim.id)
        self._refused(shim, "Pause", "cannot pause a paused container")
        self._refused(shim, "Start", "cannot start a paused process")
        self._refused(shim, "Delete", "cannot delete a paused process")
        shim.call("Resume", id=shim.id)
        shim.call("Kill", id=shim.id, signal=9)
        shim.call("Wait", id=shim.id)
        self._refused(shim, "Start", "cannot start a stopped process")
        self._refused(shim, "Pause", "cannot pause a stopped container")
        self._refused(shim, "Resume", "cannot resume a stopped container")

    def _refused(self, shim: ShimUnderTest, method: str, text: str) -> None:
        with pytest.raises(errdefs.Unknown) as caught:
            shim.call(method, id=shim.id)
        assert str(caught.value) == text

    def test_pause_and_resume(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        shim.call("Pause", id=shim.id)
        assert shim.status() == PAUSED
        shim.call("Resume", id=shim.id)
        assert shim.status() == RUNNING
        shim.events.wait_for("/tasks/resumed")
        assert shim.events.topics()[-2:] == ["/tasks/paused", "/tasks/resumed"]

    def test_exec_and_its_events(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        streams = shim.exec("e1", "/bin/sh", "-c", "echo from exec; exit 7")
        waited = shim.call("Wait", id=shim.id, exec_id="e1")
        assert waited.exit_status == 7
        deleted = shim.call("Delete", id=shim.id, exec_id="e1")
        assert deleted.exit_status == 7
        assert streams.read_all() == b"from exec\n"
        with pytest.raises(errdefs.NotFound):
            shim.call("State", id=shim.id, exec_id="e1")
        exited = shim.events.wait_for("/tasks/exit")
        assert (exited.id, exited.exit_status) == ("e1", 7)
        assert shim.events.topics()[2:] == ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"]

    def test_exec_ids_are_taken_once(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        shim.add_exec("e1", "/bin/true")
        with pytest.raises(errdefs.AlreadyExists, match=r"^id e1: already exists$"):
            shim.call("Exec", id=shim.id, exec_id="e1", spec=wkt.Any(type_url="x", value=b"{}"))

    def test_exec_that_was_not_started(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        shim.add_exec("e1", "/bin/true")
        assert shim.status("e1") == CREATED
        with pytest.raises(errdefs.FailedPrecondition, match="process not created"):
            shim.call("Kill", id=shim.id, exec_id="e1", signal=9)
        shim.call("Delete", id=shim.id, exec_id="e1")

    def test_failed_exec_says_what_the_runtime_said(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        shim.add_exec("e1", "/nope")
        with pytest.raises(errdefs.Unknown) as caught:
            shim.call("Start", id=shim.id, exec_id="e1")
        assert str(caught.value) == (
            "OCI runtime exec failed: exec failed: unable to start container process: "
            'exec: "/nope": stat /nope: no such file or directory'
        )

    def test_failed_create_says_what_the_runtime_said(self, shim: ShimUnderTest) -> None:
        with pytest.raises(errdefs.Unknown) as caught:
            shim.create("/nope")
        assert str(caught.value) == (
            "OCI runtime create failed: runc create failed: unable to start container process: "
            'exec: "/nope": stat /nope: no such file or directory'
        )
        assert shim.events.topics() == []

    def test_exec_is_refused_when_stopped(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/true")
        shim.call("Wait", id=shim.id)
        with pytest.raises(errdefs.Unknown, match=r"^cannot exec in a stopped state$"):
            shim.add_exec("e1", "/bin/true")

    def test_stdin_reaches_the_container_and_closes(self, shim: ShimUnderTest) -> None:
        streams = shim.run("/bin/cat")
        streams.write(b"first ")
        assert streams.read_until(b"first ") == b"first "  # the client's end was not the container's
        streams.write(b"second")
        shim.call("CloseIO", id=shim.id, stdin=True)
        assert shim.call("Wait", id=shim.id).exit_status == 0
        shim.call("Delete", id=shim.id)
        assert streams.read_all() == b"second"

    def test_large_output_arrives_whole(self, shim: ShimUnderTest) -> None:
        streams = shim.run("/bin/seq", "1", "300000")
        expected = b"".join(b"%d\n" % n for n in range(1, 300001))
        data = streams.read_until(b"\n300000\n")
        shim.call("Wait", id=shim.id)
        shim.call("Delete", id=shim.id)
        assert data + streams.read_all() == expected

    def test_s059_reader_may_go_and_come_back(self, shim: ShimUnderTest) -> None:
        streams = shim.run("/bin/sh", "-c", "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.05; done")
        streams.read_until(b"line 2\n")
        os.close(streams._out_fd)
        time.sleep(0.2)
        streams._out_fd = os.open(streams.stdout, os.O_RDONLY | os.O_NONBLOCK)
        streams.read_until(b"\n")
        assert shim.status() == RUNNING

    def test_terminal(self, shim: ShimUnderTest) -> None:
        streams = shim.create("/bin/sh", "-c", "read size; stty size; tty; exit 5", terminal=True)
        shim.call("Start", id=shim.id)
        shim.call("ResizePty", id=shim.id, width=97, height=31)
        streams.write(b"go\n")
        assert b"31 97\r\n/dev/pts/0\r\n" in streams.read_until(b"/dev/pts/0\r\n")
        assert shim.call("Wait", id=shim.id).exit_status == 5
        assert shim.call("State", id=shim.id).stderr == ""

    def test_terminal_of_an_exec(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        streams = shim.exec("e1", "/bin/sh", "-c", "tty; exit 3", terminal=True)
        assert streams.read_until(b"\n") == b"/dev/pts/0\r\n"
        assert shim.call("Wait", id=shim.id, exec_id="e1").exit_status == 3

    def test_pids_name_their_execs(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        shim.exec("e1", "/bin/sleep", "99")
        listed = {p.pid: p.info for p in shim.call("Pids", id=shim.id).processes}
        init, added = shim.call("State", id=shim.id).pid, shim.call("State", id=shim.id, exec_id="e1").pid
        assert set(listed) == {init, added}
        assert runc_v1.ProcessDetails.FromString(listed[added].value).exec_id == "e1"

    def test_init_exit_is_published_after_its_execs(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        for number in range(3):
            shim.exec(f"e{number}", "/bin/sleep", "99")
        shim.call("Kill", id=shim.id, signal=9)
        shim.events.wait_for("/tasks/exit", 4)
        exits = [event.id for topic, event in shim.events.received if topic == "/tasks/exit"]
        assert set(exits) == {"e0", "e1", "e2", shim.id}

    def test_many_short_execs_keep_start_before_exit(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        for number in range(5):
            shim.exec(f"e{number}", "/bin/true")
        shim.events.wait_for("/tasks/exit", 5)
        for number in range(5):
            mine = [
                topic
                for topic, event in shim.events.received
                if f"e{number}" in (getattr(event, "exec_id", ""), getattr(event, "id", ""))
            ]
            assert mine == ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"]

    def test_file_stdout_is_appended_to(self, shim: ShimUnderTest) -> None:
        log = shim.folder / "logs" / "out"
        shim.create(
            "/bin/sh",
            "-c",
            "echo out; echo err >&2",
            stdio={"stdout": f"file://{log}", "stderr": f"file://{log}"},
        )
        shim.call("Start", id=shim.id)
        shim.call("Wait", id=shim.id)
        # Before Delete: the stock shim may be done with the container before it has copied what was printed.
        deadline = time.monotonic() + 5
        wanted = ["err", "out"] if shim.copies_all else ["out"]
        while not set(wanted) <= set(log.read_text().splitlines()):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        shim.call("Delete", id=shim.id)

    def test_null_streams(self, shim: ShimUnderTest) -> None:
        shim.create("/bin/sh", "-c", "echo nowhere; cat; exit 4", stdio={})
        shim.call("Start", id=shim.id)
        assert shim.call("Wait", id=shim.id).exit_status == 4

    def test_binary_logger(self, shim: ShimUnderTest) -> None:
        logger = shim.folder / "logger"
        out = shim.folder / "logged"
        logger.write_text(
            f"#!/bin/sh\nexec 5>&-\necho $CONTAINER_ID $CONTAINER_NAMESPACE $* > {out}\ncat <&3 >> {out}\n"
        )
        logger.chmod(0o755)
        uri = f"binary://{logger}?a%20b=c"
        shim.create("/bin/echo", "to the logger", stdio={"stdout": uri, "stderr": uri})
        shim.call("Start", id=shim.id)
        shim.call("Wait", id=shim.id)
        deadline = time.monotonic() + 5
        while "logger" not in out.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        shim.call("Delete", id=shim.id)
        assert out.read_text() == f"{shim.id} {NAMESPACE} a b c\nto the logger\n"

    def test_update(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        resources = wkt.Any(
            type_url="types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
            value=b'{"memory":{"limit":67108864}}',
        )
        shim.call("Update", id=shim.id, resources=resources)
        limit = Path(f"/sys/fs/cgroup/memory/{NAMESPACE}/{shim.id}/memory.limit_in_bytes")
        assert limit.read_text() == "67108864\n"

    def test_stats_are_cgroup_metrics(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        stats = shim.call("Stats", id=shim.id).stats
        assert stats.type_url == "io.containerd.cgroups.v1.Metrics"

    def test_connect_tells_pids(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        connected = shim.call("Connect", id=shim.id)
        assert connected.shim_pid == shim.pid
        assert connected.task_pid == shim.call("State", id=shim.id).pid

    def test_s080_sigusr1_dumps_stacks(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        os.kill(shim.pid, 10)
        deadline = time.monotonic() + 5
        log = ""
        while "END" not in log and time.monotonic() < deadline:
            log += shim.log()
            time.sleep(0.01)
        assert "stack dump ===" in log
        assert shim.status() == RUNNING

    def test_unknown_service_and_method(self, shim: ShimUnderTest) -> None:
        shim.write_spec("/bin/true")
        shim.start()
        with pytest.raises(errdefs.Unimplemented, match=r"^service no.such.Service"):
            shim.client.call("no.such.Service", "X")
        with pytest.raises(errdefs.Unimplemented, match=r"^method Nope"):
            shim.client.call("containerd.task.v2.Task", "Nope")

    def test_second_start_finds_the_first(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sleep", "100")
        first = shim.pid
        shim.client.close()
        shim.start()
        assert shim.pid == first

    def test_processes_without_own_pid_namespace_die_with_init(self, shim: ShimUnderTest) -> None:
        shim.run("/bin/sh", "-c", "sleep 98 & sleep 97", own_pids=False)
        deadline = time.monotonic() + 5
        while len(shim.call("Pids", id=shim.id).processes) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        pids = [p.pid for p in shim.call("Pids", id=shim.id).processes]
        shim.call("Kill", id=shim.id, signal=9)
        shim.call("Wait", id=shim.id)
        deadline = time.monotonic() + 5
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    def test_another_group_or_user_is_hung_up_on(self, shim: ShimUnderTest) -> None:
        shim.write_spec("/bin/true")
        shim.start()
        # Root in another group: file modes let it in, so that only the shim's own check is left.
        code = (
            "import os, socket, sys; os.setgid(65534); s = socket.socket(socket.AF_UNIX); s.settimeout(5); "
            "s.connect(sys.argv[1]); print(len(s.recv(1)))"
        )
        argv = [sys.executable, "-c", code, shim.address.removeprefix("unix://")]
        done = subprocess.run(argv, check=False, capture_output=True, timeout=10)
        assert done.stdout == b"0\n" or b"ConnectionResetError" in done.stderr

    def test_oom_is_told(self, shim: ShimUnderTest) -> None:
        shim.run(
            "/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=2; sleep 100", memory_limit=16 << 20
        )
        assert shim.events.wait_for("/tasks/oom").container_id == shim.id

    def test_a_group_shares_one_shim(self, shim: ShimUnderTest) -> None:
        annotations = {"io.containerd.runc.v2.group": f"group-{os.getpid()}"}
        shim.write_spec("/bin/true", annotations=annotations)
        shim.start()
        first, address = shim.pid, shim.address
        with shim.second_bundle("c2"):
            shim.write_spec("/bin/true", annotations=annotations)
            shim.client.close()
            shim.start()
            assert (shim.pid, shim.address) == (first, address)
