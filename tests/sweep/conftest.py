"""Long runs: a sample of each by default, all of it with SWEEP=full (`make sweep`)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.bundle import BundleBuilder
from support.runtime import Runtime

FULL = os.environ.get("SWEEP") == "full"


@pytest.fixture
def amount():
    """`amount(sample, full)`: how often, here."""
    return lambda sample, full: full if FULL else sample


@pytest.fixture
def runtime(short_tmp):
    made = Runtime(short_tmp / "root")
    yield made
    made.clean()


@pytest.fixture
def bundle(short_tmp, runtime):
    """A bundle whose cgroup's parent stays: another run on the machine may remove empty ones at any moment."""
    made = BundleBuilder(short_tmp)
    kept = [path / short_tmp.name / "kept" for path in hierarchies()]
    for path in kept:
        path.mkdir(parents=True)
    made.cgroup = made.linux["cgroupsPath"] = f"/{short_tmp.name}/c"
    yield made
    runtime.clean()
    for path in kept:
        path.rmdir()
        path.parent.rmdir()


def hierarchies() -> list[Path]:
    """Mounted cgroup hierarchies."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root]
    return [path for path in root.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if FULL:
        for item in items:
            item.add_marker(pytest.mark.timeout(0))
