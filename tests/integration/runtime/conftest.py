"""A runtime with a state root of the test's own, and a bundle to change."""

from __future__ import annotations

import os
import time

import pytest

from support.bundle import BundleBuilder
from support.patience import seconds
from support.runtime import Runtime, differs


@pytest.fixture
def runtime(short_tmp):
    made = Runtime(short_tmp / "root")
    yield made
    made.clean()
    if differs("a cgroup goes with its container, however long the last thread takes to end"):
        _remove(f"/sys/fs/cgroup/{short_tmp.name}")


def _remove(path: str) -> None:
    """Removes a cgroup of version 2 that may be gone and whose processes are ending."""
    deadline = time.monotonic() + seconds(5)
    while os.path.isdir(path):
        try:
            os.rmdir(path)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def bundle(short_tmp) -> BundleBuilder:
    return BundleBuilder(short_tmp)
