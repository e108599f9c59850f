"""Snapshots whose files are shown with other owners: labels, mounts, runs, activations and diffs; and commits on a parent.

Debian's daemons know none of it: the steps are those of containerd 2's client, the expected bytes from its tables.
Debian's ctr asks for it, too (`run --remap-labels`), but can't make the mount that it then looks into.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontainerd.lib.api.full import diff_v1, introspection_v1, leases_v1, mounts_v1, snapshots_v1, types
from pycontainerd.lib.mounts import attach, mount_points, unmount_recursive
from support import images
from support.daemons import Daemon, call
from support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.requires("root", "overlayfs", "userns"), pytest.mark.timeout(120)]

S = snapshots_v1.SNAPSHOTS
UIDS, GIDS = "0:100000:65536", "0:200000:65536"
LABELS = {"containerd.io/snapshot/uidmapping": UIDS, "containerd.io/snapshot/gidmapping": GIDS}
SAID = [f"uidmap={UIDS}", f"gidmap={GIDS}"]
MAPS = ("--uidmap", UIDS, "--gidmap", GIDS)
OWNERS: list[images.Entry] = [
    ("home", "dir", None, 0o755, 7, 8), ("home/x", "file", b"x", 0o4755, 7, 8), ("home/link", "link", "/etc", 0o777, 7, 8),
    ("home/secret", "file", b"7", 0o600, 7, 8),
]  # fmt: skip
SHOW = (
    "id -u; stat -c '%n %u %g %a' / /bin/busybox /home /home/x /home/secret; stat -c '%u %g' /home/link; "
    "echo new > /home/new; echo more >> /home/secret; stat -c '%n %u %g' /home/new /home/secret; cat /home/secret"
)
SEEN = [
    "0", "/ 0 0 755", "/bin/busybox 0 0 755", "/home 7 8 755", "/home/x 7 8 4755", "/home/secret 7 8 600", "7 8",
    "/home/new 0 0", "/home/secret 7 8", "7more",
]  # fmt: skip


@pytest.fixture(params=["ours", "real"])
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A daemon of each kind whose folder a user namespace may pass through."""
    root = Path(tempfile.mkdtemp(prefix="ms", dir="/tmp"))
    root.chmod(0o711)
    found = Stack(root / "d", kind=request.param).start()
    yield found
    found.clean()
    shutil.rmtree(root)  # noqa: TID251 - the test's own folder


