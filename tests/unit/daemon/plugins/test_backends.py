"""Every backend against its contract suite."""

from __future__ import annotations

import os

import pytest

from pycontainerd.daemon.core.id_maps import GID_LABEL, UID_LABEL
from pycontainerd.daemon.core.scope import Scope
from pycontainerd.daemon.core.snapshots import Info, Mount
from pycontainerd.daemon.plugins.content_local import LocalContentStore
from pycontainerd.daemon.plugins.metadata_sqlite.content import SqliteContentStore
from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
from pycontainerd.daemon.plugins.metadata_sqlite.leases import SqliteLeaseManager
from pycontainerd.daemon.plugins.metadata_sqlite.snapshots import SqliteSnapshots
from pycontainerd.daemon.plugins.snapshot_native import NativeSnapshotter
from pycontainerd.daemon.plugins.snapshot_overlay import Options, OverlaySnapshotter
from pycontainerd.lib.errdefs import Unknown
from suites.content_store import ContentStoreSuite
from suites.lease_manager import LeaseManagerSuite
from suites.snapshotter import SnapshotterSuite, commit_layer

as_root = pytest.mark.requires("root")


@pytest.fixture
def database(tmp_path):
    database = Database(f"{tmp_path}/meta.db")
    yield database
    database.close()


class _Scoped:
    """A namespaced store as one namespace sees it, with the methods of a backend."""

    def __init__(self, inner, scope: Scope) -> None:
        self._inner = inner
        self._scope = scope
        self.cleanup = getattr(inner, "sweep", None)

    def walk(self):
        return self._inner.list(self._scope, ())

    @property
    def capabilities(self):
        return self._inner.capabilities()

    def __getattr__(self, name: str):
        method = getattr(self._inner, name)
        if name == "commit":  # a namespace's store measures for itself
            return lambda name, key, labels, _=None, parent="": method(self._scope, name, key, labels, parent)
        return lambda *arguments: method(self._scope, *arguments)


