"""A runtime with a state root of the test's own, and a bundle to change."""

from __future__ import annotations

import ctypes
import os

import pytest
from support.bundle import BundleBuilder
from support.runtime import Runtime


@pytest.fixture(autouse=True, scope="session")
def _reap_orphans():
    """Detached containers become children of the test run, and are reaped when they end."""

    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    yield
    libc.prctl(36, 0, 0, 0, 0)


@pytest.fixture
def runtime(short_tmp):

    made = Runtime(short_tmp / "root")
    yield made
    made.clean()
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break


@pytest.fixture
def bundle(short_tmp) -> BundleBuilder:
    return BundleBuilder(short_tmp)
