"""Pulls from registries that lie, truncate, reset or stall, by ctr and pyctr, and --timeout: an error, and nothing left."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from support import images
from support.fake_registry import FakeRegistry, fake_registry

if TYPE_CHECKING:
    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(150)]

KIND = "application/vnd.oci.image."


@pytest.fixture(params=["our", "real"])
def stack(request: pytest.FixtureRequest):
    """Each daemon."""
    return request.getfixturevalue(f"{request.param}_stack")


@pytest.fixture
def fake():
    """A registry with one image, a/b:v1, of one layer."""
    with fake_registry() as registry:
        data, diff_id = images.layer(
            [("a", "file", b"x" * 300_000, 0o644), ("b", "file", bytes(range(256)) * 999, 0o644)]
        )
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
        parts = [("config.v1+json", json.dumps(config).encode()), ("layer.v1.tar+gzip", data)]
        found = [
            {"mediaType": KIND + kind, "digest": registry.add_blob(blob), "size": len(blob)}
            for kind, blob in parts
        ]
        document = {
            "schemaVersion": 2,
            "mediaType": KIND + "manifest.v1+json",
            "config": found[0],
            "layers": found[1:],
        }
        registry.add_document("v1", document)
        registry.layer = found[1]["digest"]  # type: ignore[attr-defined]
        yield registry


def _spoil(fake: FakeRegistry, answer: Any) -> None:
    """The layer is answered otherwise; everything else as it is."""
    layer: str = fake.layer  # type: ignore[attr-defined]
    fake.rule = lambda request: answer(fake.blobs[layer]) if layer in request.path else None


FAULTS = {
    "another digest": lambda data: (200, {}, data[:-9] + b"otherwise"),
    "too long": lambda data: (200, {}, data + b"more"),
    "too short": lambda data: (200, {}, data[:-100]),
    "cut": lambda data: (200, {"Content-Length": str(len(data)), "X-Cut": "1"}, data[:100]),
    "reset": lambda data: (200, {"Content-Length": str(len(data)), "X-Reset": "1"}, data[:100]),
    "gone": lambda data: (404, {}, b"{}"),
    "refused": lambda data: (403, {}, b"{}"),
    "limited": lambda data: (429, {"Retry-After": "3600"}, b""),
}


def require_nothing_left(stack: Stack, space: str) -> None:
    """No image, lease, ingest or snapshot; content goes with the lease, soon after."""
    for command in (
        ["leases", "ls", "-q"],
        ["image", "ls", "-q"],
        ["content", "active", "-t", "5s"],
        ["snapshot", "ls"],
    ):
        assert len(stack.ctr("-n", space, *command).stdout.splitlines()) <= ("-q" not in command), command
    deadline = time.monotonic() + 10
    while stack.ctr("-n", space, "content", "ls", "-q").stdout:
        assert time.monotonic() < deadline, "content of the pull that failed is still there"
        time.sleep(0.1)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_an_error_and_a_second_try_is_clean(stack: Stack, fake: FakeRegistry, fault: str) -> None:
    name = f"{fake.address}/a/b:v1"
    _spoil(fake, FAULTS[fault])
    done = stack.pyctr("-n", "faults", "image", "pull", name, check=False, timeout=100)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ctr: ")
    assert "Traceback" not in done.stderr
    require_nothing_left(stack, "faults")
    fake.rule = lambda request: None
    stack.pyctr("-n", "faults", "image", "pull", name)
    stack.ctr("-n", "faults", "image", "rm", "--sync", name)
    require_nothing_left(stack, "faults")


@pytest.mark.parametrize("fault", ["another digest", "too long", "gone", "refused"])
def test_ctr_fails_on_the_same_ones(real_stack: Stack, fake: FakeRegistry, fault: str) -> None:
    _spoil(fake, FAULTS[fault])
    name = f"{fake.address}/a/b:v1"
    done = real_stack.ctr("-n", "faults", "image", "pull", name, check=False, timeout=100)
    assert done.returncode == 1


def _stalled(fake: FakeRegistry) -> str:
    _spoil(fake, lambda data: (200, {"Content-Length": str(len(data)), "X-Stall": "1"}, data[:100]))
    return f"{fake.address}/a/b:v1"


@pytest.mark.parametrize("program", ["ctr", "pyctr"])
def test_a_timeout_is_for_the_whole_pull(stack: Stack, fake: FakeRegistry, program: str) -> None:
    done = stack.run(
        program, "--timeout", "2s", "-n", "late", "image", "pull", _stalled(fake), check=False, timeout=30
    )
    assert done.returncode == 1
    if program == "pyctr":  # ctr's own lease is left: the end of its time ends its clean-up too
        assert done.stderr.endswith("ctr: context deadline exceeded\n")
        require_nothing_left(stack, "late")
    else:
        for lease in stack.ctr("-n", "late", "leases", "ls", "-q").stdout.split():
            stack.ctr("-n", "late", "leases", "rm", "--sync", lease)


def test_a_pull_that_stalls_can_be_interrupted(stack: Stack, fake: FakeRegistry) -> None:
    argv = stack.command("pyctr", "-n", "late", "image", "pull", _stalled(fake))
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=stack.environment
    ) as process:
        deadline = time.monotonic() + 10
        while not any(fake.layer in request.path for request in fake.requests):  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130
    require_nothing_left(stack, "late")


@pytest.mark.parametrize("program", ["ctr", "pyctr"])
def test_a_timeout_is_for_a_run_too(stack: Stack, busybox: str, program: str) -> None:
    stack.ctr("image", "pull", busybox)
    done = stack.run(
        program, "--timeout", "2s", "run", "--rm", busybox, "late1", "sleep", "60", check=False, timeout=30
    )
    assert done.returncode == 1
    assert "deadline exceeded" in done.stderr
    if program == "pyctr":  # ctr leaves the container running
        assert "late1" not in stack.ctr("task", "ls", "-q").stdout + stack.ctr("container", "ls", "-q").stdout
    stack.ctr("task", "rm", "-f", "late1", check=False)
    stack.ctr("container", "rm", "late1", check=False)


@pytest.mark.parametrize("program", ["ctr", "pyctr"])
def test_a_timeout_ends_events(stack: Stack, program: str) -> None:
    done = stack.run(program, "--timeout", "1s", "events", check=False, timeout=30)
    assert done.returncode == 1
    assert "deadline exceeded" in done.stderr