class TestLocalContent(ContentStoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalContentStore(f"{tmp_path}/content")


class TestNamespacedContent(ContentStoreSuite):
    @pytest.fixture
    def store(self, tmp_path, database):
        return _Scoped(SqliteContentStore(database, LocalContentStore(f"{tmp_path}/content")), Scope("ns"))


class _Directories:
    @pytest.fixture
    def directory_count(self, tmp_path):
        return lambda: len(os.listdir(f"{tmp_path}/snapshots"))


@as_root
class TestOverlay(_Directories, SnapshotterSuite):
    @pytest.fixture
    def snapshotter(self, tmp_path, database):
        return OverlaySnapshotter(str(tmp_path), database)

    def test_s075_layers_are_listed_newest_first(self, snapshotter, tmp_path):
        commit_layer(snapshotter, "one", "")
        commit_layer(snapshotter, "two", "one")
        (mount,) = snapshotter.prepare("top", "two", {})
        directory = f"{tmp_path}/snapshots"
        assert (mount.type, mount.source) == ("overlay", "overlay")
        assert [o for o in mount.options if "=" in o and not o.startswith("index")] == [
            f"workdir={directory}/3/work",
            f"upperdir={directory}/3/fs",
            f"lowerdir={directory}/2/fs:{directory}/1/fs",
        ]

    def test_the_top_takes_the_owner_of_its_parent(self, snapshotter):
        from suites.snapshotter import upper_of

        os.chown(upper_of(snapshotter.prepare("a", "", {})), 1000, 1001)
        snapshotter.commit("c", "a", {})
        status = os.stat(upper_of(snapshotter.prepare("b", "c", {})))
        assert (status.st_uid, status.st_gid) == (1000, 1001)

    def test_id_maps_are_options_of_every_kind_of_mount(self, snapshotter, tmp_path):
        commit_layer(snapshotter, "one", "")
        commit_layer(snapshotter, "two", "one")
        maps = {UID_LABEL: "0:1000:10,10:5000:3", GID_LABEL: "0:2000:10"}
        said = ("uidmap=0:1000:10,10:5000:3", "gidmap=0:2000:10")
        fs = f"{tmp_path}/snapshots/{{}}/fs"
        assert snapshotter.prepare("a", "", maps) == (Mount("bind", fs.format(3), (*said, "rw", "rbind")),)
        assert snapshotter.view("v", "one", maps) == (Mount("bind", fs.format(1), (*said, "ro", "rbind")),)
        assert snapshotter.view("w", "", maps) == (Mount("bind", fs.format(5), (*said, "ro", "rbind")),)
        (mount,) = snapshotter.view("x", "two", maps)
        assert (mount.type, mount.options[:2]) == ("overlay", said)
        (mount,) = snapshotter.prepare("top", "two", maps)
        assert mount.options[:2] == said
        assert mount.options[-1] == f"lowerdir={fs.format(2)}:{fs.format(1)}"
        for number, owner in ((1, (0, 0)), (2, (0, 0)), (3, (1000, 2000)), (7, (1000, 2000))):
            status = os.stat(fs.format(number))
            assert (status.st_uid, status.st_gid) == owner, number

    def test_maps_that_say_nothing_of_root_make_no_snapshot(self, snapshotter, directory_count):
        with pytest.raises(Unknown, match="failed to find root pair: container ID 0 cannot be mapped"):
            snapshotter.prepare("a", "", {UID_LABEL: "1:1000:10", GID_LABEL: "0:2000:10"})
        assert (snapshotter.walk(), directory_count()) == ([], 0)

    def test_a_committed_snapshot_has_the_maps_it_is_given(self, snapshotter):
        maps = {UID_LABEL: "0:1000:10", GID_LABEL: "0:2000:10"}
        snapshotter.prepare("a", "", maps)
        snapshotter.commit("c", "a", {})
        assert snapshotter.stat("c").labels == {}
        # A child without maps takes the owner of its parent's root, as any does.
        (mount,) = snapshotter.prepare("b", "c", {})
        assert not [option for option in mount.options if option.startswith(("uidmap", "gidmap"))]

    def test_what_it_can(self, snapshotter):
        assert snapshotter.capabilities == ["remap-ids", "only-remap-ids", "rebase"]
        assert [name for name in os.listdir(snapshotter._root) if name.startswith("check")] == []

    def test_slow_chown_lets_clients_copy(self, tmp_path, database):
        snapshotter = OverlaySnapshotter(f"{tmp_path}/s", database, Options(slow_chown=True))
        assert snapshotter.capabilities == ["remap-ids", "rebase"]

    def test_configured_options_are_mounted_with(self, tmp_path, database):
        options = Options(mount_options=["volatile", "index=on", "userxattr"])
        snapshotter = OverlaySnapshotter(f"{tmp_path}/s", database, options)
        commit_layer(snapshotter, "c", "")
        (mount,) = snapshotter.prepare("a", "c", {})
        assert mount.options[:3] == ("volatile", "index=on", "userxattr")
        assert "index=off" not in mount.options
        (bind,) = snapshotter.prepare("b", "", {})
        assert bind.options == ("rw", "rbind")

    def test_the_upper_directory_can_be_a_label(self, tmp_path, database):
        snapshotter = OverlaySnapshotter(f"{tmp_path}/s", database, Options(upperdir_label=True))
        (mount,) = snapshotter.prepare("a", "", {})
        label = {"containerd.io/snapshot/overlay.upperdir": mount.source}
        assert snapshotter.stat("a").labels == label
        assert [info.labels for info in snapshotter.walk()] == [label]
        assert snapshotter.update(Info("a", labels={"x": "y"}), ["labels"]).labels == {"x": "y", **label}
        snapshotter.commit("c", "a", {})
        assert snapshotter.stat("c").labels == label


@as_root
class TestNative(_Directories, SnapshotterSuite):
    @pytest.fixture
    def snapshotter(self, tmp_path, database):
        return NativeSnapshotter(str(tmp_path), database)

    def test_a_child_starts_as_a_faithful_copy(self, snapshotter):
        from suites.snapshotter import upper_of

        source = upper_of(snapshotter.prepare("a", "", {}))
        os.mkdir(f"{source}/dir", 0o750)
        with open(f"{source}/dir/file", "wb") as f:
            f.truncate(1 << 20)
            f.seek(1 << 19)
            f.write(b"middle")
        os.chmod(f"{source}/dir/file", 0o4755)
        os.setxattr(f"{source}/dir/file", "user.x", b"y")
        os.link(f"{source}/dir/file", f"{source}/hard")
        os.symlink("/etc/passwd", f"{source}/soft")
        os.mknod(f"{source}/null", 0o20666, os.makedev(1, 3))
        os.utime(f"{source}/dir", ns=(1, 2))
        snapshotter.commit("c", "a", {})
        copy = upper_of(snapshotter.prepare("b", "c", {}))
        file = os.stat(f"{copy}/dir/file")
        assert (oct(file.st_mode), file.st_nlink, file.st_size) == ("0o104755", 2, 1 << 20)
        assert file.st_blocks * 512 < 1 << 19, "the hole stays a hole"
        assert os.getxattr(f"{copy}/dir/file", "user.x") == b"y"
        assert os.stat(f"{copy}/hard").st_ino == file.st_ino != os.stat(f"{source}/hard").st_ino
        assert os.readlink(f"{copy}/soft") == "/etc/passwd"
        assert os.stat(f"{copy}/null").st_rdev == os.makedev(1, 3)
        assert (os.stat(f"{copy}/dir").st_mtime_ns, oct(os.stat(f"{copy}/dir").st_mode)) == (2, "0o40750")


@as_root
class TestNamespacedSnapshots(_Directories, SnapshotterSuite):
    @pytest.fixture
    def snapshotter(self, tmp_path, database):
        return _Scoped(SqliteSnapshots(database, OverlaySnapshotter(str(tmp_path), database)), Scope("ns"))


class TestLeases(LeaseManagerSuite):
    @pytest.fixture
    def leases(self, database):
        return SqliteLeaseManager(database)
