"""The sandbox controller with a shim of the sandbox API, byte by byte as containerd 2 speaks both (no Debian peer does both)."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import containers_v1, sandbox_v1, tasks_v1, types, wkt
from support import sandbox_shim
from support.daemons import Daemon, call, kill, process_running

C = sandbox_v1.CONTROLLER
SPEC = wkt.Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b'{"a":1}')
MOUNT = types.Mount(type="bind", source="/nothing", options=["ro"])


class World:
    """A daemon and what its sandboxes' shims were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = str(sandbox_shim.script(folder / "containerd-shim-sandboxed-v1"))
        self.daemon = Daemon(folder / "d", real=False)
        self.state = folder / "d/state/io.containerd.sandbox.controller.v1.shim/default"

    def controller(self, method: str, **fields):
        message = next(m for m in C.methods if m.name == method).request
        with self.daemon.channel() as channel:
            return call(channel, C, method, message(sandboxer="shim", **fields))

    def create(self, id: str, **fields) -> tuple[str, str]:
        runtime = types.Sandbox.Runtime(name=self.runtime)
        record = types.Sandbox(sandbox_id=id, runtime=runtime, spec=SPEC, sandboxer="shim")
        return self.controller("Create", sandbox_id=id, sandbox=record, **fields)[:2]

    def asked(self) -> list[list]:
        path = self.state / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def bundles(self) -> list[str]:
        return sorted(p.name for p in self.state.iterdir() if p.is_dir()) if self.state.exists() else []


@pytest.fixture
def world():
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    world = World(folder)
    with world.daemon:
        world.daemon.start()
        yield world
    for bundle in world.bundles():  # of a test that failed
        kill(int((world.state / bundle / "pid").read_text()))
    remove_tree(str(folder))


def test_a_sandbox_from_create_to_shutdown(world):
    netns = {"netns_path": "/run/netns/x", "annotations": {"k": "v"}, "rootfs": [MOUNT]}
    options = wkt.Any(type_url="x.Options", value=b"\x01")
    assert world.create("s1", options=options, **netns) == ("OK", "")
    method, request = world.asked()[0]
    assert method == "CreateSandbox"
    assert request["bundle_path"] == str(world.state / "s1")
    assert request["netns_path"] == "/run/netns/x"
    assert "'k': 'v'" in request["annotations"]
    assert "/nothing" in request["rootfs"]
    assert (world.state / "s1/config.json").read_bytes() == SPEC.value

    code, _, started = world.controller("Start", sandbox_id="s1")
    assert (code, started.sandbox_id, started.version) == ("OK", "s1", 3)
    assert started.address == f"unix://{world.state}/s1/s"
    assert process_running(started.pid)
    status = world.controller("Status", sandbox_id="s1", verbose=True)[2]
    assert (status.state, status.pid, dict(status.info)) == ("SANDBOX_READY", started.pid, {"more": "said"})
    assert status.created_at == sandbox_shim.START
    assert world.controller("Platform", sandbox_id="s1")[2].platform.architecture == "riscv64"
    metrics = world.controller("Metrics", sandbox_id="s1")[2].metrics
    assert (metrics.id, metrics.data.type_url) == ("s1", "x.Metrics")
    assert world.controller("Stop", sandbox_id="s1", timeout_secs=9)[0] == "OK"
    end = world.controller("Wait", sandbox_id="s1")[2]
    assert (end.exit_status, end.exited_at) == (3, sandbox_shim.START)
    assert world.controller("Shutdown", sandbox_id="s1")[0] == "OK"
    assert world.bundles() == []
    assert [name for name, _ in world.asked()][-1] == "ShutdownSandbox"
    _until(lambda: not process_running(started.pid))
    assert world.controller("Status", sandbox_id="s1")[:2] == (
        "NOT_FOUND",
        'unable to find sandbox "s1": not found',
    )


def _until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_record_of_the_store_is_used_where_the_request_has_none(world):
    runtime = types.Sandbox.Runtime(name=world.runtime)
    record = types.Sandbox(sandbox_id="stored", runtime=runtime, spec=SPEC)
    with world.daemon.channel() as channel:
        request = sandbox_v1.StoreCreateRequest(sandbox=record)
        assert call(channel, sandbox_v1.STORE, "Create", request)[0] == "OK"
    assert world.controller("Create", sandbox_id="stored")[0] == "OK"
    assert world.controller("Shutdown", sandbox_id="stored")[0] == "OK"
    assert world.controller("Create", sandbox_id="nowhere")[0] == "NOT_FOUND"


