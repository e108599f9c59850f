"""What every snapshotter does: `class TestX(SnapshotterSuite)` with a `snapshotter` fixture gets all of it."""

from __future__ import annotations

import os

import pytest

from pycontainerd.daemon.core.snapshots import Info, Kind
from pycontainerd.lib.errdefs import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)


def upper_of(mounts) -> str:
    """The directory that writes to an active snapshot land in."""
    (mount,) = mounts
    options = dict(option.partition("=")[::2] for option in mount.options)
    return options.get("upperdir", mount.source)


def commit_layer(snapshotter, name: str, parent: str, **files: str) -> None:
    upper = upper_of(snapshotter.prepare(f"{name}-active", parent, {}))
    for file, text in files.items():
        with open(f"{upper}/{file}", "w") as f:
            f.write(text)
    snapshotter.commit(name, f"{name}-active", {})


class SnapshotterSuite:
    """Contract of core.snapshots.Snapshotter."""

    def test_prepare_gives_one_writable_mount(self, snapshotter):
        (mount,) = snapshotter.prepare("a", "", {})
        assert (mount.type, "rw" in mount.options, os.listdir(mount.source)) == ("bind", True, [])
        assert snapshotter.stat("a").kind is Kind.ACTIVE
        assert snapshotter.mounts("a") == (mount,)

    def test_commit_turns_a_key_into_a_name(self, snapshotter):
        snapshotter.prepare("a", "", {})
        snapshotter.commit("c", "a", {"containerd.io/snapshot/x": "y"})
        info = snapshotter.stat("c")
        assert (info.kind, info.labels) == (Kind.COMMITTED, {"containerd.io/snapshot/x": "y"})
        with pytest.raises(NotFound):
            snapshotter.stat("a")

    def test_a_committed_snapshot_has_no_mounts(self, snapshotter):
        commit_layer(snapshotter, "c", "")
        with pytest.raises(FailedPrecondition, match="not active"):
            snapshotter.mounts("c")

    def test_a_view_is_read_only_and_cannot_be_committed(self, snapshotter):
        commit_layer(snapshotter, "c", "", file="1")
        (mount,) = snapshotter.view("v", "c", {})
        assert "ro" in mount.options
        assert os.listdir(mount.source) == ["file"]
        assert snapshotter.stat("v").kind is Kind.VIEW
        with pytest.raises(FailedPrecondition, match="is not active"):
            snapshotter.commit("cv", "v", {})

    def test_a_view_of_nothing_is_an_empty_read_only_mount(self, snapshotter):
        (mount,) = snapshotter.view("v", "", {})
        assert ("ro" in mount.options, os.listdir(mount.source)) == (True, [])

    def test_keys_and_names_are_taken_once(self, snapshotter):
        snapshotter.prepare("a", "", {})
        with pytest.raises(AlreadyExists):
            snapshotter.prepare("a", "", {})
        with pytest.raises(AlreadyExists):
            snapshotter.view("a", "", {})
        snapshotter.commit("c", "a", {})
        snapshotter.prepare("b", "", {})
        with pytest.raises(AlreadyExists):
            snapshotter.commit("c", "b", {})

    def test_a_parent_must_be_there_and_committed(self, snapshotter):
        with pytest.raises(NotFound):
            snapshotter.prepare("a", "nope", {})
        snapshotter.prepare("active", "", {})
        with pytest.raises(InvalidArgument, match="not committed"):
            snapshotter.prepare("a", "active", {})

    def test_what_is_not_there_is_not_found(self, snapshotter):
        for call in (snapshotter.stat, snapshotter.mounts, snapshotter.usage, snapshotter.remove):
            with pytest.raises(NotFound):
                call("nope")
        with pytest.raises(NotFound):
            snapshotter.commit("c", "nope", {})
        with pytest.raises(NotFound):
            snapshotter.update(Info("nope"), ())

    def test_a_snapshot_with_children_stays(self, snapshotter):
        commit_layer(snapshotter, "c", "")
        snapshotter.prepare("child", "c", {})
        with pytest.raises(FailedPrecondition, match="cannot remove snapshot with child"):
            snapshotter.remove("c")
        snapshotter.remove("child")
        snapshotter.remove("c")

    def test_cleanup_removes_the_directories_of_what_is_gone(self, snapshotter, directory_count):
        commit_layer(snapshotter, "c", "", file="x")
        snapshotter.prepare("keep", "", {})
        snapshotter.remove("c")
        snapshotter.cleanup()
        assert directory_count() == 1
        assert os.path.isdir(upper_of(snapshotter.mounts("keep")))

    def test_cleanup_removes_what_a_crash_left_of_a_prepare(self, snapshotter, directory_count):
        directory = os.path.dirname(upper_of(snapshotter.prepare("keep", "", {})).removesuffix("/fs"))
        os.makedirs(f"{directory}/new-crashed/fs")
        snapshotter.cleanup()
        assert directory_count() == 1

    def test_a_refused_prepare_leaves_no_directory(self, snapshotter, directory_count):
        snapshotter.prepare("a", "", {})
        with pytest.raises(AlreadyExists):
            snapshotter.prepare("a", "", {})
        with pytest.raises(NotFound):
            snapshotter.prepare("b", "nope", {})
        assert directory_count() == 1

    def test_labels_are_updated_by_mask(self, snapshotter):
        snapshotter.prepare("a", "", {"containerd.io/snapshot/k": "1", "containerd.io/snapshot/l": "2"})
        updated = snapshotter.update(
            Info("a", labels={"containerd.io/snapshot/k": "3"}), ["labels.containerd.io/snapshot/k"]
        )
        assert updated.labels == {"containerd.io/snapshot/k": "3", "containerd.io/snapshot/l": "2"}
        updated = snapshotter.update(Info("a", labels={"containerd.io/snapshot/z": "1"}), ["labels"])
        assert updated.labels == {"containerd.io/snapshot/z": "1"}
        with pytest.raises(InvalidArgument, match='cannot update "kind" field on snapshot "a"'):
            snapshotter.update(Info("a"), ["kind"])

    def test_usage_counts_what_the_snapshot_itself_holds(self, snapshotter):
        upper = upper_of(snapshotter.prepare("a", "", {}))
        empty = snapshotter.usage("a")
        with open(f"{upper}/file", "wb") as f:
            f.write(b"x" * 65536)
            os.fsync(f.fileno())
        os.link(f"{upper}/file", f"{upper}/link")
        full = snapshotter.usage("a")
        assert full.inodes == empty.inodes + 1
        assert full.size_bytes >= empty.size_bytes + 65536
        snapshotter.commit("c", "a", {})
        assert snapshotter.usage("c") == full

    def test_walk_lists_all_with_parents(self, snapshotter):
        commit_layer(snapshotter, "c", "")
        snapshotter.prepare("a", "c", {})
        snapshotter.view("v", "c", {})
        listed = {info.name: (info.kind, info.parent) for info in snapshotter.walk()}
        assert listed == {"c": (Kind.COMMITTED, ""), "a": (Kind.ACTIVE, "c"), "v": (Kind.VIEW, "c")}

    def test_cleanup_beside_prepares_takes_no_live_directory(self, snapshotter):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as pool:
            prepared = [pool.submit(snapshotter.prepare, f"k{n}", "", {}) for n in range(60)]
            while not all(future.done() for future in prepared):
                snapshotter.cleanup()
        assert all(os.path.isdir(upper_of(future.result())) for future in prepared)

    def test_many_prepares_at_once_get_a_directory_each(self, snapshotter):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            mounts = list(pool.map(lambda n: snapshotter.prepare(f"k{n}", "", {}), range(40)))
        assert len({m[0].source for m in mounts}) == 40

    def test_a_snapshot_is_put_on_a_parent_when_it_is_committed(self, snapshotter):
        commit_layer(snapshotter, "below", "", file="1")
        commit_layer(snapshotter, "other", "", file="2")
        with open(f"{upper_of(snapshotter.prepare('a', '', {}))}/more", "w") as f:
            f.write("3")
        try:
            snapshotter.commit("c", "a", {}, None, "below")
        except Unimplemented:
            # What has to copy its parent first can't, and says so; the snapshot is as it was.
            assert snapshotter.stat("a").kind is Kind.ACTIVE
            return
        assert (snapshotter.stat("c").kind, snapshotter.stat("c").parent) == (Kind.COMMITTED, "below")
        with pytest.raises(FailedPrecondition):
            snapshotter.remove("below")
        options = dict(
            option.partition("=")[::2] for option in snapshotter.prepare("top", "c", {})[0].options
        )
        assert [os.listdir(folder) for folder in options["lowerdir"].split(":")] == [["more"], ["file"]]

    def test_only_a_committed_parent_will_do(self, snapshotter):
        snapshotter.prepare("active", "", {})
        snapshotter.prepare("a", "", {})
        for parent, errors in (("nope", NotFound), ("active", FailedPrecondition)):
            with pytest.raises((errors, Unimplemented)):
                snapshotter.commit("c", "a", {}, None, parent)
        assert snapshotter.stat("a").kind is Kind.ACTIVE

    def test_id_maps_give_root_its_owner_outside(self, snapshotter):
        maps = {
            "containerd.io/snapshot/uidmapping": "0:100000:65536",
            "containerd.io/snapshot/gidmapping": "0:200000:65536",
        }
        commit_layer(snapshotter, "c", "", file="1")
        mounts = snapshotter.prepare("a", "c", maps)
        assert snapshotter.stat("a").labels == maps
        assert snapshotter.mounts("a") == mounts
        status = os.stat(upper_of(mounts))
        if "remap-ids" in snapshotter.capabilities:
            assert (status.st_uid, status.st_gid) == (100000, 200000)
        else:
            assert (status.st_uid, status.st_gid) == (0, 0)
