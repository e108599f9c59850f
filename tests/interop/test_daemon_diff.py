"""Diff against the real daemon's: the same two trees make the same layer, member by member and in the same order."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import content_v1, diff_v1, leases_v1, types, wkt
from support.daemons import Daemon, call

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

LEASE = "held"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
OLD, NEW = "2020-01-02T03:04:05.123456789Z", "2022-01-02T03:04:05.5Z"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
FILES = (
    *(
        "a/b/c/gone",
        "a/b/c/stays",
        "same/file",
        "gone/dir/file",
        "links/one",
        "links/two-is-one",
        "links/other",
    ),
    *(
        "becomes/file",
        "becomes/dir/file",
        "deep/er/est/file",
        "mode/file",
        "owner",
        "opaque/old",
        "empty/file",
    ),
)


@pytest.fixture(scope="module")
def folder():
    folder = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
    yield folder
    remove_tree(str(folder))


@pytest.fixture(scope="module")
def daemons(folder):
    with Daemon(folder / "r", real=True) as real, Daemon(folder / "o", real=False) as ours:
        both = (real.start(), ours.start())
        for daemon in both:
            with daemon.channel() as channel:
                made = call(channel, leases_v1.LEASES, "Create", leases_v1.CreateRequest(id=LEASE))
            assert made[0] == "OK"
        yield both


def touch(tree: Path, when: str, *conditions: str) -> None:
    subprocess.run(["find", tree, *conditions, "-exec", "touch", "-h", "-d", when, "{}", "+"], check=True)


def make_left(tree: Path) -> Path:
    for name in FILES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "links/two-is-one").unlink()
    os.link(tree / "links/one", tree / "links/two-is-one")
    os.link(tree / "links/other", tree / "links/another")
    (tree / "symlink").symlink_to("owner")
    touch(tree, OLD)
    return tree


def unchanged(tree: Path) -> None:
    """Nothing at all."""


def removals(tree: Path) -> None:
    """In folders that are otherwise as they were."""
    (tree / "a/b/c/gone").unlink()
    remove_tree(str(tree / "gone/dir"))
    (tree / "empty/file").unlink()


def additions(tree: Path) -> None:
    """In folders that are otherwise as they were, and with long and foreign names."""
    (tree / "deep/er/est/new").write_text("new")
    (tree / "folder/inner").mkdir(parents=True)
    (tree / ("folder/" + "ü" * 60)).write_text("foreign")
    (tree / ("n" * 120)).write_text("long")
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "null", 0o20644, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))


def hard_links(tree: Path) -> None:
    """A new name of an old file, two names of a new one, and an old file whose other name goes."""
    os.link(tree / "links/one", tree / "links/third")
    (tree / "links/z").write_text("z")
    os.link(tree / "links/z", tree / "deep/er/est/z")
    os.link(tree / "symlink", tree / "symlink-too", follow_symlinks=False)
    (tree / "links/another").unlink()


def other_kinds(tree: Path) -> None:
    """A file where a folder was, and the reverse."""
    (tree / "becomes/file").unlink()
    (tree / "becomes/file").mkdir()
    (tree / "becomes/file/inside").write_text("inside")
    remove_tree(str(tree / "becomes/dir"))
    (tree / "becomes/dir").write_text("a file now")


def attributes(tree: Path) -> None:
    """Modes, owners beyond what ustar holds, times, and extended attributes of all kinds."""
    (tree / "mode/file").chmod(0o4711)
    os.chown(tree / "owner", 70_000, 3_000_000)
    (tree / "symlink").unlink()
    (tree / "symlink").symlink_to("mode")
    (tree / "capable").write_text("x")
    for name, value in (("security.capability", CAPABILITY), ("user.a", b"b"), ("trusted.a", b"b")):
        os.setxattr(tree / "capable", name, value)
    os.setxattr(tree / "same/file", "user.a", b"b")
    os.setxattr(tree / "deep/er", "user.a", b"b")


def replaced_folder(tree: Path) -> None:
    """Over an overlay this is an opaque folder."""
    remove_tree(str(tree / "opaque"))
    (tree / "opaque").mkdir()
    (tree / "opaque/new").write_text("new")


CHANGES = (unchanged, removals, additions, hard_links, other_kinds, attributes, replaced_folder)


def bound(tree: Path) -> list[types.Mount]:
    return [types.Mount(type="bind", source=str(tree), options=["rbind", "ro"])]


def copied(folder: Path, left: Path, change) -> list[types.Mount]:
    """The changed tree as a copy: every inode is another one."""
    right = folder / "copy"
    subprocess.run(["cp", "-a", left, right], check=True)
    change(right)
    touch(right, NEW, "-newermt", "2021-01-01")
    return bound(right)


def overlaid(folder: Path, left: Path, change) -> list[types.Mount]:
    """The changed tree as an overlay on the first one: what is unchanged is the same inode."""
    for name in ("upper", "work", "merged"):
        (folder / name).mkdir()
    options = [f"lowerdir={left}", f"upperdir={folder}/upper", f"workdir={folder}/work"]
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", ",".join(options), folder / "merged"], check=True
    )
    try:
        change(folder / "merged")
        touch(folder / "merged", NEW, "-newermt", "2021-01-01")
    finally:
        subprocess.run(["umount", folder / "merged"], check=True)
    return [types.Mount(type="overlay", source="overlay", options=options)]


def diffed(daemon: Daemon, left, right, **fields) -> list[str]:
    """The members of a layer, as GNU tar lists them: kind, mode, owner, size, time, name, link and attributes."""
    request = diff_v1.DiffRequest(left=left, right=right, media_type=PLAIN, ref="r", **fields)
    with daemon.channel() as channel:
        # With a lease, because both daemons collect soon after their start.
        status, text, answer = call(channel, diff_v1.DIFF, "Diff", request, lease=LEASE)
        assert (status, text, answer.diff.media_type) == ("OK", "", PLAIN)
        read = content_v1.ReadContentRequest(digest=answer.diff.digest)
        parts = call(channel, content_v1.CONTENT, "Read", read)[2]
    command = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--full-time", "-tvvf", "-"]
    listed = subprocess.run(
        command, input=b"".join(part.data for part in parts), capture_output=True, check=True
    )
    return listed.stdout.decode().splitlines()


def without_whiteout_times(lines: list[str]) -> list[str]:
    """1.6 gives whiteouts the time of the diff; containerd 2 and we the time 0."""
    return [re.sub(r"\S+ \S+ (\S*\.wh\.)", r"\1", line) for line in lines]


@pytest.mark.parametrize("make_right", [copied, overlaid])
@pytest.mark.parametrize("change", CHANGES)
def test_the_same_change_makes_the_same_members(daemons, folder, tmp_path, change, make_right):
    del folder  # the daemons' own
    left = make_left(tmp_path / "left")
    right = make_right(tmp_path, left, change)
    expected, actual = (without_whiteout_times(diffed(daemon, bound(left), right)) for daemon in daemons)
    assert actual == expected
    assert bool(expected) == (change is not unchanged)


def test_no_member_is_later_than_the_given_time_and_whiteouts_have_time_zero(daemons, tmp_path):
    left = make_left(tmp_path / "left")
    right = copied(tmp_path, left, lambda tree: (removals(tree), additions(tree)))
    lines = diffed(daemons[1], bound(left), right, source_date_epoch=wkt.Timestamp(seconds=1_600_000_000))
    times = {line.split()[-1]: " ".join(line.split()[3:5]) for line in lines}
    assert times["a/b/c/.wh.gone"] == "1970-01-01 00:00:00"
    assert times["a/"] == "2020-01-02 03:04:05"
    assert times["deep/er/est/new"] == "2020-09-13 12:26:40"
