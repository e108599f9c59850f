"""Owners of a copied image: which ids become which, and what the copy is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pycontainerd.client.remap import Maps, prepare_labelled, shift_tree
from pycontainerd.lib.api.light import introspection_v1, snapshots_v1
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


class Daemon:
    """Answers what a client asks of snapshots, and remembers it."""

    namespace = "default"

    def __init__(self, *capabilities: str) -> None:
        self._capabilities = capabilities
        self.asked: list[tuple[str, object]] = []

    def call(self, service: object, method: str, request: object) -> object:
        self.asked.append((method, request))
        if method == "Plugins":
            plugin = introspection_v1.Plugin(id="some", capabilities=list(self._capabilities))
            return introspection_v1.PluginsResponse(plugins=[plugin])
        return snapshots_v1.PrepareSnapshotResponse()


MAPS = Maps([one(0, 1000, 5), one(5, 9000, 7)], [one(0, 2000, 5)])


def test_labels_hold_every_range_as_it_was_given() -> None:
    daemon = Daemon("remap-ids", "only-remap-ids")
    prepare_labelled(daemon, "some", "key", "parent", MAPS, {"a": "b"})
    (_, plugins), (method, request) = daemon.asked
    assert list(plugins.filters) == ['type==io.containerd.snapshotter.v1,id=="some"']
    assert (method, request.key, request.parent) == ("Prepare", "key", "parent")
    assert dict(request.labels) == {
        "a": "b",
        "containerd.io/snapshot/uidmapping": "0:1000:5,5:9000:7",
        "containerd.io/snapshot/gidmapping": "0:2000:5",
    }


def test_a_snapshotter_that_wants_no_copies_gets_none() -> None:
    daemon = Daemon("only-remap-ids")
    with pytest.raises(FailedPrecondition, match="configure `slow_chown` to allow a slower and expensive"):
        prepare_labelled(daemon, "some", "key", "parent", MAPS, {})
    assert [method for method, _ in daemon.asked] == ["Plugins"]


def test_a_copy_needs_a_root() -> None:
    maps = Maps([one(1, 1000, 5)], [one(0, 2000, 5)])
    with pytest.raises(FailedPrecondition, match="container UID/GID mapping entries of 0 are required"):
        prepare_labelled(Daemon(), "some", "key", "parent", maps, {})
