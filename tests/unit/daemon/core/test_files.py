"""Small files, times, and removal of hostile trees."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.daemon.core import files


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000_000))
def test_go_times_read_back_as_themselves(nanos):
    assert files.parse_go_time(files.format_go_time(nanos)) == nanos


def test_go_times_look_like_go():
    assert files.format_go_time(1_700_000_000_120_000_000) == b"2023-11-14T22:13:20.12Z"
    assert files.format_go_time(1_700_000_000_000_000_000) == b"2023-11-14T22:13:20Z"
    assert files.parse_go_time(b"2023-11-14T23:13:20.000000001+01:00") == 1_700_000_000_000_000_001


@pytest.mark.parametrize("text", [b"", b"now", b"2023-11-14T22:13:20", b"\xff"])
def test_other_times_are_errors(text):
    with pytest.raises(ValueError):
        files.parse_go_time(text)


def test_remove_tree_takes_everything_and_follows_nothing(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/c").write_text("x")
    (tree / "a/link").symlink_to(outside)
    os.mkfifo(tree / "fifo")
    (tree / "locked").mkdir(mode=0o000)
    files.remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "keep").exists()


def test_remove_tree_copes_with_depth_and_clashing_names(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):  # deeper than PATH_MAX and the interpreter's stack
        os.mkdir("deep", dir_fd=fd)
        inner = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    for name in ("x", "y"):
        (tree / name / "same").mkdir(parents=True)
    files.remove_tree(str(tree))
    assert not tree.exists()


def test_remove_tree_of_nothing_is_fine(tmp_path):
    files.remove_tree(str(tmp_path / "nope"))
    files.remove_tree(str(tmp_path / "nope/nope"))


def test_make_dir_sets_the_mode_whatever_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        files.make_dir(f"{tmp_path}/a/b", 0o755)
    finally:
        os.umask(old)
    assert [oct(os.stat(f"{tmp_path}/{p}").st_mode & 0o7777) for p in ("a", "a/b")] == ["0o711", "0o755"]


def test_read_limited_never_truncates(tmp_path):
    from pycontainerd.lib.errdefs import Unknown

    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert files.read_limited(str(path), 5) == b"12345"
    with pytest.raises(Unknown):
        files.read_limited(str(path), 4)
