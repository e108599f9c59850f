"""Snapshotters and content stores of third parties on a socket, under the real daemon and under ours."""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.daemon.plugins.content_local import LocalContentStore
from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
from pycontainerd.daemon.plugins.snapshot_native import NativeSnapshotter
from pycontainerd.lib.api.full import content_v1, snapshots_v1
from support.daemons import Daemon, call
from support.proxy import REF, ContentPlugin, SnapshotterPlugin, serve

CONFIG = """version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"MORE]
[grpc]
  address = "{folder}/c.sock"
[proxy_plugins.third]
  type = "KIND"
  address = "{folder}/../third.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
"""
S = snapshots_v1.SNAPSHOTS
TARGET = "sha256:" + "1" * 64
ROOTED = {"containerd.io/gc.root": "yes"}


@pytest.fixture(params=["real", "ours"])
def world(request):
    """(folder, start): `start(kind, plugin, service)` gives a daemon with one proxy plugin."""
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with ExitStack() as stack:

        def start(kind: str, plugin, service, more: str = "") -> Daemon:
            stack.enter_context(serve(f"{folder}/third.sock", service, plugin))
            config = CONFIG.replace("KIND", kind).replace("MORE", more)
            daemon = Daemon(folder / "d", real=request.param == "real", config=config)
            return stack.enter_context(daemon).start()

        yield folder, start
    remove_tree(str(folder))


@pytest.fixture
def backend(tmp_path):
    database = Database(f"{tmp_path}/third.db")
    yield NativeSnapshotter(f"{tmp_path}/third", database)
    database.close()


def _prepare(channel, key: str, parent: str = "", **labels: str):
    request = snapshots_v1.PrepareSnapshotRequest(
        snapshotter="third", key=key, parent=parent, labels={**ROOTED, **labels}
    )
    return call(channel, S, "Prepare", request)


