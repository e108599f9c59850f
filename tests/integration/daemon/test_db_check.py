"""`db check`: a root whose disk and metadata were made to disagree, found and mended; then a daemon works on it again."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import (
    containers_v1,
    content_v1,
    images_v1,
    leases_v1,
    snapshots_v1,
    types,
    wkt,
)
from support.daemons import Daemon, call
from support.programs import ours

ROOTED = {"containerd.io/gc.root": "yes"}
BLOBS = {name: f"blob {name}".encode() for name in ("sound", "missing", "short", "changed", "image")}


def digest_of(name: str) -> str:
    return f"sha256:{hashlib.sha256(BLOBS[name]).hexdigest()}"


@pytest.fixture(scope="module")
def template():
    """A root with some of everything, stopped."""
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with Daemon(folder / "d", real=False) as daemon:
        daemon.start()
        with daemon.channel() as channel:
            _fill(channel)
        daemon.stop()
    yield daemon.folder / "root"
    remove_tree(str(folder))


def _fill(channel) -> None:
    def done(service, method, request):
        code, text, _ = call(channel, service, method, request)
        assert code == "OK", text

    for name, data in BLOBS.items():
        request = content_v1.WriteContentRequest(
            action=content_v1.WriteAction.COMMIT,
            ref=name,
            data=data,
            total=len(data),
            expected=digest_of(name),
            labels=ROOTED,
        )
        done(content_v1.CONTENT, "Write", [request])
    snapshots = snapshots_v1.SNAPSHOTS

    def prepare(key: str, parent: str = "") -> None:
        request = snapshots_v1.PrepareSnapshotRequest(
            snapshotter="native", key=key, parent=parent, labels=ROOTED
        )
        done(snapshots, "Prepare", request)

    for name in ("base", "other"):
        prepare(f"{name}-active")
        request = snapshots_v1.CommitSnapshotRequest(
            snapshotter="native", name=name, key=f"{name}-active", labels=ROOTED
        )
        done(snapshots, "Commit", request)
    prepare("child", "base")
    prepare("sound", "other")
    target = types.Descriptor(media_type="application/x", digest=digest_of("image"), size=10)
    done(
        images_v1.IMAGES,
        "Create",
        images_v1.CreateImageRequest(image=images_v1.Image(name="i1", target=target)),
    )
    for id, key in (("broken", "child"), ("whole", "sound")):
        container = containers_v1.Container(
            id=id,
            runtime=containers_v1.Container.Runtime(name="io.containerd.runc.v2"),
            spec=wkt.Any(type_url="x", value=b"{}"),
            snapshotter="native",
            snapshot_key=key,
        )
        done(containers_v1.CONTAINERS, "Create", containers_v1.CreateContainerRequest(container=container))
    done(leases_v1.LEASES, "Create", leases_v1.CreateRequest(id="l1"))
    resource = leases_v1.Resource(type="content", id=digest_of("missing"))
    done(leases_v1.LEASES, "AddResource", leases_v1.AddResourceRequest(id="l1", resource=resource))


def _db_check(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    argv = [ours("pycontainerd"), "--root", str(folder), "db", "check", *flags]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


class Root:
    """A copy of the template."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = folder / "io.containerd.content.v1.content"
        self.snapshots = folder / "io.containerd.snapshotter.v1.native/snapshots"
        self.database = folder / "io.containerd.metadata.v1.sqlite/meta.db"

    def blob(self, name: str) -> Path:
        return self.content / "blobs/sha256" / digest_of(name).partition(":")[2]

    def check(self, *flags: str) -> tuple[int, list[str]]:
        done = _db_check(self.folder, *flags)
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    def directory_of(self, key: str) -> Path:
        with closing(sqlite3.connect(self.database)) as connection:
            row = connection.execute(
                "SELECT n.id FROM snapshots s JOIN snapshot_nodes n ON n.key=s.backend_key WHERE s.key=?",
                (key,),
            ).fetchone()
        return self.snapshots / str(row[0])


@pytest.fixture
def root(template):
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    subprocess.run(["cp", "-a", str(template), f"{folder}/root"], check=True)
    yield Root(folder / "root")
    remove_tree(str(folder))


def test_a_sound_root_is_sound(root):
    assert root.check() == (0, ["the metadata agrees with the disk"])
    assert root.check("--verify", "--repair") == (0, ["the metadata agrees with the disk"])


def _break(root: Root) -> None:
    for name in ("short", "changed"):
        root.blob(name).chmod(0o644)
    root.blob("missing").unlink()
    root.blob("image").unlink()
    root.blob("short").write_bytes(b"x")
    root.blob("changed").write_bytes(BLOBS["changed"][::-1])
    root.directory_of("base").rmdir()
    (root.content / "blobs/sha256" / ("0" * 64)).write_bytes(b"nobody's")
    (root.content / "ingest" / ("1" * 64)).mkdir()
    (root.snapshots / "new-crashed").mkdir()
    (root.snapshots / "99").mkdir()


