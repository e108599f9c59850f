"""The shim contract on containerd's own shim and on ours, exec'ed and forked, with real runc."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from suites.shim import ShimSuite
from support import shims
from support.programs import containerd_since_1_7


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory):
    return shims.make_rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture
def folder():
    """Short: sockets live here."""
    with tempfile.TemporaryDirectory(prefix="shim", dir="/tmp") as path:
        yield Path(path)


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


class TestV1:
    """containerd 1.6's shim of io.containerd.runc.v1, and ours under that name (S006): what is not the same code as v2's."""

    @pytest.fixture(params=[shims.StockV1Shim, shims.V1Shim])
    def shim(self, request, folder, rootfs):
        under_test = request.param(folder, rootfs)
        yield under_test
        under_test.close()

    test_life = ShimSuite.test_life_of_a_container_and_its_events_in_order
    test_s043_socket = ShimSuite.test_s043_socket_is_named_after_address_namespace_and_id
    test_files = ShimSuite.test_files_in_the_bundle
    test_forbidden_verbs = ShimSuite.test_forbidden_verbs_say_why
    _refused = ShimSuite._refused
    test_exec = ShimSuite.test_exec_and_its_events
    test_terminal = ShimSuite.test_terminal

    def test_s006_a_group_has_a_shim_for_each_container(self, shim, folder, rootfs):
        annotations = {"io.containerd.runc.v2.group": "pod"}
        shim.run("/bin/sleep", "100", annotations=annotations)
        (folder / "2").mkdir()
        other = type(shim)(folder / "2", rootfs, "c2")
        other.grpc_address = shim.grpc_address
        try:
            other.run("/bin/sleep", "100", annotations=annotations)
            assert (other.pid == shim.pid, other.address == shim.address) == (False, False)
        finally:
            other.close()

    def test_s006_flags_of_its_time(self, shim):
        done = subprocess.run(
            [shim.program, "-info"], capture_output=True, text=True, env=shim.environment(), check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith("flag provided but not defined: -info\nUsage of ")
        text = '\tpath to publish binary (used for publishing events) (default "containerd")\n'
        if isinstance(shim, shims.StockV1Shim) and containerd_since_1_7():
            text = f"\tpath to publish binary (used for publishing events), but {shim.program} will ignore this flag"
        assert text in done.stderr
