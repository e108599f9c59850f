"""Our shim's own sandbox service, by bytes and under our daemon's controller (no Debian peer speaks it)."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib import errdefs
from pycontainerd.lib.api.full import containers_v1, sandbox_v1, tasks_v1, types, wkt
from pycontainerd.lib.api.light import runtime_sandbox_v1
from pycontainerd.lib.api.light import types as light_types
from pycontainerd.lib.ttrpc.client import Client
from support import shims
from support.daemons import Daemon, call, process_running
from support.walkthrough import wait_until

pytestmark = [pytest.mark.requires("root", "cgroup_v1"), pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory):
    return shims.make_rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture(params=["exec'ed", "forked, at rest before every call"])
def shim(request, rootfs, forkserver):
    with tempfile.TemporaryDirectory(prefix="sb", dir="/tmp") as folder:
        if request.param == "exec'ed":
            made = shims.InProcessShim(Path(folder), rootfs)
        else:
            made = shims.RestingShim(Path(folder), rootfs)
            made.forkserver = forkserver
        made.write_spec("/bin/sleep", "100")
        made.start()
        yield made
        made.close()


def ask(shim: shims.ShimUnderTest, method: str, *, client: Client | None = None, **fields):
    shim.let_rest()
    described = next(m for m in runtime_sandbox_v1.SANDBOX.methods if m.name == method)
    payload = described.request(**fields).SerializeToString()
    data = (client or shim.client).call(runtime_sandbox_v1.SANDBOX.name, method, payload, timeout_s=20)
    return described.response.FromString(data)


def test_the_states_of_a_sandbox(shim):
    with pytest.raises(errdefs.NotFound, match=r"^sandbox s1: not found$"):
        ask(shim, "StartSandbox", sandbox_id="s1")
    ask(shim, "CreateSandbox", sandbox_id="s1", netns_path="/run/netns/x")
    with pytest.raises(errdefs.AlreadyExists, match=r"^sandbox s1: already exists$"):
        ask(shim, "CreateSandbox", sandbox_id="s2")
    assert ask(shim, "SandboxStatus", sandbox_id="s1").state == "SANDBOX_NOTREADY"
    started = ask(shim, "StartSandbox", sandbox_id="s1")
    assert started.pid == shim.pid
    with pytest.raises(errdefs.FailedPrecondition):
        ask(shim, "StartSandbox", sandbox_id="s1")
    status = ask(shim, "SandboxStatus", sandbox_id="s1", verbose=True)
    assert (status.sandbox_id, status.state, status.pid) == ("s1", "SANDBOX_READY", shim.pid)
    assert (status.created_at, dict(status.info)) == (started.created_at, {"netns": "/run/netns/x"})
    assert ask(shim, "Platform", sandbox_id="s1").platform.os == "linux"
    ask(shim, "PingSandbox", sandbox_id="s1")
    ask(shim, "SandboxMetrics", sandbox_id="s1")
    assert not isinstance(shim, shims.RestingShim) or shim.rests > 5
    ask(shim, "StopSandbox", sandbox_id="s1")
    ended = ask(shim, "WaitSandbox", sandbox_id="s1")
    status = ask(shim, "SandboxStatus", sandbox_id="s1")
    assert (ended.exit_status, status.state, status.exited_at) == (0, "SANDBOX_NOTREADY", ended.exited_at)
    ask(shim, "ShutdownSandbox", sandbox_id="s1")
    shim.wait_gone()


def test_wait_answers_at_stop_and_not_before(shim):
    ask(shim, "CreateSandbox", sandbox_id="s1")
    ask(shim, "StartSandbox", sandbox_id="s1")
    other = Client.connect(shim.address)
    answers: list[int] = []
    waiting = threading.Thread(
        target=lambda: answers.append(ask(shim, "WaitSandbox", client=other, sandbox_id="s1").exit_status)
    )
    waiting.start()
    try:
        for _ in range(3):
            ask(shim, "PingSandbox", sandbox_id="s1")
        assert answers == []
        assert not isinstance(shim, shims.RestingShim) or shim.rests > 3  # with somebody who waits
    finally:
        ask(shim, "StopSandbox", sandbox_id="s1")
        waiting.join(10)
        other.close()
    assert answers == [0]


def test_a_root_file_system_of_its_own_is_refused(shim):
    mount = light_types.Mount(type="bind", source="/nothing")
    with pytest.raises(errdefs.Unimplemented, match="not supported by this shim"):
        ask(shim, "CreateSandbox", sandbox_id="s1", rootfs=[mount])


def test_a_container_keeps_the_sandbox_and_its_end_does_not_end_it(shim):
    ask(shim, "CreateSandbox", sandbox_id="s1")
    ask(shim, "StartSandbox", sandbox_id="s1")
    shim.call("Create", id=shim.id, bundle=str(shim.bundle), options=None)
    with pytest.raises(errdefs.FailedPrecondition, match="has containers, delete them first"):
        ask(shim, "ShutdownSandbox", sandbox_id="s1")
    shim.call("Kill", id=shim.id, signal=9)
    shim.call("Wait", id=shim.id)
    shim.call("Delete", id=shim.id)
    shim.call("Shutdown", id=shim.id)
    assert ask(shim, "SandboxStatus", sandbox_id="s1").state == "SANDBOX_READY"
    ask(shim, "ShutdownSandbox", sandbox_id="s1")
    shim.wait_gone()


@pytest.mark.parametrize("starter", ["exec", "forkserver"])
def test_under_the_daemons_controller(rootfs, starter):
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    spec = wkt.Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}")
    runtime = "io.containerd.runc.v2"
    controller = sandbox_v1.CONTROLLER
    with Daemon(folder / "d", real=False, starter=starter) as daemon:
        daemon.environment = {"PYCONTAINERD_SHIM_QUIET_S": "0.01"}
        daemon.start()
        with daemon.channel() as channel:

            def ask_controller(method: str, **fields):
                message = next(m for m in controller.methods if m.name == method).request
                return call(channel, controller, method, message(sandboxer="shim", sandbox_id="s1", **fields))

            record = types.Sandbox(
                sandbox_id="s1", runtime=types.Sandbox.Runtime(name=runtime), spec=spec, sandboxer="shim"
            )
            assert ask_controller("Create", sandbox=record)[:2] == ("OK", "")
            started = ask_controller("Start")[2]
            assert process_running(started.pid)
            if starter == "forkserver":  # without a container, and with the daemon waiting for its end
                wait_until(lambda: not shims.attendant_of(started.pid))
            container = containers_v1.Container(
                id="c1",
                runtime=containers_v1.Container.Runtime(name=runtime),
                sandbox="s1",
                spec=wkt.Any(type_url=spec.type_url, value=_spec(rootfs)),
            )
            request = containers_v1.CreateContainerRequest(container=container)
            assert call(channel, containers_v1.CONTAINERS, "Create", request)[0] == "OK"
            request = tasks_v1.CreateTaskRequest(container_id="c1")
            code, text, created = call(channel, tasks_v1.TASKS, "Create", request)
            assert (code, text) == ("OK", "")
            assert f"PPid:\t{started.pid}\n" in Path(f"/proc/{created.pid}/status").read_text()
            tasks = tasks_v1.TASKS
            assert call(channel, tasks, "Start", tasks_v1.StartRequest(container_id="c1"))[0] == "OK"
            assert ask_controller("Shutdown")[0] == "FAILED_PRECONDITION"
            assert call(channel, tasks, "Kill", tasks_v1.KillRequest(container_id="c1", signal=9))[0] == "OK"
            assert call(channel, tasks, "Wait", tasks_v1.WaitRequest(container_id="c1"))[2].exit_status == 137
            assert call(channel, tasks, "Delete", tasks_v1.DeleteTaskRequest(container_id="c1"))[0] == "OK"
            assert ask_controller("Status")[2].state == "SANDBOX_READY"
            assert ask_controller("Stop")[0] == "OK"
            assert ask_controller("Wait")[2].exit_status == 0
            assert ask_controller("Shutdown")[:2] == ("OK", "")
            wait_until(lambda: not process_running(started.pid))
    remove_tree(str(folder))


def _spec(rootfs: Path) -> bytes:
    import json

    return json.dumps(shims.spec_document(rootfs, "sandboxed", "/bin/sleep", "100")).encode()
