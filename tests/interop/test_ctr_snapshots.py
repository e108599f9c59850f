"""`snapshot diff` and `unpack`: pyctr beside Debian's ctr, on both daemons."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from support import parity

if TYPE_CHECKING:
    from pathlib import Path

    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

SEVEN = "sha256:" + "7" * 64
PLAIN = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture(scope="module", params=["our", "real"])
def stack(request: pytest.FixtureRequest, busybox: str):
    """Each daemon, with busybox."""
    found: Stack = request.getfixturevalue(f"{request.param}_stack")
    found.ctr("image", "pull", busybox)
    return found


@pytest.fixture(scope="module")
def names(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """%T and %U: the committed snapshots, top and base; k1 is active on the top: one file more, one less, one changed."""
    rows = [line.split() for line in stack.ctr("snapshot", "ls").stdout.splitlines()[1:]]
    top = next(row[0] for row in rows if len(row) == 3)
    base = next(row[0] for row in rows if len(row) == 2)
    folder: Path = tmp_path_factory.mktemp("m")
    mount = stack.ctr("snapshot", "prepare", "-t", str(folder), "k1", top).stdout
    subprocess.run(["sh", "-c", mount], check=True)
    try:
        (folder / "new").write_text("new")
        (folder / "etc/motd").unlink()
        (folder / "etc/passwd").write_text("changed")
    finally:
        subprocess.run(["umount", folder], check=True)
    return {"%T": top, "%U": base}


def check(stack: Stack, steps: list[str], names: dict[str, str]) -> list[tuple[int, str, str]]:
    def clean() -> None:
        stack.ctr("-n", "u", "image", "rm", "--sync", names.get("%B", "x"), check=False)
        for key in stack.ctr("-n", "u", "snapshot", "ls").stdout.split("\n")[1:]:
            assert not key

    return parity.compare(stack, steps, names, clean)


@pytest.mark.parametrize(
    "words", ["k1", "%T", "%U", "%T k1", "k1 %T", "%U k1", "%U %T", "%T %U", f"--media-type {PLAIN} k1"]
)
def test_a_diff_holds_the_same(stack: Stack, names: dict[str, str], words: str) -> None:
    listed = {}
    for program in ("ctr", "pyctr"):
        argv = [parity.expand(word, names) for word in words.split()]
        command = stack.command(program, "snapshot", "diff", *argv)
        data = subprocess.run(command, env=stack.environment, capture_output=True, check=True).stdout
        listed[program] = subprocess.run(["tar", "tvf" if PLAIN in words else "tvzf", "-"], input=data, capture_output=True, check=True).stdout  # fmt: skip
    assert listed["pyctr"] == listed["ctr"]
    assert listed["ctr"]
    assert "view" not in stack.ctr("snapshot", "ls").stdout
    assert stack.ctr("leases", "ls", "-q").stdout == ""


def test_errors_of_diff(stack: Stack, names: dict[str, str]) -> None:
    check(stack, ["snapshot diff", "snapshot diff nosuch", "snapshot diff k1 nosuch", "snapshot diff --media-type bogus k1", "snapshot ls"], names)  # fmt: skip


def collect(stack: Stack) -> None:
    """A garbage collection, waited for."""
    stack.ctr("leases", "create", "--id", "l1")
    stack.ctr("leases", "rm", "--sync", "l1")


def test_a_kept_layer_stays_and_another_goes(stack: Stack, names: dict[str, str]) -> None:
    kept = {}
    for program in ("ctr", "pyctr"):
        collect(stack)  # an earlier test's layer of the same second would have the same digest, and no label
        before = set(stack.ctr("content", "ls", "-q").stdout.split())
        flags = ("--keep", "--label", "a=b", "--media-type", PLAIN, "--ref", f"r{program}")
        keeping = stack.command(program, "snapshot", "diff", *flags, "k1")
        subprocess.run(keeping, env=stack.environment, check=True, capture_output=True)
        passing = stack.command(program, "snapshot", "diff", names["%T"], "k1")
        subprocess.run(passing, env=stack.environment, check=True, capture_output=True)
        collect(stack)
        rows = stack.ctr("content", "ls").stdout.splitlines()[1:]
        # Whiteouts have the time they are made: the digest is another one each time.
        new = [row for row in rows if row.split()[0] not in before]
        kept[program] = [parity.masked(row).partition("\t")[2] for row in new]
        for row in new:
            stack.ctr("content", "rm", row.split()[0])
    assert kept["pyctr"] == kept["ctr"]
    assert len(kept["ctr"]) == 1
    assert "a=b" in kept["ctr"][0]


def test_unpacking_by_hand(stack: Stack, busybox: str) -> None:
    index = stack.ctr("image", "ls", f"name=={busybox}").stdout.splitlines()[1].split()[2]
    steps = [
        "snapshot unpack",
        "snapshot unpack foo",
        f"snapshot unpack {SEVEN}",
        "-n u content fetch %B",
        "-n u snapshot ls",
    ]
    steps = [*steps[:3], "-n u snapshot unpack %I", "-n u snapshot ls"]

    def fetched(program: str) -> list[tuple[int, str, str]]:
        stack.ctr("-n", "u", "content", "fetch", busybox)
        done = [stack.run(program, *step.replace("%I", index).split(), check=False) for step in steps]
        answers = [(one.returncode, parity.masked(one.stdout), parity.masked(one.stderr)) for one in done]
        stack.ctr("-n", "u", "image", "rm", "--sync", busybox)
        return answers

    assert fetched("pyctr") == fetched("ctr")


def test_unpacking_with_another_snapshotter(stack: Stack, busybox: str) -> None:
    index = stack.ctr("image", "ls", f"name=={busybox}").stdout.splitlines()[1].split()[2]
    for argv in (
        ["snapshot", "unpack", "--snapshotter", "native", index],
        ["snapshot", "--snapshotter", "native", "unpack", index],
    ):
        stack.ctr("-n", "u", "content", "fetch", busybox)
        assert stack.pyctr("-n", "u", *argv).stdout.endswith("...done\n")
        assert (
            stack.ctr("-n", "u", "snapshot", "--snapshotter", "native", "ls").stdout.count("Committed") == 2
        )
        stack.ctr("-n", "u", "image", "rm", "--sync", busybox)
        assert "Committed" not in stack.ctr("-n", "u", "snapshot", "--snapshotter", "native", "ls").stdout
