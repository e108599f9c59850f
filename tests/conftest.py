"""Fixtures for every test: needs, leaks, and the list of skips."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import hypothesis
import pytest

from support import leaks, patience, requires
from support.programs import PEERS

ROOTED = ("integration", "interop", "sweep")
# strace and ps for machines that have none; the system's own come first.
os.environ["PATH"] += f":{PEERS.parent}/bin"
# A run in a shell's background inherits an ignored SIGINT, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No test asserts a time, and an example's is the machine's mood.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


# These look into a container by exec on the real stack, too.
EXEC_ON_THE_REAL_STACK = (
    "test_s031_seven_mounts_in_order[real",
    "test_s032_devices_are_denied_but_for_the_list[real",
    "test_s035_masked_paths_are_empty[real",
    "test_s036_read_only_paths[real",
    "test_s076_a_snapshot_is_a_numbered_folder_with_fs_and_work[real",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    patience.apply(items, float(config.getini("timeout")))
    for item in items:
        if any(part in item.nodeid for part in EXEC_ON_THE_REAL_STACK) and requires.chroot():
            item.add_marker(pytest.mark.skip(reason=requires.chroot()))
        for mark in item.iter_markers("requires"):
            for need in mark.args:
                reason = requires.missing(need)
                if reason:
                    item.add_marker(pytest.mark.skip(reason=reason))
        if any(f"/tests/{part}/" in str(item.path) for part in ROOTED) and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest):
    """After each test of the kernel: no new mount, cgroup, link, netns or child process."""
    if not any(f"/tests/{part}/" in str(request.path) for part in ROOTED):
        yield
        return
    before = leaks.Snapshot()
    yield
    deadline = time.monotonic() + patience.seconds(5)
    while extra := leaks.Snapshot().added_since(before):
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {extra}")
        time.sleep(0.05)


@pytest.fixture(scope="session", autouse=True)
def _machine_unchanged():
    """After the whole run: nothing of ours is left on the machine."""
    before, processes = leaks.Snapshot(), set(leaks.our_processes(("pycontainerd", "pyrunc")))
    parents = leaks.empty_parents()
    yield
    leaks.remove_empty_parents(parents)
    after = leaks.Snapshot().added_since(before)
    marks = (
        ()
        if os.environ.get("PYCONTAINERD_SHARED_MACHINE")
        else ("containerd-shim-pyrunc", "pycontainerd-forkserver")
    )
    left = {p: line for p, line in leaks.our_processes(marks).items() if p not in processes}
    assert not after, f"the test run left behind: {after}"
    assert not left, f"the test run left processes: {left}"


@pytest.fixture
def short_tmp():
    """A temporary folder with a path short enough for sockets (108 bytes)."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    yield path
    shutil.rmtree(path)  # noqa: TID251 - a folder of the test's own


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Under CI a skip that nobody expected fails the run: a silently skipped suite is a green lie."""
    here = Path(__file__).parent
    lists = [here / "expected_skips.txt"]
    if os.environ.get("PYCONTAINERD_VM"):
        lists.append(here / "vm/expected_skips.txt")
    expected = [line for path in lists for line in path.read_text().splitlines() if line]
    reasons = {
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    }
    unexpected = sorted(r for r in reasons if not any(r.startswith(e) for e in expected))
    for reason in unexpected:
        terminalreporter.write_line(f"unexpected skip, not in tests/expected_skips.txt: {reason}", red=True)
    if unexpected and os.environ.get("CI") == "true":
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED
