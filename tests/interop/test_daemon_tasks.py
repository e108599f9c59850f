"""Every method of the task service on a container that lives, dies and is gone: answered as by the real daemon."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import runc_v1, task_types, tasks_v1, wkt
from support.daemons import Daemon, call, make_rootfs, masked_answer

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(120)]

T = tasks_v1.TASKS
ID = f"tasks-{os.getpid()}"
PROCESS = {"args": ["/bin/sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
RESOURCES = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
WAIT = "wait"


def process(**fields: object) -> wkt.Any:
    url = "types.containerd.io/opencontainers/runtime-spec/1/Process"
    return wkt.Any(type_url=url, value=json.dumps({**PROCESS, **fields}).encode())


def resources(document: object, url: str = RESOURCES) -> wkt.Any:
    return wkt.Any(type_url=url, value=json.dumps(document).encode())


def checkpoint(folder: str) -> wkt.Any:
    options = runc_v1.CheckpointOptions(image_path=folder)
    return wkt.Any(type_url="containerd.runc.v1.CheckpointOptions", value=options.SerializeToString())


def exec_(id: str, spec: wkt.Any | None, **fields: object) -> tuple[str, object]:
    return "Exec", tasks_v1.ExecProcessRequest(container_id=ID, exec_id=id, spec=spec, **fields)


def on(method: str, request: type, **fields: object) -> tuple[str, object]:
    return method, request(container_id=ID, **fields)


RUNNING = (
    on("Get", tasks_v1.GetRequest),
    ("List", tasks_v1.ListTasksRequest()),
    on("ListPids", tasks_v1.ListPidsRequest),
    ("Metrics", tasks_v1.MetricsRequest(filters=["id==other"])),
    on("Create", tasks_v1.CreateTaskRequest),
    on("Start", tasks_v1.StartRequest),
    on("Delete", tasks_v1.DeleteTaskRequest),
    on("Get", tasks_v1.GetRequest, exec_id="nope"),
    on("Start", tasks_v1.StartRequest, exec_id="nope"),
    on("Wait", tasks_v1.WaitRequest, exec_id="nope"),
    on("Kill", tasks_v1.KillRequest, exec_id="nope", signal=9),
    on("ResizePty", tasks_v1.ResizePtyRequest, exec_id="nope", width=80, height=25),
    on("CloseIO", tasks_v1.CloseIORequest, exec_id="nope", stdin=True),
    on("DeleteProcess", tasks_v1.DeleteProcessRequest, exec_id="nope"),
    on("DeleteProcess", tasks_v1.DeleteProcessRequest),
    on("Kill", tasks_v1.KillRequest, signal=99),
    on("ResizePty", tasks_v1.ResizePtyRequest, width=80, height=25),
    on("CloseIO", tasks_v1.CloseIORequest, stdin=True),
    on("CloseIO", tasks_v1.CloseIORequest),
    on("Resume", tasks_v1.ResumeTaskRequest),
    on("Pause", tasks_v1.PauseTaskRequest),
    on("Get", tasks_v1.GetRequest),
    on("Pause", tasks_v1.PauseTaskRequest),
    on("Delete", tasks_v1.DeleteTaskRequest),
    exec_("paused", process()),
    on("Resume", tasks_v1.ResumeTaskRequest),
    on("Update", tasks_v1.UpdateTaskRequest, resources=resources({"pids": {"limit": 100}})),
    on("Update", tasks_v1.UpdateTaskRequest, resources=resources({}, "no.such.Type")),
    on("Update", tasks_v1.UpdateTaskRequest, resources=resources([])),
    on("Update", tasks_v1.UpdateTaskRequest, resources=wkt.Any(type_url=RESOURCES, value=b"{")),
    on("Checkpoint", tasks_v1.CheckpointTaskRequest, options=wkt.Any(type_url="no.such.Type")),
    exec_("", process()),
    exec_("a..b", process()),
    exec_("e1", process()),
    exec_("e1", process()),
    on("Get", tasks_v1.GetRequest, exec_id="e1"),
    on("Kill", tasks_v1.KillRequest, exec_id="e1", signal=9),
    on("Start", tasks_v1.StartRequest, exec_id="e1"),
    on("Get", tasks_v1.GetRequest, exec_id="e1"),
    on("ResizePty", tasks_v1.ResizePtyRequest, exec_id="e1", width=80, height=25),
    on("CloseIO", tasks_v1.CloseIORequest, exec_id="e1", stdin=True),
    on("DeleteProcess", tasks_v1.DeleteProcessRequest, exec_id="e1"),
    on("Kill", tasks_v1.KillRequest, exec_id="e1", signal=9),
    on("Wait", tasks_v1.WaitRequest, exec_id="e1"),
    on("Kill", tasks_v1.KillRequest, exec_id="e1", signal=9),
    on("Get", tasks_v1.GetRequest, exec_id="e1"),
    on("DeleteProcess", tasks_v1.DeleteProcessRequest, exec_id="e1"),
    on("DeleteProcess", tasks_v1.DeleteProcessRequest, exec_id="e1"),
)
# Of a container of its own: 1.7.24's shim ends with a panic when a process ends after a start that failed.
FAILED_EXEC = (
    exec_("e1", process()),
    on("Start", tasks_v1.StartRequest, exec_id="e1"),
    on("Start", tasks_v1.StartRequest, exec_id="e1"),
    exec_("e2", process(args=["/bin/nope"])),
    on("Start", tasks_v1.StartRequest, exec_id="e2"),
    on("DeleteProcess", tasks_v1.DeleteProcessRequest, exec_id="e2"),
)
STOPPED = (
    on("Kill", tasks_v1.KillRequest, signal=9),
    on("Wait", tasks_v1.WaitRequest),
    on("Get", tasks_v1.GetRequest),
    on("Kill", tasks_v1.KillRequest, signal=9),
    on("Kill", tasks_v1.KillRequest, signal=9, all=True),
    on("Start", tasks_v1.StartRequest),
    on("Pause", tasks_v1.PauseTaskRequest),
    on("Resume", tasks_v1.ResumeTaskRequest),
    on("ListPids", tasks_v1.ListPidsRequest),
    on("ResizePty", tasks_v1.ResizePtyRequest, width=80, height=25),
    on("CloseIO", tasks_v1.CloseIORequest, stdin=True),
    on("Update", tasks_v1.UpdateTaskRequest, resources=resources({"pids": {"limit": 100}})),
    exec_("late", process()),
    on("DeleteProcess", tasks_v1.DeleteProcessRequest, exec_id="late"),
    on("Create", tasks_v1.CreateTaskRequest),
    on("Delete", tasks_v1.DeleteTaskRequest),
)
GONE = tuple(
    on(method, request)
    for method, request in (
        ("Get", tasks_v1.GetRequest),
        ("Delete", tasks_v1.DeleteTaskRequest),
        ("Kill", tasks_v1.KillRequest),
        ("Wait", tasks_v1.WaitRequest),
        ("Checkpoint", tasks_v1.CheckpointTaskRequest),
        ("Update", tasks_v1.UpdateTaskRequest),
    )
)


@pytest.fixture(scope="module")
def folder():
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    make_rootfs(folder / "rootfs")
    yield folder
    remove_tree(str(folder))


@contextlib.contextmanager
def running(daemon: Daemon, folder: Path, *flags: str):
    """A container whose process sleeps, gone at the end whatever has become of it."""
    run = daemon.ctr("run", "-d", *flags, "--rootfs", str(folder / "rootfs"), ID, "/bin/sleep", "1000")
    assert run.returncode == 0, run.stderr
    try:
        yield
    finally:
        daemon.ctr("tasks", "rm", "-f", ID)
        assert daemon.ctr("containers", "rm", ID).returncode == 0


def masked(daemon: Daemon, answer: tuple[object, ...]) -> str:
    text = masked_answer(daemon, answer).replace(ID, "ID")
    text = re.sub(r"(pid|pid_data|width|height): \d+", r"\1: N", text)
    return re.sub(r"exec-[0-9a-f]+|\b\d{4,}\b", "N", text)


def plain(text: str) -> str:
    """Without what the stock shim says of the command it ran: ours runs none."""
    return text.replace("runc did not terminate successfully: exit status 1: ", "").replace(
        "\\n: unknown'", ": unknown'"
    )


def transcript(daemon: Daemon, calls) -> list[str]:
    lines = []
    with daemon.channel() as channel:
        for method, request in calls:
            answer = call(channel, T, method, request)
            lines.append(f"{method}({masked(daemon, ('', '', request))}) -> {masked(daemon, answer)}")
    return lines


@pytest.mark.parametrize("calls", [(*RUNNING, *STOPPED, *GONE), FAILED_EXEC], ids=["a life", "a failed exec"])
def test_every_call_of_a_task_is_answered_as_by_the_real_daemon(folder, calls):
    found = []
    for real in (True, False):
        with Daemon(folder / f"d{real:d}", real=real) as daemon:
            with running(daemon.start(), folder):
                found.append(transcript(daemon, calls))
    differences = [
        f"{real}\n  ours: {ours}" for real, ours in zip(*found, strict=True) if plain(real) != plain(ours)
    ]
    assert not differences, "\n".join(differences)


def test_a_checkpoint_is_refused_and_the_task_goes_on(folder, tmp_path):
    requests = {
        "into the content store": tasks_v1.CheckpointTaskRequest(container_id=ID),
        "into a folder": tasks_v1.CheckpointTaskRequest(
            container_id=ID, options=checkpoint(str(tmp_path / "c"))
        ),
    }
    with (
        Daemon(folder / "c", real=False) as daemon,
        running(daemon.start(), folder),
        daemon.channel() as channel,
    ):
        answers = {name: call(channel, T, "Checkpoint", request)[:2] for name, request in requests.items()}
        status = call(channel, T, "Get", tasks_v1.GetRequest(container_id=ID))[2].process.status
    assert answers == {
        "into the content store": (
            "UNIMPLEMENTED",
            "checkpointing into the content store is not built: not implemented",
        ),
        "into a folder": ("UNIMPLEMENTED", "checkpoint is not supported by this shim: not implemented"),
    }
    assert (status, list(tmp_path.iterdir())) == (task_types.Status.RUNNING, [])