@pytest.fixture(scope="module")
def owners(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """busybox with files of other owners, one of them setuid, one nobody else's to read."""
    name = f"{registry}/library/mapped:1"
    layout = images.build_layout(
        tmp_path_factory.mktemp("owners"), contents=[images.busybox_entries(), OWNERS]
    )
    images.push(layout, name)
    return name


def copies(stack: Stack) -> list[str]:
    keys = [line.split()[0] for line in stack.ctr("snapshot", "ls").stdout.splitlines()]
    return [key for key in keys if "-100000-" in key]


def test_labels_show_an_image_to_a_user_namespace_without_a_copy(stack: Stack, owners: str) -> None:
    stack.ctr("image", "pull", "--plain-http", owners)
    run = ("run", "--rm", "--remap-labels", *MAPS, owners)
    before = mount_points()
    assert stack.pyctr(*run, "m-1", "sh", "-c", SHOW).stdout.splitlines() == SEEN
    assert mount_points() == before
    # Debian's daemon has no such snapshotter: there pyctr makes the copy that ctr 1.7 makes, which lives as long as it is used.
    stack.pyctr("run", "-d", "--remap-labels", *MAPS, owners, "m-2", "sleep", "100")
    assert len(copies(stack)) == (0 if stack.kind == "ours" else 1)


def test_several_ranges(stack: Stack, owners: str) -> None:
    stack.ctr("image", "pull", "--plain-http", owners)
    maps = ("--uidmap", "0:100000:5", "--uidmap", "5:300000:100", "--gidmap", GIDS)
    done = stack.pyctr("run", "--rm", "--remap-labels", *maps, owners, "m-1", "sh", "-c", SHOW)
    assert done.stdout.splitlines() == SEEN


def test_what_is_written_belongs_to_the_ids_outside(our: Stack, owners: str) -> None:
    our.ctr("image", "pull", "--plain-http", owners)
    our.pyctr("run", "-d", "--remap-labels", *MAPS, owners, "m-1", "sleep", "100")
    our.pyctr("task", "exec", "--exec-id", "e", "m-1", "sh", "-c", "echo x > /home/new; touch /home/x")
    info = json.loads(our.ctr("snapshot", "info", "m-1").stdout)
    assert LABELS.items() <= info["Labels"].items()
    mounts = json.loads(our.pyctr("snapshot", "prepare", "--mounts", "same", info["Parent"]).stdout)
    layers = mounts[0]["Options"][-1].removeprefix("lowerdir=").split(":")
    upper = os.path.dirname(os.path.dirname(layers[0])) + "/{}/fs"
    number = next(n for n in os.listdir(upper.split("{")[0]) if os.path.exists(upper.format(n) + "/home/new"))
    for name, owner in (
        ("", (100000, 200000)),
        ("/home/new", (100000, 200000)),
        ("/home/x", (100007, 200008)),
    ):
        status = os.stat(upper.format(number) + name)
        assert (status.st_uid, status.st_gid) == owner, name
    assert [os.stat(f"{layer}/home/x").st_uid for layer in layers if os.path.exists(f"{layer}/home/x")] == [7]


def test_a_daemon_that_maps_nothing_is_not_given_labels_for_nothing(native: Stack, owners: str) -> None:
    native.pyctr("image", "pull", "--plain-http", "--snapshotter", "native", owners)
    run = ("run", "--rm", "--snapshotter", "native", "--remap-labels", *MAPS, owners, "m-1", "sh", "-c", SHOW)
    assert native.pyctr(*run).stdout.splitlines() == SEEN


@pytest.fixture
def our(tmp_path: Path) -> Iterator[Stack]:
    root = Path(tempfile.mkdtemp(prefix="ms", dir="/tmp"))
    root.chmod(0o711)
    found = Stack(root / "d", kind="ours").start()
    yield found
    found.clean()
    shutil.rmtree(root)  # noqa: TID251 - the test's own folder


native = our


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="ms", dir="/tmp"))
    with Daemon(folder, real=False) as daemon:
        daemon.start()
        with daemon.channel() as channel:  # what a test makes is kept from the collector
            created = call(channel, leases_v1.LEASES, "Create", leases_v1.CreateRequest(id="held"))
            assert created[0] == "OK"
        yield daemon
    shutil.rmtree(folder)  # noqa: TID251 - the test's own folder


def ask(channel, method, request):
    code, details, answer = call(channel, S, method, request, lease="held")
    assert (code, details) == ("OK", "")
    return answer


def prepare(channel, key, parent="", labels=None, method="Prepare") -> list[types.Mount]:
    request = next(m for m in S.methods if m.name == method).request(
        snapshotter="overlayfs", key=key, parent=parent, labels=labels or {}
    )
    return list(ask(channel, method, request).mounts)


def commit(channel, name, key, parent="", labels=None):
    request = snapshots_v1.CommitSnapshotRequest(
        snapshotter="overlayfs", name=name, key=key, parent=parent, labels=labels or {}
    )
    return call(channel, S, "Commit", request, lease="held")


def make_layer(channel, name: str, parent: str = "", **files: tuple[int, int]) -> str:
    """A committed snapshot of files with owners; its directory."""
    (mount,) = prepare(channel, f"{name}-key", parent)
    options = dict(option.partition("=")[::2] for option in mount.options)
    folder = options.get("upperdir", mount.source)
    for file, owner in files.items():
        Path(folder, file).write_text(file)
        os.chown(f"{folder}/{file}", *owner)
    assert commit(channel, name, f"{name}-key")[:2] == ("OK", "")
    return str(folder)