def test_a_failed_create_leaves_nothing(world):
    code, text = world.create("bad", annotations={"fail": "create"})
    assert code == "FAILED_PRECONDITION"
    assert text == "failed to create sandbox bad: told to fail: failed precondition"
    assert world.bundles() == []
    assert world.asked()[-1] == ["delete", {"id": "bad"}]
    assert world.create("s2", annotations={})[0] == "OK"
    assert world.create("s2")[:2] == ("ALREADY_EXISTS", "sandbox s2 already running: already exists")
    assert world.controller("Shutdown", sandbox_id="s2")[0] == "OK"


def test_sandboxes_outlive_the_daemon_and_dead_ones_are_cleaned_up(world):
    for id in ("lives", "dies"):
        assert world.create(id)[0] == "OK"
    pids = {id: world.controller("Start", sandbox_id=id)[2].pid for id in ("lives", "dies")}
    world.daemon.stop()
    kill(pids["dies"])
    world.daemon.start()
    assert world.controller("Status", sandbox_id="lives")[2].pid == pids["lives"]
    assert world.controller("Status", sandbox_id="dies")[0] == "NOT_FOUND"
    assert world.bundles() == ["lives"]
    kill(pids["lives"])
    _until(lambda: world.bundles() == [])
    assert ["delete", {"id": "lives"}] in world.asked()
    # The bundle goes first: who asks in between hears that the shim doesn't answer.
    _until(lambda: world.controller("Status", sandbox_id="lives")[0] == "NOT_FOUND")


def test_a_container_of_a_sandbox_is_served_by_its_shim(world):
    assert world.create("pod")[0] == "OK"
    pid = world.controller("Start", sandbox_id="pod")[2].pid
    with world.daemon.channel() as channel:
        for id, sandbox in (("c1", "pod"), ("c2", "none")):
            container = containers_v1.Container(
                id=id,
                runtime=containers_v1.Container.Runtime(name="io.containerd.runc.v2"),
                spec=SPEC,
                sandbox=sandbox,
            )
            request = containers_v1.CreateContainerRequest(container=container)
            assert call(channel, containers_v1.CONTAINERS, "Create", request)[0] == "OK"
        code, _, task = call(channel, tasks_v1.TASKS, "Create", tasks_v1.CreateTaskRequest(container_id="c1"))
        assert (code, task.pid) == ("OK", pid)
        code, text, _ = call(channel, tasks_v1.TASKS, "Create", tasks_v1.CreateTaskRequest(container_id="c2"))
        assert code == "NOT_FOUND"
        assert 'sandbox "none": not found' in text
        assert (
            call(channel, tasks_v1.TASKS, "Delete", tasks_v1.DeleteTaskRequest(container_id="c1"))[0] == "OK"
        )
    methods = [name for name, _ in world.asked()]
    assert "Create" in methods
    assert "Delete" in methods
    assert "Shutdown" not in methods  # the sandbox goes on
    assert world.controller("Status", sandbox_id="pod")[0] == "OK"
    assert world.controller("Shutdown", sandbox_id="pod")[0] == "OK"


def test_what_cannot_be_meant_is_refused(world):
    with world.daemon.channel() as channel:

        def status(**fields):
            return call(channel, C, "Status", sandbox_v1.ControllerStatusRequest(**fields))[:2]

        assert status(sandbox_id="x") == (
            "INVALID_ARGUMENT",
            "invalid argument: sandbox controller name can not be empty",
        )
        assert status(sandbox_id="x", sandboxer="nobody") == (
            "NOT_FOUND",
            "not found: failed to get sandbox controller by nobody",
        )
    assert world.controller("Update", sandbox_id="x")[0] == "UNIMPLEMENTED"
    for method in ("Start", "Stop", "Wait", "Status", "Shutdown", "Metrics", "Platform"):
        assert world.controller(method, sandbox_id="x")[0] == "NOT_FOUND"
    runtime = types.Sandbox.Runtime(name="/nonexistent/shim")
    record = types.Sandbox(sandbox_id="x", runtime=runtime)
    assert world.controller("Create", sandbox_id="x", sandbox=record)[0] != "OK"
    assert world.bundles() == []
