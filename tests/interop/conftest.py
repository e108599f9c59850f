"""Daemons of both kinds, a forkserver and a registry, one of each for a module."""

from __future__ import annotations

import os

import pytest

from pycontainerd.lib import spawn
from support import images
from support.stack import InsideStack, Stack


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory):
    """host:port of a real docker-registry."""
    with images.registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="session")
def busybox(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of a two-layer busybox image in the registry."""
    layout = images.build_layout(tmp_path_factory.mktemp("layout"))
    reference = f"{registry}/library/busybox:latest"
    images.push(layout, reference)
    return reference


@pytest.fixture(scope="module")
def forkserver():
    """One that shims are asked of, as the daemon asks its own."""
    with spawn.SpawnClient.start() as client:
        yield client
        client.close()
        os.waitpid(client.pid, 0)


def _stack(kind: str):
    import shutil
    import tempfile
    from pathlib import Path

    root = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    stack = (InsideStack(root) if kind == "inside" else Stack(root, kind=kind)).start()
    yield stack
    stack.clean()
    shutil.rmtree(root)  # noqa: TID251 - a folder of the test's own


@pytest.fixture(scope="module")
def our_stack():
    yield from _stack("ours")


@pytest.fixture(scope="module")
def real_stack():
    yield from _stack("real")


@pytest.fixture(scope="module")
def inside_stack():
    yield from _stack("inside")
