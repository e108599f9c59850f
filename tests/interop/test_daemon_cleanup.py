"""Snapshots.Cleanup: ours removes what no snapshot is; containerd has the method, but its daemon never gets to it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import snapshots_v1
from support.daemons import Daemon, call

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(60)]

S = snapshots_v1.SNAPSHOTS
ROOTED = {"containerd.io/gc.root": "1"}


@pytest.fixture(params=["real", "ours"])
def daemon(request):
    folder = Path(tempfile.mkdtemp(prefix="cl", dir="/tmp"))
    with Daemon(folder / "d", real=request.param == "real") as daemon:
        yield daemon.start()
    remove_tree(str(folder))


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_only_folders_of_no_snapshot_go(daemon, snapshotter):
    snapshots = daemon.folder / f"root/io.containerd.snapshotter.v1.{snapshotter}/snapshots"
    prepare = snapshots_v1.PrepareSnapshotRequest(snapshotter=snapshotter, key="k", labels=ROOTED)
    with daemon.channel() as channel:
        assert call(channel, S, "Prepare", prepare)[0] == "OK"
        kept = {path.name for path in snapshots.iterdir()}
        (snapshots / "4711/fs/etc").mkdir(parents=True)
        (snapshots / "4711/fs/etc/passwd").touch()
        status, text, _ = call(channel, S, "Cleanup", snapshots_v1.CleanupRequest(snapshotter=snapshotter))
        left = {path.name for path in snapshots.iterdir()}
        assert (
            call(channel, S, "Stat", snapshots_v1.StatSnapshotRequest(snapshotter=snapshotter, key="k"))[0]
            == "OK"
        )
    if daemon.real:
        message = "snapshotter does not implement Cleanup method: not implemented"
        assert (status, text, left) == ("UNIMPLEMENTED", message, kept | {"4711"})
    else:
        assert (status, text, left) == ("OK", "", kept)