def test_every_kind_of_mount_says_the_maps(daemon: Daemon) -> None:
    with daemon.channel() as channel:
        one = make_layer(channel, "one")
        two = make_layer(channel, "two", "one")
        (mount,) = prepare(channel, "empty", labels=LABELS)
        assert (mount.type, list(mount.options)) == ("bind", [*SAID, "rw", "rbind"])
        (mount,) = prepare(channel, "view", "one", LABELS, "View")
        assert (mount.type, mount.source, list(mount.options)) == ("bind", one, [*SAID, "ro", "rbind"])
        (mount,) = prepare(channel, "top", "two", LABELS)
        assert (mount.type, list(mount.options[:2])) == ("overlay", SAID)
        assert mount.options[-1] == f"lowerdir={two}:{one}"
        request = snapshots_v1.MountsRequest(snapshotter="overlayfs", key="top")
        assert list(ask(channel, "Mounts", request).mounts) == [mount]
        # By a change of the labels, too: they are what counts.
        info = snapshots_v1.Info(name="top", labels={})
        ask(channel, "Update", snapshots_v1.UpdateSnapshotRequest(snapshotter="overlayfs", info=info))
        (plain,) = ask(channel, "Mounts", request).mounts
        assert list(plain.options) == list(mount.options[2:])


def test_labels_that_are_no_maps_are_refused(daemon: Daemon) -> None:
    with daemon.channel() as channel:
        for text, words in (
            (
                "x",
                "failed to unmarshal snapshot ID mapped labels: input value x unparsable: expected integer",
            ),
            ("1:1:1", "failed to find root pair: container ID 0 cannot be mapped to a host ID"),
        ):
            labels = {**LABELS, "containerd.io/snapshot/uidmapping": text}
            request = snapshots_v1.PrepareSnapshotRequest(snapshotter="overlayfs", key="a", labels=labels)
            assert call(channel, S, "Prepare", request)[:2] == ("UNKNOWN", words)
        assert ask(channel, "List", snapshots_v1.ListSnapshotsRequest(snapshotter="overlayfs")) == []
        assert os.listdir(f"{daemon.folder}/root/io.containerd.snapshotter.v1.overlayfs/snapshots") == []


def test_the_snapshotter_says_what_it_can(daemon: Daemon) -> None:
    with daemon.channel() as channel:
        request = introspection_v1.PluginsRequest(filters=["type==io.containerd.snapshotter.v1"])
        plugins = call(channel, introspection_v1.INTROSPECTION, "Plugins", request)[2].plugins
        assert {p.id: list(p.capabilities) for p in plugins} == {
            "native": [],
            "overlayfs": ["remap-ids", "only-remap-ids", "rebase"],
        }


def test_an_activation_maps_ids_and_leaves_nothing(daemon: Daemon) -> None:
    with daemon.channel() as channel:
        make_layer(channel, "one", root=(0, 0))
        make_layer(channel, "two", "one", seven=(7, 8))
        for number, (method, parent) in enumerate((("Prepare", "two"), ("View", "one"), ("View", "two"))):
            mounts = prepare(channel, f"k{number}", parent, LABELS, method)
            request = mounts_v1.ActivateRequest(name=f"a{number}", mounts=mounts, temporary=True)
            code, details, answer = call(channel, mounts_v1.MOUNTS, "Activate", request, lease="held")
            assert (code, details) == ("OK", "")
            point = answer.info.system[0].source
            status = os.stat(f"{point}/root")
            assert (status.st_uid, status.st_gid) == (100000, 200000)
            if parent == "two":
                assert os.stat(f"{point}/seven").st_uid == 100007
            assert list(answer.info.active[0].mount.options) == list(mounts[0].options)
            request = mounts_v1.DeactivateRequest(name=f"a{number}")
            assert call(channel, mounts_v1.MOUNTS, "Deactivate", request)[0] == "OK"
        assert [point for point in mount_points() if point.startswith(str(daemon.folder))] == []


