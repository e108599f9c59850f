"""The shim contract on containerd's own shim and on ours, exec'ed and forked, with real runc."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from pycontainerd.lib import spawn
from suites.shim import ShimSuite
from support import shims


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory):
    return shims.make_rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture
def folder():
    """Short: sockets live here."""
    with tempfile.TemporaryDirectory(prefix="shim", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def forkserver():
    with spawn.SpawnClient.start() as client:
        yield client
        client.close()
        os.waitpid(client.pid, 0)


class TestStockShim(ShimSuite):
    """Judges the suite itself."""

    @pytest.fixture
    def shim(self, folder, rootfs):
        under_test = shims.StockShim(folder, rootfs)
        yield under_test
        under_test.close()


class TestExecutedShim(ShimSuite):
    """Ours, started as containerd starts it."""

    @pytest.fixture
    def shim(self, folder, rootfs):
        under_test = shims.ShimUnderTest(folder, rootfs)
        yield under_test
        under_test.close()


class TestForkedShim(ShimSuite):
    """Ours, from the forkserver."""

    @pytest.fixture
    def shim(self, folder, rootfs, forkserver):
        under_test = shims.ForkedShim(folder, rootfs)
        under_test.forkserver = forkserver
        yield under_test
        under_test.close()


class TestRestingShim(ShimSuite):
    """Ours, from the forkserver, made again from what its last attendant has left before every call."""

    @pytest.fixture
    def shim(self, folder, rootfs, forkserver):
        under_test = shims.RestingShim(folder, rootfs)
        under_test.forkserver = forkserver
        yield under_test
        under_test.close()


class TestInProcess(ShimSuite):
    """Ours, exec'ed, with its own libcontainer instead of a runtime program."""

    @pytest.fixture
    def shim(self, folder, rootfs):
        under_test = shims.InProcessShim(folder, rootfs)
        yield under_test
        under_test.close()
