"""What ctr's users ask for: the beginning of an id, logs, shims, completion; on both daemons."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontainerd.client.objects.images import Images
from pycontainerd.lib import platforms
from support.fake_registry import fake_registry
from support.programs import BIN
from support.shims import attendant_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.fake_registry import FakeRegistry
    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]


@pytest.fixture(params=["our", "real"])
def stack(request: pytest.FixtureRequest, busybox: str):
    """Each daemon, with busybox; containers p-one and p-two run."""
    found: Stack = request.getfixturevalue(f"{request.param}_stack")
    found.ctr("image", "pull", busybox)
    yield found
    for name in found.ctr("container", "ls", "-q").stdout.split():
        found.ctr("task", "rm", "-f", name, check=False)
        found.ctr("container", "rm", name)


@pytest.fixture
def running(stack: Stack, busybox: str) -> Stack:
    for name in ("p-one", "p-two"):
        stack.ctr("run", "-d", busybox, name, "sleep", "1000")
    return stack


def test_the_beginning_of_an_id_is_enough(running: Stack) -> None:
    info = json.loads(running.pyctr("container", "info", "p-o").stdout)
    assert info["ID"] == "p-one"
    assert running.pyctr("task", "exec", "--exec-id", "e1", "p-o", "echo", "hi").stdout == "hi\n"
    assert "PID" in running.pyctr("task", "ps", "p-t").stdout
    running.pyctr("task", "pause", "p-o")
    running.pyctr("task", "resume", "p-o")
    running.pyctr("container", "label", "p-t", "a=b")
    assert json.loads(running.ctr("container", "info", "p-two").stdout)["Labels"]["a"] == "b"


def test_several_that_begin_so_are_an_error_with_their_names(running: Stack) -> None:
    done = running.pyctr("container", "info", "p-", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'ctr: "p-" is the beginning of several containers: p-one, p-two\n'


def test_an_id_that_exists_is_itself(running: Stack, busybox: str) -> None:
    running.ctr("container", "create", busybox, "p")
    assert json.loads(running.pyctr("container", "info", "p").stdout)["ID"] == "p"
    # It has no task: that is no reason to take another container's.
    done = running.pyctr("task", "kill", "p", check=False)
    assert done.returncode == 1
    assert running.ctr("task", "ls").stdout.count("RUNNING") == 2


@pytest.mark.parametrize(
    "words", ["container rm p-o", "task rm -f p-o", "container info nosuch", "task exec --exec-id e nosuch x"]
)
def test_what_removes_and_what_nobody_knows_say_what_ctr_says(running: Stack, words: str) -> None:
    real, ours = (running.run(program, *words.split(), check=False) for program in ("ctr", "pyctr"))
    assert (ours.returncode, ours.stdout) == (real.returncode, real.stdout)
    assert ours.stderr.splitlines()[-1] == real.stderr.splitlines()[-1]
    assert running.ctr("task", "ls").stdout.count("RUNNING") == 2


def _logging(stack: Stack, busybox: str, path: Path, script: str) -> None:
    stack.ctr("run", "-d", "--log-uri", f"file://{path}", busybox, "l-one", "sh", "-c", script)


def test_logs_of_a_task_that_writes_to_a_file(stack: Stack, busybox: str, tmp_path: Path) -> None:
    _logging(
        stack,
        busybox,
        tmp_path / "log",
        "for i in 1 2 3 4 5; do echo line $i; done; echo open; sleep 1000",
    )
    deadline = time.monotonic() + 20
    while "open" not in (shown := stack.pyctr("logs", "l-one").stdout):
        assert time.monotonic() < deadline
    assert shown.startswith("line 1\nline 2\n")
    assert stack.pyctr("logs", "--tail", "2", "l-o").stdout == "line 5\nopen\n"
    assert stack.pyctr("logs", "--tail", "0", "l-one").stdout == ""
    assert stack.pyctr("logs", "--tail", "100", "l-one").stdout == shown


def test_logs_go_on_until_the_task_has_ended(stack: Stack, busybox: str, tmp_path: Path) -> None:
    _logging(stack, busybox, tmp_path / "log", "echo a; sleep 2; echo b; sleep 1; echo c")
    assert stack.pyctr("logs", "-f", "l-one", timeout=30).stdout == "a\nb\nc\n"


def test_logs_that_are_nowhere(running: Stack) -> None:
    done = running.pyctr("logs", "p-one", check=False)
    assert done.returncode == 1
    assert "the output of p-one goes to" in done.stderr
    assert running.pyctr("logs", check=False).stderr == "ctr: container id must be provided\n"
    assert "not found" in running.pyctr("logs", "nosuch", check=False).stderr


def test_shims_with_age_memory_and_reply(running: Stack) -> None:
    rows = json.loads(running.pyctr("shims", "--format", "json").stdout)
    assert [(row["id"], row["namespace"], row["orphan"]) for row in rows] == [
        ("p-one", "default", False), ("p-two", "default", False),
    ]  # fmt: skip
    assert {row["pid"] for row in rows} == set(running.shims())
    for row in rows:
        assert row["memory_bytes"] > 1 << 20
        assert row["reply_seconds"] is not None
        assert 0 <= row["age_seconds"] < 120
    table = running.pyctr("shims").stdout.splitlines()
    assert table[0].split() == ["CONTAINER", "NAMESPACE", "PID", "AGE", "MEMORY", "REPLY", "STATE"]
    assert len(table) == 3


def pss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def test_a_shims_memory_is_that_of_both_its_processes(running: Stack) -> None:
    def looked_at() -> dict[int, int]:
        return {
            row["pid"]: row["memory_bytes"]
            for row in json.loads(running.pyctr("shims", "--format", "json").stdout)
        }

    before = looked_at()  # which wakes them
    found = looked_at()
    for pid in before:
        attendant = attendant_of(pid)
        assert bool(attendant) == (running.kind == "ours")  # a stock shim is one process
        both = pss_bytes(pid) + (pss_bytes(attendant) if attendant else 0)
        assert 0.7 < found[pid] / both < 1.4, (found[pid], both)
        assert not attendant or found[pid] > 1.2 * pss_bytes(pid)


def test_a_shim_that_hangs_does_not_answer(running: Stack) -> None:
    pid = next(pid for pid, line in running.shims().items() if "p-one" in line)
    os.kill(pid, signal.SIGSTOP)  # first, so that no attendant comes after the one that is stopped next
    stopped = [pid, *filter(None, [attendant_of(pid)])]
    for each in stopped[1:]:
        os.kill(each, signal.SIGSTOP)
    try:
        rows = {row["id"]: row for row in json.loads(running.pyctr("shims", "--format", "json").stdout)}
    finally:
        for each in stopped:
            os.kill(each, signal.SIGCONT)
    assert rows["p-one"]["reply_seconds"] is None
    assert rows["p-two"]["reply_seconds"] is not None


def test_a_shim_without_a_container_is_an_orphan(running: Stack) -> None:
    # The record goes, the task stays: containerd allows it to those who ask for it over the API.
    import grpc

    from pycontainerd.lib.api.full import containers_v1

    method = containers_v1.CONTAINERS.method("Delete")
    with grpc.insecure_channel(f"unix://{running.address}") as channel:
        stub = channel.unary_unary(
            "/containerd.services.containers.v1.Containers/Delete",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response.FromString,
        )
        request = containers_v1.DeleteContainerRequest(id="p-one")
        stub(request, metadata=[("containerd-namespace", "default")], timeout=10)
    rows = {row["id"]: row["orphan"] for row in json.loads(running.pyctr("shims", "--format", "json").stdout)}
    assert rows == {"p-one": True, "p-two": False}
    running.ctr("task", "rm", "-f", "p-one", check=False)
    for pid, line in running.shims().items():
        if "p-one" in line:
            os.kill(pid, signal.SIGKILL)


def _completed(stack: Stack, line: str) -> list[str]:
    """What bash offers behind a line."""
    script = f"""
        eval "$({BIN}/pyctr completion bash)"
        COMP_WORDS=({line}); [ "${{COMP_LINE_ENDS_OPEN:-}}" ] && COMP_WORDS+=("")
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _pyctr; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {**stack.environment, "CONTAINERD_ADDRESS": stack.address}
    if line.endswith(" "):
        environment["COMP_LINE_ENDS_OPEN"] = "1"
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(running: Stack, busybox: str) -> None:
    assert "images" in _completed(running, "pyctr ")
    assert set(_completed(running, "pyctr im")) == {"images", "image"}
    assert set(_completed(running, "pyctr images pu")) == {"pull", "push"}
    assert "--plain-http" in _completed(running, "pyctr images pull --pl")
    assert set(_completed(running, "pyctr container info ")) == {"p-one", "p-two"}
    assert _completed(running, "pyctr container info p-o") == ["p-one"]
    assert _completed(running, "pyctr -n default task kill p-t") == ["p-two"]
    assert busybox in _completed(running, "pyctr run ")
    assert busybox in _completed(running, "pyctr image inspect ")
    assert busybox in _completed(running, "pyctr image usage ")
    assert set(_completed(running, "pyctr shim pprof g")) == {"goroutines"}
    assert _completed(running, "pyctr -n nosuch container info ") == []
    assert _completed(running, "pyctr -a /nosuch container info ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_scripts(stack: Stack, shell: str) -> None:
    script = stack.pyctr("completion", shell).stdout
    assert "pyctr" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_a_shell_has_to_be_known(stack: Stack) -> None:
    done = stack.pyctr("completion", "csh", check=False)
    assert (done.returncode, done.stderr) == (1, "ctr: a shell has to be given: bash, zsh, fish\n")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry


def test_referrers_of_an_image_and_of_this_machines_manifest(fake: FakeRegistry) -> None:
    # As Debian's docker-registry: without the API.
    fake.rule = lambda request: (404, {}, b"{}") if "/referrers/" in request.path else None
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = fake.add_document("m", {"mediaType": kind, "schemaVersion": 2, "config": {}, "layers": []})
    entry = {
        "mediaType": kind,
        "digest": manifest[0],
        "size": manifest[1],
        "platform": {"os": "linux", "architecture": platforms.default().architecture},
    }
    index = "application/vnd.oci.image.index.v1+json"
    top = fake.add_document("1", {"mediaType": index, "schemaVersion": 2, "manifests": [entry]})
    signature = {
        "mediaType": kind,
        "digest": "sha256:" + "1" * 64,
        "size": 7,
        "artifactType": "application/vnd.x.signature",
        "annotations": {"a": "b"},
    }
    fake.add_document(
        manifest[0].replace(":", "-"), {"mediaType": index, "schemaVersion": 2, "manifests": [signature]}
    )
    run = [f"{BIN}/pyctr", "image", "referrers"]
    done = subprocess.run(
        [*run, "--format", "json", f"{fake.address}/a/b:1"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [
        {
            "subject": manifest[0], "digest": "sha256:" + "1" * 64, "artifactType": "application/vnd.x.signature",
            "mediaType": kind, "size": 7, "annotations": {"a": "b"},
        }
    ]  # fmt: skip
    asked = {request.path for request in fake.requests}
    assert {f"/v2/a/b/referrers/{digest}" for digest in (top[0], manifest[0])} <= asked
    done = subprocess.run([*run, f"{fake.address}/a/b:1"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].split() == ["DIGEST", "TYPE", "SIZE", "SUBJECT"]
    done = subprocess.run(
        [*run, "--artifact-type", "other", f"{fake.address}/a/b:1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == 1
    done = subprocess.run([*run, f"{fake.address}/a/b:none"], capture_output=True, text=True, check=False)
    assert (done.returncode, "not found" in done.stderr) == (1, True)
    # The Python client's asks no daemon either.
    (found,) = Images(None).referrers(f"{fake.address}/a/b@{manifest[0]}")  # type: ignore[arg-type]
    assert (found.artifact_type, found.annotations) == ("application/vnd.x.signature", {"a": "b"})
    assert Images(None).referrers(f"{fake.address}/a/b:1", "other") == ()  # type: ignore[arg-type]
