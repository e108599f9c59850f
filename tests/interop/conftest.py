"""Daemons of both kinds and a registry, one of each for a module."""

from __future__ import annotations

import pytest
from support.registry import Registry
from support.stack import Stack


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory):
    server = Registry(tmp_path_factory.mktemp("registry"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def busybox(registry: Registry) -> str:
    """The reference of a busybox image in the registry."""
    return registry.push_busybox()


def _stack(kind: str):
    import shutil
    import tempfile
    from pathlib import Path

    root = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    stack = Stack(root, kind=kind).start()
    yield stack
    stack.clean()
    shutil.rmtree(root)  # noqa: TID251 - a folder of the test's own


@pytest.fixture(scope="module")
def our_stack():
    yield from _stack("ours")


@pytest.fixture(scope="module")
def real_stack():
    yield from _stack("real")
