"""Owners of a copied image: which ids become which, and what the copy is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pycontainerd.client.remap import Maps, shift_tree
from pycontainerd.lib.errdefs import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path


def one(container: int, host: int, size: int) -> dict[str, int]:
    return {"containerID": container, "hostID": host, "size": size}


def test_ids_by_their_ranges() -> None:
    maps = Maps([one(100, 5000, 10), one(0, 1000, 100)], [one(0, 7, 1)])
    assert maps.host_ids(0, 0) == (1000, 7)
    assert maps.host_ids(99, 0) == (1099, 7)
    assert maps.host_ids(109, 0) == (5009, 7)
    with pytest.raises(FailedPrecondition, match="uid 110 of the image is in no range of the uid map"):
        maps.host_ids(110, 0)
    with pytest.raises(FailedPrecondition, match="gid 1 of the image"):
        maps.host_ids(0, 1)


def test_the_name_says_the_maps() -> None:
    assert Maps([one(0, 1, 9)], [one(0, 2, 9)]).snapshot_name("p") == "p-1-2"
    several = Maps([one(5, 1, 9), one(0, 20, 5)], [one(0, 2, 9)])
    same = Maps([one(0, 20, 5), one(5, 1, 9)], [one(0, 2, 9)])
    assert several.snapshot_name("p") == same.snapshot_name("p")
    assert several.snapshot_name("p").startswith("sha256:")
    assert several.snapshot_name("q") != several.snapshot_name("p")


@pytest.mark.requires("root")
def test_no_link_is_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "file").write_text("x")
    (root / "a/b").mkdir(parents=True)
    (root / "a/link").symlink_to(outside)
    (root / "a/b/file").write_text("x")
    (root / "a/b/file").chmod(0o6755)
    os.mkfifo(root / "a/fifo")
    shift_tree(str(root), Maps([one(0, 1000, 1)], [one(0, 2000, 1)]))
    for name in (".", "a", "a/b", "a/link", "a/b/file", "a/fifo"):
        found = (root / name).lstat()
        assert (found.st_uid, found.st_gid) == (1000, 2000), name
    assert (root / "a/b/file").stat().st_mode & 0o7777 == 0o6755
    assert (outside.stat().st_uid, (outside / "file").stat().st_uid) == (0, 0)