def test_a_snapshotter_is_used_through_ctr(world, backend):
    _, start = world
    plugin = SnapshotterPlugin(backend)
    daemon = start("snapshot", plugin, S)
    shown = daemon.ctr("plugins", "ls", "-d", "id==third").stdout.decode()
    assert re.search(r"Type:\s+io\.containerd\.snapshotter\.v1", shown)
    assert re.search(r"Exports:\s+address\s+/tmp/.*third\.sock", shown)

    def snapshots(*arguments: str) -> str:
        done = daemon.ctr("snapshots", "--snapshotter", "third", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    mount = snapshots("prepare", "--target", "/mnt", "a")
    source = re.search(r"mount -t bind (\S+) /mnt", mount)
    assert source is not None
    assert source[1].startswith(backend._snapshots)
    Path(source[1], "file").write_text("x")
    snapshots("commit", "c", "a")
    snapshots("prepare", "b", "c")
    listed = [line.split() for line in snapshots("ls").splitlines()[1:]]
    assert listed == [["b", "c", "Active"], ["c", "Committed"]]
    assert Path(backend.mounts(next(i.name for i in backend.walk() if i.parent))[0].source, "file").exists()
    assert re.fullmatch(r"default/\d+/c", next(i.name for i in backend.walk() if not i.parent))
    snapshots("rm", "b")
    assert {"Prepare", "Commit", "Stat"} <= {method for method, _ in plugin.calls}
    failed = daemon.ctr("snapshots", "--snapshotter", "third", "commit", "d", "nope")
    assert failed.stderr == b"ctr: snapshot nope does not exist: not found\n"


def test_a_layer_the_snapshotter_has_already_is_adopted(world, backend):
    """The remote snapshotters' protocol: AlreadyExists means the target is there, unpacked."""
    _, start = world
    daemon = start("snapshot", SnapshotterPlugin(backend, remote=(TARGET,)), S)
    with daemon.channel() as channel:
        code, text, _ = _prepare(channel, "extract-1", **{REF: TARGET})
        assert (code, text) == (
            "ALREADY_EXISTS",
            f'target snapshot "{TARGET}" from snapshotter: already exists',
        )
        code, _, answer = call(
            channel, S, "Stat", snapshots_v1.StatSnapshotRequest(snapshotter="third", key=TARGET)
        )
        assert (code, answer.info.kind) == ("OK", snapshots_v1.Kind.COMMITTED)
        assert answer.info.labels[REF] == TARGET
        code, _, _ = call(
            channel, S, "Stat", snapshots_v1.StatSnapshotRequest(snapshotter="third", key="extract-1")
        )
        assert code == "NOT_FOUND"
        assert _prepare(channel, "top", TARGET)[0] == "OK"
        code, text, _ = _prepare(channel, "extract-2", **{REF: TARGET})
        assert (code, text) == ("ALREADY_EXISTS", f'target snapshot "{TARGET}": already exists')


def test_a_snapshotter_that_is_away_is_unavailable(world, backend):
    folder, start = world
    plugin = SnapshotterPlugin(backend)
    daemon = start("snapshot", plugin, S)
    with daemon.channel() as channel:
        assert _prepare(channel, "a")[0] == "OK"
    config = (folder / "d/config.toml").read_text().replace("third.sock", "nobody.sock")
    daemon.stop()
    daemon._config = config
    daemon.start()
    with daemon.channel() as channel:
        assert _prepare(channel, "b")[0] == "UNAVAILABLE"
        code, _, _ = call(channel, S, "Mounts", snapshots_v1.MountsRequest(snapshotter="third", key="a"))
        assert code == "UNAVAILABLE"
        code, _, _ = call(channel, S, "Mounts", snapshots_v1.MountsRequest(snapshotter="third", key="b"))
        assert code == "NOT_FOUND"


def test_a_content_store_takes_the_place_of_the_daemons(world, tmp_path):
    _, start = world
    store = LocalContentStore(f"{tmp_path}/third")
    daemon = start(
        "content", ContentPlugin(store), content_v1.CONTENT, ', "io.containerd.content.v1.content"'
    )
    data = b"x" * 3_000_000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    leased = daemon.ctr("leases", "create", "--id", "l").returncode
    assert leased == 0
    with daemon.channel() as channel:
        requests = [
            content_v1.WriteContentRequest(
                action=content_v1.WriteAction.WRITE,
                ref="r",
                total=len(data),
                expected=digest,
                data=data[:2_000_000],
            ),
            content_v1.WriteContentRequest(
                action=content_v1.WriteAction.COMMIT,
                ref="r",
                offset=2_000_000,
                data=data[2_000_000:],
                labels=ROOTED,
            ),
        ]
        code, text, _ = call(channel, content_v1.CONTENT, "Write", requests)
        assert code == "OK", text
        wrong = content_v1.WriteContentRequest(
            action=content_v1.WriteAction.COMMIT, ref="w", data=b"y", total=1, expected="sha256:" + "0" * 64
        )
        code, text, _ = call(channel, content_v1.CONTENT, "Write", [wrong])
        assert code == "FAILED_PRECONDITION"
        assert "unexpected commit digest" in text
    assert store.info(digest).size_bytes == len(data)
    got = daemon.ctr("content", "get", digest)
    assert got.stdout == data
    assert digest in daemon.ctr("content", "ls", "-q").stdout.decode()
    assert daemon.ctr("content", "rm", digest).returncode == 0
    assert digest not in daemon.ctr("content", "ls", "-q").stdout.decode()


def test_a_plugin_that_hangs_does_not_keep_the_daemon_from_stopping(world, backend):
    _, start = world
    plugin = SnapshotterPlugin(backend)
    hanging, release = threading.Event(), threading.Event()

    def hang(request):
        del request
        hanging.set()
        release.wait(60)

    plugin.usage = hang
    daemon = start("snapshot", plugin, S)
    try:
        with daemon.channel() as channel:
            assert _prepare(channel, "a")[0] == "OK"
            request = snapshots_v1.UsageRequest(snapshotter="third", key="a")
            caller = threading.Thread(target=call, args=(channel, S, "Usage", request))
            caller.start()
            assert hanging.wait(10)
            assert daemon.stop() == 0
            caller.join(20)
    finally:
        release.set()