def test_what_disagrees_is_found_and_mended_but_for_what_a_person_decides(root):
    _break(root)
    code, lines = root.check()
    text = "\n".join(lines)
    assert code == 1
    for words in (
        f"content {digest_of('missing')} of default: its file is missing",
        f"content {digest_of('short')} of default: its file has 1 bytes, not {len(BLOBS['short'])}",
        f"content {digest_of('image')} of default: its file is missing",
        f"{'0' * 64}: no namespace has this content",
        f"{'1' * 64}: no ingest is known by this folder",
        "its directory is missing",
        "a snapshot below it is broken",
        "new-crashed: no snapshot is known by this directory",
        "99: no snapshot is known by this directory",
    ):
        assert words in text
    assert digest_of("changed") not in text
    assert "repaired" not in text
    changed = f"content {digest_of('changed')} of default: its file's bytes have another digest"
    assert changed in root.check("--verify")[1]

    code, lines = root.check("--verify", "--repair")
    left = [line for line in lines[:-1] if not line.endswith("(repaired)")]
    decisions = [
        f"image i1 of default: its content {digest_of('image')} is not here: pull it again",
        (
            "container broken of default: its native snapshot child is not here: "
            "delete the container and make it again"
        ),
    ]
    assert (code, left, lines[-1]) == (1, decisions, "2 problems left")
    assert f"lease l1 of default: content {digest_of('missing')} is gone (repaired)" in lines
    assert root.check("--verify") == (1, [*decisions, "2 problems left"])

    with Daemon(root.folder.parent, real=False) as daemon:
        daemon.start()
        assert daemon.ctr("content", "get", digest_of("sound")).stdout == BLOBS["sound"]
        assert daemon.ctr("content", "ls", "-q").stdout.decode().split() == [digest_of("sound")]
        listed = daemon.ctr("snapshots", "--snapshotter", "native", "ls").stdout.decode()
        assert [line.split()[0] for line in listed.splitlines()[1:]] == ["other", "sound"]
        assert daemon.ctr("snapshots", "--snapshotter", "native", "rm", "sound").returncode == 0
        assert daemon.ctr("containers", "rm", "broken").returncode == 0
        assert daemon.ctr("images", "rm", "i1").returncode == 0


def test_beside_a_daemon_it_is_refused(root):
    with Daemon(root.folder.parent, real=False) as daemon:
        daemon.start()
        done = _db_check(root.folder)
        assert done.returncode == 1
        assert f"another daemon (pid {daemon.pid}) is using --root" in done.stderr


def test_a_damaged_database_is_read_into_a_new_one(root):
    _damage(root, "images")
    code, lines = root.check()
    assert code == 1
    assert lines[0].startswith("database: ")
    code, lines = root.check("--repair")
    assert code == 0, lines
    assert any("read into a new one, 1 tables not to their end" in line for line in lines)
    assert list(root.database.parent.glob("meta.db.damaged-*"))
    with Daemon(root.folder.parent, real=False) as daemon:
        daemon.start()
        assert daemon.ctr("containers", "ls", "-q").stdout.decode().split() == ["broken", "whole"]
        assert daemon.ctr("images", "ls", "-q").stdout == b""
        assert daemon.ctr("content", "get", digest_of("sound")).stdout == BLOBS["sound"]


def test_a_root_that_is_none_is_an_error(tmp_path):
    done = _db_check(tmp_path)
    assert done.returncode == 1
    assert "meta.db is not there" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_which_nothing_can_be_read_is_left_for_a_person(root):
    """Repairing would remove everything on the disk, as nobody's; a copy of the file may still be somewhere."""
    data = b"not a database at all, but long enough to look at" * 500
    root.database.write_bytes(data)
    blobs = sorted((root.content / "blobs/sha256").iterdir())
    for flags in ((), ("--repair",)):
        done = _db_check(root.folder, *flags)
        assert done.returncode == 1
        assert "file is not a database" in done.stdout
        assert ("nothing can be read of" in done.stderr) == bool(flags)
    assert root.database.read_bytes() == data
    assert sorted((root.content / "blobs/sha256").iterdir()) == blobs
    assert [path.name for path in root.database.parent.iterdir()] == ["meta.db"]


@pytest.mark.requires("strace")
def test_a_killed_repair_leaves_a_database_in_its_place(root):
    """At each rename and unlink of it; the next one finds what the killed one left, and finishes."""
    page = _damage(root, "images")
    assert page > 1
    kept = root.database.read_bytes()
    for syscall in ("rename", "unlink", "link", "fsync", "fdatasync"):
        for number in (1, 2, 3):
            for left in root.database.parent.iterdir():
                left.unlink()
            root.database.write_bytes(kept)
            argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={syscall}"]
            argv += ["-e", f"inject={syscall}:signal=KILL:when={number}"]
            subprocess.run(
                [*argv, ours("pycontainerd"), "--root", str(root.folder), "db", "check", "--repair"],
                capture_output=True,
                check=False,
            )
            assert root.database.exists(), (syscall, number)
            assert root.check("--repair")[0] == 0, (syscall, number)
            assert root.check() == (0, ["the metadata agrees with the disk"])
            with closing(sqlite3.connect(root.database)) as connection:
                assert connection.execute("SELECT count(*) FROM containers").fetchone() == (2,)


def _damage(root: Root, table: str) -> int:
    """Spoils the pages of one table and of nothing else: its root page, as the schema says."""
    with closing(sqlite3.connect(root.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name=?", (table,)).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    data = bytearray(root.database.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    root.database.write_bytes(data)
    return int(page)