def test_a_diff_of_a_mapped_snapshot_sees_it_as_it_is_mounted(daemon: Daemon) -> None:
    """As containerd's: the layer below is compared with the same maps, or everything has changed."""
    with daemon.channel() as channel:
        make_layer(channel, "one", root=(0, 0))
        make_layer(channel, "two", "one", seven=(7, 8))
        right = prepare(channel, "top", "two", LABELS)
        left = prepare(channel, "below", "two", LABELS, "View")
        target = tempfile.mkdtemp(dir="/tmp")
        try:
            attach(right, target)
            Path(target, "new").write_text("n")
            unmount_recursive(target)
        finally:
            os.rmdir(target)
        request = diff_v1.DiffRequest(
            left=left, right=right, media_type="application/vnd.oci.image.layer.v1.tar", ref="d"
        )
        code, details, answer = call(channel, diff_v1.DIFF, "Diff", request, lease="held")
        assert (code, details) == ("OK", "")
        blob = daemon.ctr("content", "get", answer.diff.digest).stdout
    assert (b"new" in blob, b"seven" in blob, b"root" in blob.replace(b"rootfs", b"")) == (True, False, False)


def test_layers_are_put_on_each_other_when_they_are_committed(daemon: Daemon) -> None:
    """What containerd 2's parallel unpack does: every layer is prepared without a parent."""
    with daemon.channel() as channel:
        folders = {}
        for name in ("one", "two", "three"):
            folders[name] = prepare(channel, f"{name}-key")[0].source
            Path(folders[name], name).write_text(name)
        for name, parent in (("one", ""), ("two", "one"), ("three", "two")):
            assert commit(channel, name, f"{name}-key", parent)[:2] == ("OK", "")
        request = snapshots_v1.StatSnapshotRequest(snapshotter="overlayfs", key="three")
        assert ask(channel, "Stat", request).info.parent == "two"
        (mount,) = prepare(channel, "top", "three")
        assert mount.options[-1] == f"lowerdir={folders['three']}:{folders['two']}:{folders['one']}"
        remove = snapshots_v1.RemoveSnapshotRequest(snapshotter="overlayfs", key="two")
        assert call(channel, S, "Remove", remove)[:2] == (
            "FAILED_PRECONDITION",
            "cannot remove snapshot with child: failed precondition",
        )


def test_a_parent_at_commit_must_be_one(daemon: Daemon) -> None:
    with daemon.channel() as channel:
        make_layer(channel, "one")
        make_layer(channel, "other")
        prepare(channel, "a")
        assert commit(channel, "c", "a", "nope")[:2] == (
            "NOT_FOUND",
            "parent snapshot nope does not exist: not found",
        )
        prepare(channel, "active")
        assert commit(channel, "c", "a", "active")[0] == "FAILED_PRECONDITION"
        # One that has a parent keeps it, as in containerd.
        prepare(channel, "b", "one")
        assert commit(channel, "d", "b", "other")[:2] == ("OK", "")
        request = snapshots_v1.StatSnapshotRequest(snapshotter="overlayfs", key="d")
        assert ask(channel, "Stat", request).info.parent == "one"


def test_a_plain_copy_cannot_be_put_on_a_parent(daemon: Daemon) -> None:
    with daemon.channel() as channel:
        for key in ("one-key", "two-key"):
            request = snapshots_v1.PrepareSnapshotRequest(snapshotter="native", key=key)
            ask(channel, "Prepare", request)
        request = snapshots_v1.CommitSnapshotRequest(snapshotter="native", name="one", key="one-key")
        assert call(channel, S, "Commit", request, lease="held")[0] == "OK"
        request = snapshots_v1.CommitSnapshotRequest(
            snapshotter="native", name="two", key="two-key", parent="one"
        )
        assert call(channel, S, "Commit", request, lease="held")[:2] == (
            "UNIMPLEMENTED",
            "snapshotter native can't put a snapshot on a parent afterwards: not implemented",
        )
