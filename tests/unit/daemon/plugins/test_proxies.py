"""Stores behind a socket against the contract suites of those that are here."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from pycontainerd.daemon import config, plugin
from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.daemon.plugins.content_local import LocalContentStore
from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
from pycontainerd.daemon.plugins.snapshot_native import NativeSnapshotter
from pycontainerd.daemon.plugins.snapshot_overlay import OverlaySnapshotter
from pycontainerd.daemon.proxies.client import ProxyClient
from pycontainerd.daemon.proxies.content import ProxyContentStore
from pycontainerd.daemon.proxies.snapshotter import ProxySnapshotter
from pycontainerd.lib.api.full import content_v1, snapshots_v1
from pycontainerd.lib.errdefs import InvalidArgument, Unavailable
from suites.content_store import HELLO, ContentStoreSuite, put
from suites.snapshotter import SnapshotterSuite
from support.proxy import ContentPlugin, SnapshotterPlugin, serve


@pytest.fixture
def socket_path():
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))  # short: it goes into a socket's address
    yield f"{folder}/s"
    remove_tree(str(folder))


@pytest.mark.requires("root")
class TestProxySnapshotter(SnapshotterSuite):
    @pytest.fixture
    def snapshotter(self, tmp_path, socket_path):
        database = Database(f"{tmp_path}/meta.db")
        served = SnapshotterPlugin(NativeSnapshotter(str(tmp_path), database))
        with serve(socket_path, snapshots_v1.SNAPSHOTS, served):
            client = ProxyClient(socket_path, snapshots_v1.SNAPSHOTS)
            yield ProxySnapshotter("proxied", client)
            client.close()
        database.close()

    @pytest.fixture
    def directory_count(self, tmp_path):
        return lambda: len(os.listdir(f"{tmp_path}/snapshots"))


@pytest.mark.requires("root")
class TestProxiedOverlay(SnapshotterSuite):
    """One that can what overlayfs can, and is said to."""

    @pytest.fixture
    def snapshotter(self, tmp_path, socket_path):
        database = Database(f"{tmp_path}/meta.db")
        overlay = OverlaySnapshotter(str(tmp_path), database)
        with serve(socket_path, snapshots_v1.SNAPSHOTS, SnapshotterPlugin(overlay)):
            client = ProxyClient(socket_path, snapshots_v1.SNAPSHOTS)
            yield ProxySnapshotter("proxied", client, overlay.capabilities)
            client.close()
        database.close()

    @pytest.fixture
    def directory_count(self, tmp_path):
        return lambda: len(os.listdir(f"{tmp_path}/snapshots"))


class TestProxyContent(ContentStoreSuite):
    @pytest.fixture
    def store(self, tmp_path, socket_path):
        served = ContentPlugin(LocalContentStore(f"{tmp_path}/content"))
        with serve(socket_path, content_v1.CONTENT, served):
            client = ProxyClient(f"unix://{socket_path}", content_v1.CONTENT)
            yield ProxyContentStore(client)
            client.close()

    def test_a_blob_can_be_had_as_a_file(self, store):
        blob = store.open_blob(put(store, HELLO))
        assert os.pread(blob.fileno(), 100, 0) == HELLO
        blob.close()

    def test_large_blobs_go_in_pieces(self, store):
        data = os.urandom(5 << 20)
        blob = store.open_blob(put(store, data))
        assert blob.read(0, len(data)) == data


def test_a_plugin_that_is_away_is_unavailable_and_may_come_back(tmp_path, socket_path):
    client = ProxyClient(socket_path, content_v1.CONTENT)
    store = ProxyContentStore(client)
    served = ContentPlugin(LocalContentStore(f"{tmp_path}/content"))
    try:
        with pytest.raises(Unavailable):
            list(store.walk())
        for _ in range(2):
            with serve(socket_path, content_v1.CONTENT, served):
                assert list(store.walk()) == []
            with pytest.raises(Unavailable):
                list(store.walk())
    finally:
        client.close()


def test_types_that_are_not_served_are_refused():
    wanted = config.Config(proxy_plugins={"x": config.ProxyPlugin("diff", "/s")})
    with pytest.raises(InvalidArgument, match="type diff is not supported"):
        plugin.registrations(wanted)
