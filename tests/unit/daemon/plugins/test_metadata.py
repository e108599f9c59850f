"""The database, and what garbage collection keeps and takes."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pycontainerd.daemon.core.containers import Container
from pycontainerd.daemon.core.images import Descriptor, Image
from pycontainerd.daemon.core.leases import Lease, Resource
from pycontainerd.daemon.core.scope import Scope, now_nanos
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.plugins.content_local import LocalContentStore
from pycontainerd.daemon.plugins.metadata_sqlite import schema
from pycontainerd.daemon.plugins.metadata_sqlite.containers import SqliteContainerStore
from pycontainerd.daemon.plugins.metadata_sqlite.content import SqliteContentStore
from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
from pycontainerd.daemon.plugins.metadata_sqlite.gc import Collector
from pycontainerd.daemon.plugins.metadata_sqlite.images import SqliteImageStore
from pycontainerd.daemon.plugins.metadata_sqlite.leases import SqliteLeaseManager
from pycontainerd.daemon.plugins.metadata_sqlite.snapshots import SqliteSnapshots
from pycontainerd.daemon.plugins.snapshot_native import NativeSnapshotter
from pycontainerd.lib.errdefs import DataLoss, FailedPrecondition, NotFound, Unavailable
from suites.content_store import digest_of

NS = Scope("ns")


@pytest.fixture
def database(tmp_path):
    database = Database(f"{tmp_path}/meta.db")
    yield database
    database.close()


def _names(tx) -> list[str]:
    return [row[0] for row in tx.rows("SELECT name FROM namespaces ORDER BY name")]


def test_a_failed_write_takes_back_only_its_own_changes(database):
    def bad(tx):
        tx.ensure_namespace("bad")
        raise NotFound("no")

    database.write(lambda tx: tx.ensure_namespace("good"))
    with pytest.raises(NotFound):
        database.write(bad)
    assert database.read(_names) == ["good"]


def test_writes_that_wait_together_share_a_commit(database):
    entered, go = threading.Event(), threading.Event()
    batches = []
    database.on_commit(batches.append)

    def slow(tx):
        entered.set()
        assert go.wait(5)

    threads = [threading.Thread(target=database.write, args=(slow,))]
    threads[0].start()
    assert entered.wait(5)
    for n in range(20):
        threads.append(
            threading.Thread(target=database.write, args=(lambda tx, n=n: tx.ensure_namespace(f"n{n:02}"),))
        )
        threads[-1].start()
    while database._jobs.qsize() < 20:
        pass
    go.set()
    for thread in threads:
        thread.join()
    assert len(database.read(_names)) == 20
    assert len(batches) < 10


def test_a_write_inside_a_write_joins_it(database):
    def outer(tx):
        database.write(lambda inner: inner.ensure_namespace("inner"))
        assert database.read(_names) == ["inner"]
        raise NotFound("both go")

    with pytest.raises(NotFound):
        database.write(outer)
    assert database.read(_names) == []


def test_an_unclean_stop_is_noticed_and_nothing_is_lost(tmp_path):
    path = f"{tmp_path}/meta.db"
    first = Database(path)
    first.write(lambda tx: tx.ensure_namespace("kept"))
    import shutil

    for suffix in ("", "-wal"):
        shutil.copy(path + suffix, f"{tmp_path}/copy.db{suffix}")
    first.close()
    crashed = Database(f"{tmp_path}/copy.db")
    assert (crashed.was_clean, crashed.read(_names)) == (False, ["kept"])
    crashed.check()
    crashed.close()
    clean = Database(f"{tmp_path}/copy.db")
    assert clean.was_clean
    clean.close()


def test_a_file_that_is_no_database_is_data_loss(tmp_path):
    path = tmp_path / "meta.db"
    data = b"not a database at all, but long enough to look at" * 50
    path.write_bytes(data)
    with pytest.raises(DataLoss, match="file is not a database") as refused:
        Database(str(path))
    assert "db check --repair" in refused.value.hint
    assert path.read_bytes() == data


def test_the_schema_drawing_names_every_table():
    for name, statement in schema.TABLES.items():
        if statement.split()[1] == "TABLE":
            assert name in (schema.__doc__ or "")


class World:
    """All stores over one database, and a collector."""

    def __init__(self, folder, database) -> None:
        self.backend = LocalContentStore(f"{folder}/content")
        self.content = SqliteContentStore(database, self.backend)
        self.images = SqliteImageStore(database)
        self.leases = SqliteLeaseManager(database)
        self.containers = SqliteContainerStore(database)
        self.snapshots = SqliteSnapshots(database, NativeSnapshotter(f"{folder}/native", database))
        self.removed = []
        self.collector = Collector(
            database, self.content, self.backend, [self.snapshots], self.removed.extend
        )

    def blob(self, text: str, scope: Scope = NS, **labels: str) -> str:
        data = text.encode()
        with self.content.writer(scope, f"ref-{text}", len(data), digest_of(data)) as writer:
            if writer.status().offset_bytes == 0:
                writer.write(data)
            writer.commit(
                len(data),
                digest_of(data),
                {f"containerd.io/{k.replace('_', '.')}": v for k, v in labels.items()},
            )
        return digest_of(data)

    def image(self, name: str, digest: str, **labels: str) -> None:
        target = Descriptor("application/x", digest, 1)
        self.images.create(
            NS, Image(name, target, {f"containerd.io/{k.replace('_', '.')}": v for k, v in labels.items()})
        )

    def snapshot(self, name: str, parent: str = "", **labels: str) -> None:
        self.snapshots.prepare(NS, f"{name}-key", parent, {})
        self.snapshots.commit(
            NS, name, f"{name}-key", {f"containerd.io/{k.replace('_', '.')}": v for k, v in labels.items()}
        )

    def blobs(self) -> set[str]:
        listed = {info.digest for info in self.content.list(NS, ())}
        assert listed <= {info.digest for info in self.backend.walk()}
        return listed

    def names(self) -> set[str]:
        return {info.name for info in self.snapshots.list(NS, ())}


@pytest.fixture
def world(tmp_path, database):
    return World(tmp_path, database)


def test_what_nothing_refers_to_goes_with_its_bytes(world):
    digest = world.blob("lonely")
    world.snapshot("lonely")
    world.collector.collect()
    assert (world.blobs(), world.names()) == (set(), set())
    with pytest.raises(NotFound):
        world.backend.info(digest)
    assert {node.key for node in world.removed} == {digest, "native/lonely"}


def test_an_image_keeps_its_tree(world):
    layer = world.blob("layer")
    config = world.blob("config", gc_ref_snapshot_native="top")
    manifest = world.blob("manifest", gc_ref_content_config=config, gc_ref_content_l_0=layer)
    world.snapshot("base")
    world.snapshot("top", "base")
    world.image("i", manifest)
    world.collector.collect()
    assert (world.blobs(), world.names()) == ({layer, config, manifest}, {"base", "top"})
    world.images.delete(NS, "i")
    world.collector.collect()
    assert (world.blobs(), world.names()) == (set(), set())


def test_labels_that_only_look_like_references_keep_nothing(world):
    layer = world.blob("layer")
    manifest = world.blob("manifest", gc_ref_contentX=layer)
    world.image("i", manifest)
    world.collector.collect()
    assert world.blobs() == {manifest}


def test_what_a_back_reference_names_keeps_what_has_it(world):
    kept = world.blob("kept", gc_root="1")
    tail = world.blob("tail", **{"gc_bref_content/x": kept})
    world.blob("of something gone", gc_bref_content="sha256:" + "0" * 64)
    world.blob("of another kind", gc_bref_image=kept)
    world.blob("only looks so", gc_bref_contentx=kept)
    world.snapshot("base", gc_bref_content=tail)
    world.snapshot("other", **{"gc_bref_snapshot_native/y": "base"})
    world.snapshot("lonely", gc_bref_container="c1")
    world.collector.collect()
    assert world.blobs() == {kept, tail}
    assert world.names() == {"base", "other"}


def test_gc_root_and_a_future_expiry_keep_an_object(world):
    root = world.blob("root", gc_root="anything")
    world.blob("past", gc_expire="2001-01-01T00:00:00Z")
    future = world.blob("future", gc_expire="2999-01-01T00:00:00Z")
    world.snapshot("kept", gc_root="x")
    world.collector.collect()
    assert (world.blobs(), world.names()) == ({root, future}, {"kept"})


def test_a_container_keeps_its_snapshot_and_labelled_content(world):
    digest = world.blob("b")
    world.snapshot("parent")
    world.snapshots.prepare(NS, "rootfs", "parent", {})
    container = Container(
        "c",
        runtime_name="r",
        spec=TypedValue("s", b"{}"),
        snapshotter="native",
        snapshot_key="rootfs",
        labels={"containerd.io/gc.ref.content": digest},
    )
    world.containers.create(NS, container)
    world.collector.collect()
    assert (world.blobs(), world.names()) == ({digest}, {"parent", "rootfs"})


def test_a_lease_keeps_what_was_made_under_it_until_it_ends(world):
    world.leases.create(NS, Lease("l"))
    leased = replace(NS, lease="l")
    digest = world.blob("leased", leased)
    world.snapshots.prepare(leased, "k", "", {})
    with world.content.writer(leased, "half") as writer:
        writer.write(b"half")
    world.collector.collect()
    assert (world.blobs(), world.names()) == ({digest}, {"k"})
    assert [s.ref for s in world.content.list_statuses(NS, ())] == ["half"]
    world.leases.delete(NS, "l")
    world.collector.collect()
    assert (world.blobs(), world.names(), list(world.backend.refs())) == (set(), set(), [])


def test_a_lease_that_is_gone_takes_no_resources(world):
    with pytest.raises(NotFound, match="lease does not exist"):
        world.snapshots.prepare(replace(NS, lease="gone"), "k", "", {})
    assert world.names() == set()


def test_an_expired_lease_goes_with_what_it_held(world):
    world.leases.create(NS, Lease("l", {"containerd.io/gc.expire": "2001-01-01T00:00:00Z"}))
    world.blob("leased", replace(NS, lease="l"))
    world.collector.collect()
    assert (world.blobs(), list(world.leases.list(NS, ()))) == (set(), [])


def test_a_flat_lease_keeps_only_what_it_names(world):
    layer = world.blob("layer")
    manifest = world.blob("manifest", gc_ref_content_l_0=layer)
    world.leases.create(NS, Lease("l", {"containerd.io/gc.flat": "1"}))
    world.leases.add_resource(NS, "l", Resource("content", manifest))
    world.collector.collect()
    assert world.blobs() == {manifest}


def test_a_recent_write_without_a_lease_is_kept_and_a_stale_one_is_not(world, database):
    with world.content.writer(NS, "recent") as writer:
        writer.write(b"x")
    with world.content.writer(NS, "stale") as writer:
        writer.write(b"x")
    database.write(lambda tx: tx.execute("UPDATE ingests SET expires=? WHERE ref='stale'", now_nanos() - 1))
    world.collector.collect()
    assert [s.ref for s in world.content.list_statuses(NS, ())] == ["recent"]
    assert len(list(world.backend.refs())) == 1


def test_bytes_stay_while_another_namespace_has_them(world):
    digest = world.blob("shared", gc_root="1")
    world.blob("shared", Scope("other"), gc_root="1")
    world.content.delete(NS, digest)
    world.collector.collect()
    assert world.backend.info(digest).size_bytes == len("shared")
    assert world.blobs() == set()


def test_an_isolated_store_shares_nothing_without_the_bytes(tmp_path, database):
    world = World(tmp_path, database)
    digest = world.blob("secret")
    isolated = SqliteContentStore(database, world.backend, shared=False)
    with isolated.writer(Scope("other"), "r", 6, digest) as writer:
        assert writer.status().offset_bytes == 0
        with pytest.raises(FailedPrecondition):
            writer.commit(6, digest, {})


def test_an_expired_image_is_removed(world):
    digest = world.blob("b")
    world.image("old", digest, gc_expire="2001-01-01T00:00:00Z")
    world.collector.collect()
    assert list(world.images.list(NS, ())) == []
    assert world.blobs() == set()


def stamp(seconds_ago: float) -> str:
    """RFC 3339, as the label of a snapshot that says when it was used last."""
    return datetime.fromtimestamp(time.time() - seconds_ago, UTC).isoformat()


# Conditions of containerd.io/gc.cond.snapshot, and whether they hold for a snapshot that was used an hour ago.
CONDITIONS = (
    ("usedat<2h|s", True),
    ("usedat<30m|s", False),
    ("usedat>30m|s", True),
    ("usedat>2h|s", False),
    ("usedat>2h,usedat<1h30m|s", True),  # any of them
    ("usedat<1.5h,unknown=x|s", True),
    ("unknown=x|s", False),
    ("usedat<=2h|s", False),  # has no equivalence
    ("usedat=1h|s", False),
    ("usedat<soon|s", False),
    ("usedat<2h|other", False),
    ("usedat<2h", False),
)


@pytest.mark.parametrize(("condition", "holds"), CONDITIONS)
@pytest.mark.parametrize("suffix", ["_native", "_native/name"])
def test_a_snapshot_is_kept_by_a_condition_while_it_holds(world, condition, holds, suffix):
    world.snapshot("s", **{"gc_cond_value-usedat": stamp(3600)})
    world.snapshot("never used")
    world.image("i", world.blob("b"), **{f"gc_cond_snapshot{suffix}": condition})
    world.collector.collect()
    assert world.names() == ({"s"} if holds else set())


def test_conditions_of_content_count_as_long_as_it_is_kept(world):
    world.snapshot("s", **{"gc_cond_value-usedat": stamp(10)})
    world.snapshot("child", "s", **{"gc_cond_value-usedat": "yesterday"})
    kept = world.blob("kept", gc_root="1", gc_cond_snapshot_native="usedat<1h|s")
    world.blob("not kept", gc_cond_snapshot_native="usedat<1h|child")
    world.collector.collect()
    assert (world.blobs(), world.names()) == ({kept}, {"s"})
    world.content.delete(NS, kept)
    world.collector.collect()
    assert world.names() == set()


@pytest.mark.parametrize("flat", [False, True])
def test_a_lease_keeps_an_image_that_has_expired(world, flat):
    world.leases.create(NS, Lease("l", {"containerd.io/gc.flat": "1"} if flat else {}))
    leased = replace(NS, lease="l")
    layer = world.blob("layer")
    manifest = world.blob("manifest", gc_ref_content_l_0=layer)
    expired = {"containerd.io/gc.expire": "2001-01-01T00:00:00Z"}
    world.images.create(leased, Image("old", Descriptor("x", manifest, 1), expired))
    world.images.create(leased, Image("plain", Descriptor("x", manifest, 1), {}))
    assert list(world.leases.list_resources(NS, "l")) == [Resource("images", "old")]
    world.images.delete(leased, "plain")
    world.collector.collect()
    assert [image.name for image in world.images.list(NS, ())] == ["old"]
    assert world.blobs() == ({manifest} if flat else {manifest, layer})
    world.leases.delete_resource(NS, "l", Resource("images", "old"))
    world.collector.collect()
    assert (list(world.images.list(NS, ())), world.blobs()) == ([], set())


@pytest.fixture
def contents(tmp_path, database):
    return SqliteContentStore(database, LocalContentStore(f"{tmp_path}/content"))


def test_a_blob_is_followed_while_it_is_written(contents):
    data = b"hello, content"
    with contents.writer(NS, "r", len(data), digest_of(data)) as writer:
        writer.write(data[:5])
        following = contents.follow(NS, digest_of(data))
        assert (following.wait(0), os.pread(following.fileno(), 100, 0)) == (5, data[:5])
        writer.write(data[5:])
        assert following.wait(5) == len(data)
        writer.commit(len(data), digest_of(data), {})
        assert (following.wait(len(data)), os.pread(following.fileno(), 100, 0)) == (len(data), data)
        following.close()
    assert contents.follow(NS, digest_of(data)) is None


@pytest.mark.parametrize("end", ["leave", "truncate", "lie"])
def test_who_follows_a_write_that_fails_is_told(contents, end):
    data = b"hello, content"
    with contents.writer(NS, "r", len(data), digest_of(data)) as writer:
        writer.write(b"x" * 14)
        following = contents.follow(NS, digest_of(data))
        if end == "truncate":
            writer.truncate()
            writer.write(data)
        if end == "lie":
            with pytest.raises(FailedPrecondition):
                writer.commit(len(data), digest_of(data), {})
    with pytest.raises(Unavailable):
        following.wait(14)
    following.close()


def test_only_a_write_of_this_namespace_that_expects_the_blob_is_followed(contents):
    data = b"hello, content"
    with (
        contents.writer(Scope("other"), "r", len(data), digest_of(data)) as one,
        contents.writer(NS, "s") as two,
    ):
        one.write(data)
        two.write(data)
        assert contents.follow(NS, digest_of(data)) is None
