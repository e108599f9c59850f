"""What an operation costs may only go down: counts that the machine's mood does not change, held in golden/counts.json.

COUNTS=lower writes what is lower now into the file. A higher number needs a reason in the commit that writes it by hand.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import counts, leaks
from support.bundle import BundleBuilder
from support.programs import ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.stack import Stack

pytestmark = pytest.mark.requires("strace", "root")
GOLDEN = Path(__file__).parents[1] / "golden/counts.json"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
# How writes share a commit differs from run to run, and what lies around a library from machine to machine (which is why
# `pyrunc --version` isn't here: it looks for libseccomp, and longer where there is none).
SLACK = 1.15
RUNS = 3


@pytest.fixture(scope="module")
def stack(our_stack: Stack, busybox: str) -> Stack:
    our_stack.pyctr("image", "pull", "--plain-http", busybox)
    our_stack.pyctr("run", "--rm", busybox, "first", "true")
    return our_stack


def hold(name: str, measure: Callable[[], dict[str, int]]) -> None:
    """Compares with the file; lowers it when asked to."""
    golden = json.loads(GOLDEN.read_text())
    limits = golden.get(VERSION, {}).get(name)
    if limits is None and os.environ.get("COUNTS") != "lower":
        pytest.skip(f"no counts are kept for Python {VERSION}")
    found = counts.least(RUNS, measure)
    print(name, found)
    if os.environ.get("COUNTS") == "lower":
        kept = limits or found
        golden.setdefault(VERSION, {})[name] = {key: min(kept[key], found[key]) for key in found}
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
        return
    grown = {key: (found[key], limits[key]) for key in limits if found[key] > limits[key] * SLACK + 2}
    assert not grown, f"{name} costs more than it did (now, limit): {grown}"


def test_pyrunc_run(short_tmp) -> None:
    bundle = BundleBuilder(short_tmp).args("true").build()
    argv = [ours("pyrunc"), "--root", str(short_tmp / "root"), "run", "--bundle", str(bundle), "c"]
    hold("pyrunc run", lambda: counts.of_command(argv, dict(os.environ), short_tmp))


@pytest.mark.parametrize("words", [("version",), ("containers", "ls")], ids=" ".join)
def test_pyctr_alone(stack, tmp_path, words) -> None:
    argv = stack.command("pyctr", *words)
    hold(f"pyctr {' '.join(words)}", lambda: counts.of_command(argv, stack.environment, tmp_path))


def is_forkserver(pid: str) -> bool:
    return b"pycontainerd-forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()


def processes(stack: Stack) -> list[int]:
    """The daemon and what it has made ready."""
    return [stack.pid(), *leaks.our_processes(("pycontainerd-forkserver", ": attends to "))]


def test_run_with_everything_behind_it(stack, busybox, tmp_path) -> None:
    argv = stack.command("pyctr", "run", "--rm", busybox, "c", "true")
    hold(
        "pyctr run --rm, all processes",
        lambda: counts.of_command(argv, stack.environment, tmp_path, attach=processes(stack)),
    )


def test_exec_with_everything_behind_it(stack, busybox, tmp_path) -> None:
    stack.pyctr("run", "-d", busybox, "e", "sleep", "1000")
    try:
        argv = stack.command("pyctr", "task", "exec", "--exec-id", "x", "e", "true")

        def measure() -> dict[str, int]:
            # Asked for each time: an attendant that rested since is another process by now.
            attached = [*processes(stack), *stack.shims()]
            return counts.of_command(argv, stack.environment, tmp_path, attach=attached)

        hold("pyctr task exec, all processes", measure)
    finally:
        stack.pyctr("task", "rm", "-f", "e", check=False)
        stack.pyctr("container", "rm", "e")
