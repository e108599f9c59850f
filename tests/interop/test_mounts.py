"""The mounts service, call by call as containerd 2's client makes them (no Debian peer has it)."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from pycontainerd.client import spec_opts
from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import containers_v1, leases_v1, mounts_v1, tasks_v1, types, wkt
from pycontainerd.lib.mounts import points_below
from support.daemons import Daemon, call, kill, make_rootfs
from support.programs import ours
from support.walkthrough import wait_until

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

M = mounts_v1.MOUNTS
TARGETS = "state/io.containerd.mount-manager.v1.sqlite/t"
SPEC = wkt.Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}")


@pytest.fixture
def folder():
    folder = Path(tempfile.mkdtemp(prefix="mm", dir="/tmp"))
    for name in ("lower", "second", "upper", "work"):
        (folder / name).mkdir()
        (folder / name / f"in-{name}").write_text(name)
    yield folder
    for point in points_below(str(folder)):
        subprocess.run(["umount", "-l", point], check=True)
    remove_tree(str(folder))


@pytest.fixture
def daemon(folder):
    with Daemon(folder, real=False) as daemon:
        yield daemon.start()


@pytest.fixture
def channel(daemon):
    """With the lease that holds what a test activates, where the test doesn't say otherwise."""
    with daemon.channel() as channel:
        for namespace in ("default", "other"):
            create_lease(channel, "held", namespace=namespace)
        yield channel


def create_lease(channel, name, **keywords) -> None:
    assert call(channel, leases_v1.LEASES, "Create", leases_v1.CreateRequest(id=name), **keywords)[0] == "OK"


def mount(kind: str, source: object = "", *options: str, target: str = "") -> types.Mount:
    return types.Mount(type=kind, source=str(source), target=target, options=options)


def lower(folder: Path, name: str = "lower") -> types.Mount:
    return mount("bind", folder / name, "rbind", "ro")


def activate(channel, name, *mounts, lease="held", namespace="default", **fields):
    request = mounts_v1.ActivateRequest(name=name, mounts=mounts, **fields)
    return call(channel, M, "Activate", request, lease=lease, namespace=namespace)


def info(channel, name, **keywords):
    return call(channel, M, "Info", mounts_v1.InfoRequest(name=name), **keywords)


def deactivate(channel, name, **keywords):
    return call(channel, M, "Deactivate", mounts_v1.DeactivateRequest(name=name), **keywords)


def names(channel, *filters, **keywords) -> list[str]:
    status, text, answer = call(channel, M, "List", mounts_v1.ListRequest(filters=filters), **keywords)
    assert (status, text) == ("OK", "")
    return [message.info.name for message in answer]


def mounted(folder: Path) -> list[str]:
    """What is mounted below the test's folder, by its place below that of the mounts."""
    top = f"{folder}/{TARGETS}/"
    return sorted(point.removeprefix(top) for point in points_below(str(folder)))


def collect(channel) -> None:
    """A garbage collection, waited for."""
    create_lease(channel, "gc")
    assert call(channel, leases_v1.LEASES, "Delete", leases_v1.DeleteRequest(id="gc", sync=True))[0] == "OK"


def activated(channel, name: str, folder: Path, **fields) -> None:
    """An activation of one mount."""
    assert activate(channel, name, lower(folder), temporary=True, **fields)[:2] == ("OK", "")


def test_what_comes_before_a_formatted_mount_is_made_and_the_rest_is_the_systems(channel, folder):
    overlay = mount(
        "format/overlay", "overlay", "lowerdir={{ mount 0 }}:{{overlay 1 0}}", f"upperdir={folder}/upper"
    )
    after = mount("tmpfs", "tmpfs", "size={{ mount 0 }}", target="/run")
    before = time.time()
    status, text, answer = activate(
        channel, "a", lower(folder), lower(folder, "second"), overlay, after, labels={"k": "v", "empty": ""}
    )
    assert (status, text) == ("OK", "")
    points = [f"{folder}/{TARGETS}/1/2", f"{folder}/{TARGETS}/1/1"]
    assert [one.mount_point for one in answer.info.active] == points
    assert [one.mount for one in answer.info.active] == [lower(folder), lower(folder, "second")]
    assert all(before - 1 < one.mounted_at.seconds <= time.time() for one in answer.info.active)
    options = [f"lowerdir={points[0]}:{points[1]}:{points[0]}", f"upperdir={folder}/upper"]
    assert list(answer.info.system) == [mount("overlay", "overlay", *options), after]
    assert (answer.info.name, dict(answer.info.labels)) == ("a", {"k": "v"})
    assert mounted(folder) == ["1/1", "1/2"]
    assert Path(points[0], "in-lower").read_text() == "lower"
    with pytest.raises(OSError, match="Read-only"):
        Path(points[1], "new").touch()
    kept = {path.name: path.read_text() for path in Path(points[0]).parent.glob("*-type")}
    assert kept == {"1-type": "bind", "2-type": "bind"}


def test_without_work_for_the_daemon_nothing_is_made(channel, folder):
    for mounts in (
        (),
        (lower(folder),),
        (lower(folder), mount("overlay", "overlay")),
        (mount("other/bind", folder),),
    ):
        assert activate(channel, "a", *mounts)[:2] == ("UNIMPLEMENTED", "not implemented")
    assert activate(channel, "a", temporary=True)[:2] == ("UNIMPLEMENTED", "not implemented")
    assert (names(channel), mounted(folder)) == ([], [])


def test_a_temporary_activation_mounts_all_and_says_where_the_last_is(channel, folder):
    writable = [f"upperdir={folder}/upper", f"workdir={folder}/work"]
    overlay = mount("format/overlay", "overlay", "lowerdir={{ mount 0 }}", *writable)
    status, text, answer = activate(channel, "t", lower(folder), overlay, temporary=True)
    assert (status, text) == ("OK", "")
    point = f"{folder}/{TARGETS}/1/1"
    assert list(answer.info.system) == [mount("bind", point, "rbind")]
    assert {path.name for path in Path(point).iterdir()} == {"in-lower", "in-upper"}
    assert mounted(folder) == ["1/1", "1/2"]


def test_a_name_is_taken_once_in_a_namespace_until_it_is_deactivated(channel, folder):
    activated(channel, "a", folder)
    assert activate(channel, "a", lower(folder), temporary=True)[:2] == (
        "ALREADY_EXISTS",
        'mount "a": already exists',
    )
    assert activate(channel, "a", lower(folder), temporary=True, namespace="other")[0] == "OK"
    assert mounted(folder) == ["1/1", "2/1"]
    assert deactivate(channel, "a")[:2] == ("OK", "")
    assert not Path(folder, TARGETS, "1").exists()
    assert deactivate(channel, "a")[:2] == ("NOT_FOUND", 'missing mount "a" bucket: not found')
    assert info(channel, "a")[:2] == ("NOT_FOUND", 'mount "a" not found')
    activated(channel, "a", folder)
    assert Path(folder, TARGETS, "3/1/in-lower").exists()


def test_info_and_list_tell_what_is_kept(channel, folder):
    for name in ("b", "a", "ü"):
        activated(channel, name, folder, labels={"is": name})
    found = info(channel, "a")[2].info
    assert [(one.mount, one.mount_point) for one in found.active] == [
        (mount("bind"), f"{folder}/{TARGETS}/2/1")
    ]
    assert list(found.system) == [mount("bind", f"{folder}/{TARGETS}/2/1", "rbind")]
    assert dict(found.labels) == {"is": "a"}
    assert names(channel) == ["a", "b", "ü"]
    assert names(channel, "name==b", "labels.is==a") == ["a", "b"]
    assert names(channel, namespace="other") == []
    bad = call(channel, M, "List", mounts_v1.ListRequest(filters=["name=b"]))
    assert bad[0] == "INVALID_ARGUMENT"


def test_requests_that_mean_nothing(channel, folder):
    assert activate(channel, "", lower(folder), temporary=True)[:2] == ("UNKNOWN", "bucket name required")
    many = activate(channel, "m", *[lower(folder)] * 256, temporary=True)
    assert many[:2] == ("UNKNOWN", "too many mounts (256): maximum 255")
    for answer in (
        activate(channel, "a", lower(folder), temporary=True, namespace=None),
        info(channel, "a", namespace=None),
        deactivate(channel, "a", namespace=None),
        call(channel, M, "List", mounts_v1.ListRequest(), namespace=None),
    ):
        assert answer[:2] == ("FAILED_PRECONDITION", "namespace is required: failed precondition")
    update = mounts_v1.UpdateRequest(info=types.ActivationInfo(name="a"))
    assert call(channel, M, "Update", update)[:2] == ("UNIMPLEMENTED", "not implemented")
    assert (names(channel), mounted(folder)) == ([], [])


BAD_MOUNTS = {
    "nothing there": (
        mount("bind", "/nope/here", "bind"),
        "UNKNOWN",
        'mount failed {bind /nope/here  [bind]}: mount source: "/nope/here", target: "',
    ),
    "no such type": (
        mount("nofs", "x"),
        "UNKNOWN",
        't/1/1", fstype: nofs, flags: 0, data: "", err: no such device',
    ),
    "a target outside": (
        mount("tmpfs", "x", target="/../../up"),
        "INVALID_ARGUMENT",
        "mount failed {tmpfs x /../../up []}: mount target '/../../up' leaves the rootfs",
    ),
    "a transformer's option without it": (
        mount("tmpfs", "x", "X-containerd.mkdir.path=/x"),
        "INVALID_ARGUMENT",
        'internal mount option "X-containerd.mkdir.path=/x" was not consumed by the mount manager',
    ),
    "a helper's": (
        mount("fuse.sshfs", "x"),
        "UNKNOWN",
        "mount failed {fuse.sshfs x  []}: mount helper [mount.fuse [x",
    ),
    "one id map": (
        mount("bind", "/tmp", "bind", "uidmap=0:1:1"),
        "INVALID_ARGUMENT",
        "mount failed {bind /tmp  [bind uidmap=0:1:1]}: mount options uidmap and gidmap go together",
    ),
    "no id map": (
        mount("bind", "/tmp", "bind", "uidmap=0:1", "gidmap=0:1:1"),
        "UNKNOWN",
        "[bind uidmap=0:1 gidmap=0:1:1]}: user namespace mappings require the format `container-id:host-id:size`",
    ),
    "id maps that overlap": (
        mount("bind", "/tmp", "bind", "uidmap=0:1:5,3:9:5", "gidmap=0:1:1"),
        "UNKNOWN",
        "failed to make a user namespace for uidmap=0:1:5,3:9:5 gidmap=0:1:1: invalid argument",
    ),
    "a file system that maps none": (
        mount("proc", "proc", "uidmap=0:1:5", "gidmap=0:1:5"),
        "UNKNOWN",
        "mount failed {proc proc  [uidmap=0:1:5 gidmap=0:1:5]}: unable to shift GID/UID or set mount attrs for ",
    ),
    "no file for a device": (
        mount("loop", "/nope"),
        "UNKNOWN",
        "mount handler failed {loop /nope  []}: no such file or directory",
    ),
    "an index too high": (
        mount("format/bind", "{{ mount 1 }}"),
        "UNKNOWN",
        'template: :1:3: executing "" at <mount 1>: error calling mount: index out of bounds: 1, has 1 active mounts',
    ),
    "a range too long": (
        mount("format/bind", "{{ overlay 0 1 }}"),
        "UNKNOWN",
        "error calling overlay: invalid range: 0-1, has 1 active mounts",
    ),
    "no such function": (mount("format/bind", "{{ exec 1 }}"), "UNKNOWN", 'function "exec" not defined'),
    "too few arguments": (
        mount("format/bind", "{{ overlay 0 }}"),
        "UNKNOWN",
        "wrong number of args for overlay: want 2 got 1",
    ),
    "more than a call": (
        mount("format/bind", "{{ if 1 }}x{{ end }}"),
        "UNKNOWN",
        'function "if" not defined',
    ),
    "an endless number": (
        mount("format/bind", f"{{{{ mount {'1' * 5000} }}}}"),
        "UNKNOWN",
        "is not supported",
    ),
    "an open brace": (mount("format/bind", "{{ mount 0"), "UNKNOWN", "unclosed action"),
}


@pytest.mark.parametrize("case", BAD_MOUNTS)
def test_when_one_mount_fails_none_is_left(channel, folder, case):
    bad, code, text = BAD_MOUNTS[case]
    status, message, _ = activate(channel, "a", lower(folder), bad, temporary=True)
    assert status == code
    assert text in message
    assert (names(channel), mounted(folder)) == ([], [])
    assert list(Path(folder, TARGETS).iterdir()) == []
    assert activate(channel, "a", lower(folder), temporary=True)[0] == "OK"


def test_folders_are_made_with_mode_and_owner(channel, folder):
    made = folder / "root/made"
    options = [
        f"X-containerd.mkdir.path={made}:0751:1000:2000",
        f"X-containerd.mkdir.path={made}/upper:755",
        f"X-containerd.mkdir.path={made}/work",
        "X-containerd.mkdir.path={{ mount 0 }}/inner:0777",
    ]
    where = f"lowerdir={folder}/lower", f"upperdir={made}/upper", f"workdir={made}/work"
    overlay = mount("format/mkdir/overlay", "overlay", *options, *where)
    status, text, answer = activate(channel, "a", mount("tmpfs", "tmpfs"), overlay)
    assert (status, text) == ("OK", "")
    assert list(answer.info.system) == [mount("overlay", "overlay", *where)]
    found = [os.stat(path) for path in (made, made / "upper", made / "work", f"{folder}/{TARGETS}/1/1/inner")]
    assert [oct(one.st_mode & 0o7777) for one in found] == ["0o751", "0o755", "0o700", "0o777"]
    assert [(one.st_uid, one.st_gid) for one in found] == [(1000, 2000), (0, 0), (0, 0), (0, 0)]
    again = mount("mkdir/overlay", "overlay", options[0], *where)
    assert activate(channel, "again", again)[0] == "OK"


BAD_FOLDERS = {
    "{root}/a:0700": ("OK", ""),
    "/outside": ("UNIMPLEMENTED", 'no root "/outside" configured for mkdir: not implemented'),
    "{root}x/beside": ("UNIMPLEMENTED", 'no root "{root}x/beside" configured for mkdir: not implemented'),
    "{root}/../upper/up": ("UNKNOWN", 'failed to stat "{root}/../upper/up": path escapes from parent'),
    "{root}/link/in": ("UNKNOWN", 'failed to stat "{root}/link/in": path escapes from parent'),
    "{root}/link": ("UNKNOWN", 'failed to stat "{root}/link": path escapes from parent'),
    "{root}/no/such": ("UNKNOWN", 'failed to create directory "{root}/no/such": no such file or directory'),
    "{root}:0123": ("UNIMPLEMENTED", "chmod not supported yet for mkdir handler: not implemented"),
    "{root}/b:9": ("UNKNOWN", "invalid mode 9: "),
    "{root}/b:1777": ("UNKNOWN", "invalid mode 1777"),
    "{root}/b:0700:1": ("INVALID_ARGUMENT", "invalid mkdir option "),
    "{root}/b:0700:1:x": ("INVALID_ARGUMENT", 'invalid gid "x": invalid argument'),
    "{root}/b:0700:-1:1": ("INVALID_ARGUMENT", 'invalid uid "-1": invalid argument'),
    "{root}/b:0700:1_0:1": ("INVALID_ARGUMENT", 'invalid uid "1_0": invalid argument'),
}


@pytest.mark.parametrize("path", BAD_FOLDERS)
def test_folders_are_made_inside_the_daemons_own_only(channel, folder, path):
    root = str(folder / "root")
    (folder / "root/link").symlink_to(folder / "upper")
    before = sorted([*folder.glob("root/*"), *folder.glob("upper/*")])
    wanted = mount("mkdir/tmpfs", "tmpfs", "X-containerd.mkdir.path=" + path.format(root=root))
    status, text, _ = activate(channel, "a", wanted)
    code, beginning = BAD_FOLDERS[path]
    assert status == code
    assert text.startswith(beginning.format(root=root))
    if code != "OK":
        assert sorted([*folder.glob("root/*"), *folder.glob("upper/*")]) == before
        assert (names(channel), mounted(folder)) == ([], [])


def loop_files() -> set[str]:
    files = Path("/sys/block").glob("loop*/loop/backing_file")
    return {path.read_text().strip() for path in files}


@pytest.mark.requires("loop")
@pytest.mark.parametrize("how", ["handler", "option"])
def test_a_file_system_is_made_mounted_and_taken_away(channel, folder, how):
    image = folder / "root/disk.img"
    made = [
        f"X-containerd.mkfs.{word}"
        for word in ("size=16MiB", "fs=ext4", f"uuid=01234567-{'89ab-' * 3}0123456789ab")
    ]
    if how == "handler":
        first = [mount("mkfs/loop", image, *made), mount("format/ext4", "{{ mount 0 }}")]
    else:
        first = [mount("mkfs/ext4", image, *made, "loop")]
    disk = len(first) - 1
    options = [f"X-containerd.mkdir.path={{{{ mount {disk} }}}}/{name}:0755" for name in ("upper", "work")]
    options += [
        f"lowerdir={folder}/lower",
        *(f"{name}dir={{{{ mount {disk} }}}}/{name}" for name in ("upper", "work")),
    ]
    overlay = mount("format/mkdir/overlay", "overlay", *options)
    status, text, answer = activate(channel, "disk", *first, overlay, temporary=True)
    assert (status, text) == ("OK", "")
    assert str(image) in loop_files()
    Path(answer.info.system[0].source, "written").write_text("on the disk")
    ids = subprocess.run(
        ["blkid", "-s", "UUID", "-o", "value", image], capture_output=True, text=True, check=True
    )
    assert ids.stdout.startswith("01234567-89ab")
    assert deactivate(channel, "disk")[:2] == ("OK", "")
    assert str(image) not in loop_files()
    assert mounted(folder) == []
    status, text, answer = activate(channel, "again", *first, temporary=True)
    assert (status, text) == ("OK", "")
    assert Path(answer.info.active[-1].mount_point, "upper/written").read_text() == "on the disk"
    assert deactivate(channel, "again")[0] == "OK"


@pytest.mark.requires("loop")
def test_a_device_that_has_become_somebody_elses_is_left_alone(daemon, folder):
    for name in ("ours", "theirs"):
        (folder / name).write_bytes(bytes(1 << 20))
    with daemon.channel() as channel:
        create_lease(channel, "held")
        status, text, answer = activate(channel, "a", mount("loop", folder / "ours"))
        assert (status, text) == ("OK", "")
        point = Path(answer.info.active[0].mount_point)
        device = os.readlink(point)
        daemon.stop(signal.SIGKILL)
    subprocess.run(["losetup", "-d", device], check=True)
    subprocess.run(["losetup", device, folder / "theirs"], check=True)
    try:
        with daemon.start().channel() as channel:
            assert names(channel) == []
            collect(channel)
            assert list(Path(folder, TARGETS).iterdir()) == []
            assert str(folder / "theirs") in loop_files()
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


BAD_IMAGES = {
    "no size": ([], "INVALID_ARGUMENT", "mkfs requires mkfs.size option"),
    "bad size": (["size=much"], "UNKNOWN", "bad option size: invalid size: 'much'"),
    "endless size": ([f"size={'9' * 5000}"], "UNKNOWN", "bad option size: invalid size: '999"),
    "endless fraction": ([f"size=1.{'9' * 5000}"], "UNKNOWN", "bad option size: invalid size: '1.999"),
    "other kind": (["size=1m", "fs=ntfs"], "INVALID_ARGUMENT", 'unsupported filesystem "ntfs"'),
    "bad id": (["size=1m", "uuid=-x"], "INVALID_ARGUMENT", 'invalid uuid "-x"'),
    "unknown": (["size=1m", "label=x"], "INVALID_ARGUMENT", "unknown mount option label"),
    "too small": (["size=1"], "UNKNOWN", "mkfs.ext4 failed: "),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_no_half_made_image_is_left(channel, folder, case):
    options, code, beginning = BAD_IMAGES[case]
    wanted = mount(
        "mkfs/ext4", folder / "root/i", *(f"X-containerd.mkfs.{option}" for option in options), "loop"
    )
    status, text, _ = activate(channel, "a", wanted, temporary=True)
    assert status == code
    assert beginning in text
    assert not (folder / "root/i").exists()
    outside = mount("mkfs/ext4", folder / "i", "X-containerd.mkfs.size=1m")
    assert activate(channel, "a", outside)[:2] == (
        "UNIMPLEMENTED",
        f'no root "{folder}/i" configured for mkfs: not implemented',
    )


def test_more_layers_than_fit_a_page_are_mounted_and_the_daemon_stays_where_it_is(daemon, channel, folder):
    layers = [folder / "layers" / f"{number:03}-{'x' * 30}" for number in range(80)]
    for layer in layers:
        layer.mkdir(parents=True)
        (layer / layer.name[:3]).touch()
    before = os.readlink(f"/proc/{daemon.pid}/cwd")
    overlay = mount("overlay", "overlay", "lowerdir=" + ":".join(map(str, layers)))
    status, text, answer = activate(channel, "long", overlay, temporary=True)
    assert (status, text) == ("OK", "")
    assert len(list(Path(answer.info.active[0].mount_point).iterdir())) == 80
    assert os.readlink(f"/proc/{daemon.pid}/cwd") == before


def test_what_nothing_holds_is_collected(channel, folder):
    container = containers_v1.Container(
        id="c1",
        runtime=containers_v1.Container.Runtime(name="io.containerd.runc.v2"),
        spec=SPEC,
        labels={"containerd.io/gc.ref.mount/root": "referred"},
    )
    create = containers_v1.CreateContainerRequest(container=container)
    assert call(channel, containers_v1.CONTAINERS, "Create", create)[0] == "OK"
    for name in ("lonely", "referred"):
        activated(channel, name, folder, lease="")
    for name, key in (("back", ""), ("named", ".x"), ("other", "x")):
        label = {f"containerd.io/gc.bref.container{key}": "c1"}
        activated(channel, name, folder, lease="", labels=label)
    activated(channel, "leased", folder)
    collect(channel)
    assert names(channel) == ["back", "leased", "named", "referred"]
    assert len(mounted(folder)) == len(list(Path(folder, TARGETS).iterdir())) == 4
    delete = leases_v1.DeleteRequest(id="held", sync=True)
    assert call(channel, leases_v1.LEASES, "Delete", delete)[0] == "OK"
    assert names(channel) == ["back", "named", "referred"]
    gone = containers_v1.DeleteContainerRequest(id="c1")
    assert call(channel, containers_v1.CONTAINERS, "Delete", gone)[0] == "OK"
    collect(channel)
    assert (names(channel), mounted(folder)) == ([], [])
    assert list(Path(folder, TARGETS).iterdir()) == []


def test_a_mount_in_use_is_forgotten_at_once_and_unmounted_later(channel, folder):
    activated(channel, "busy", folder)
    with Path(folder, TARGETS, "1/1/in-lower").open():
        status, text, _ = deactivate(channel, "busy")
        point = f"{folder}/{TARGETS}/1/1"
        assert (status, text) == ("UNKNOWN", f"failed to unmount target {point}: device or resource busy")
        assert (names(channel), mounted(folder)) == ([], ["1/1"])
        collect(channel)  # which waits for it as long as a deactivation does
        assert mounted(folder) == ["1/1"]
    collect(channel)
    assert mounted(folder) == []
    assert Path(folder, "lower/in-lower").exists()


def container_with_a_root(
    channel, folder: Path, runtime_name: str = "io.containerd.runc.v2"
) -> tuple[str, list[types.Mount]]:
    """The id of a container of /bin/sleep, and mounts for its root that a shim can't make."""
    make_rootfs(folder / "root/rootfs")
    id = f"mounts-{os.getpid()}"
    document = spec_opts.with_args(spec_opts.default_spec("default", id), ["/bin/sleep", "1000"])
    runtime = containers_v1.Container.Runtime(name=runtime_name)
    spec = wkt.Any(type_url=SPEC.type_url, value=spec_opts.encode(document))
    create = containers_v1.CreateContainerRequest(
        container=containers_v1.Container(id=id, runtime=runtime, spec=spec)
    )
    assert call(channel, containers_v1.CONTAINERS, "Create", create)[0] == "OK"
    made = [f"X-containerd.mkdir.path={folder}/root/{name}:0755" for name in ("u", "w")]
    where = ["lowerdir={{ mount 0 }}", f"upperdir={folder}/root/u", f"workdir={folder}/root/w"]
    rootfs = [
        mount("bind", folder / "root/rootfs", "rbind", "ro"),
        mount("format/mkdir/overlay", "overlay", *made, *where),
    ]
    return id, rootfs


def test_a_tasks_root_is_activated_for_as_long_as_the_task_is_there(channel, folder):
    id, rootfs = container_with_a_root(channel, folder)
    bad = tasks_v1.CreateTaskRequest(
        container_id=id, rootfs=[rootfs[0], mount("format/nofs", "{{ mount 0 }}")]
    )
    assert call(channel, tasks_v1.TASKS, "Create", bad)[0] == "UNKNOWN"
    assert (names(channel), mounted(folder)) == ([], [])
    try:
        request = tasks_v1.CreateTaskRequest(container_id=id, rootfs=rootfs)
        status, text, _ = call(channel, tasks_v1.TASKS, "Create", request)
        assert (status, text) == ("OK", "")
        assert call(channel, tasks_v1.TASKS, "Start", tasks_v1.StartRequest(container_id=id))[0] == "OK"
        collect(channel)
        assert dict(info(channel, id)[2].info.labels) == {"containerd.io/gc.bref.container": id}
        bundle = f"{folder}/state/io.containerd.runtime.v2.task/default/{id}"
        assert mounted(folder) == [f"{bundle}/rootfs", "2/1"]
    finally:
        kill = tasks_v1.KillRequest(container_id=id, signal=9)
        call(channel, tasks_v1.TASKS, "Kill", kill)
        call(channel, tasks_v1.TASKS, "Wait", tasks_v1.WaitRequest(container_id=id))
        deleted = call(channel, tasks_v1.TASKS, "Delete", tasks_v1.DeleteTaskRequest(container_id=id))
    assert deleted[:2] == ("OK", "")
    assert (names(channel), mounted(folder)) == ([], [])
    assert list(Path(folder, TARGETS).iterdir()) == []


def shim_that_handles(folder: Path, handled: str) -> str:
    """The path of our shim, but for what it answers to -info: with `handled` its word on mounts, with "" an error."""
    said = types.RuntimeInfo(name="test", annotations={"containerd.io/runtime-allow-mounts": handled})
    (folder / "said").write_bytes(said.SerializeToString() if handled else b"")
    path = folder / "containerd-shim-says-v2"
    path.write_text(
        f"""#!/bin/sh
if [ "$1" = -info ]; then test -s {folder}/said && exec cat {folder}/said; exit 1; fi
exec {ours("containerd-shim-pyrunc-v2")} "$@"
"""
    )
    path.chmod(0o755)
    return str(path)


# What a shim says it handles itself, and whether the daemon then makes what is before a mount of type format/mkdir/overlay.
HANDLED = (
    ("", True),
    ("loop", True),
    ("format/*", True),  # mkdir is still the daemon's
    ("format,overlay", True),
    ("loop,format/*,mkdir/*", False),
    ("format/mkdir/overlay", False),
)


@pytest.mark.parametrize(("handled", "made"), HANDLED)
def test_what_a_shim_says_it_mounts_itself_is_left_to_it(daemon, channel, folder, handled, made):
    id, rootfs = container_with_a_root(channel, folder, shim_that_handles(folder, handled))
    request = tasks_v1.CreateTaskRequest(container_id=id, rootfs=rootfs)
    status, text, _ = call(channel, tasks_v1.TASKS, "Create", request)
    if made:
        assert (status, text) == ("OK", "")
        assert names(channel) == [id]
        assert ("failed to load runtime info" in daemon.log()) is (not handled)
        call(channel, tasks_v1.TASKS, "Kill", tasks_v1.KillRequest(container_id=id, signal=9))
        call(channel, tasks_v1.TASKS, "Wait", tasks_v1.WaitRequest(container_id=id))
        deleted = call(channel, tasks_v1.TASKS, "Delete", tasks_v1.DeleteTaskRequest(container_id=id))
        assert deleted[:2] == ("OK", "")
    else:  # our shim is given the mount as it stood, and has no such file system
        assert (status, "no such device" in text) == ("UNKNOWN", True), text
        assert not (folder / "root/u").exists()
    assert (names(channel), mounted(folder)) == ([], [])


@pytest.mark.parametrize("when", ["under the daemon", "while it is away"])
def test_the_root_of_a_task_whose_shim_died_is_taken_away(daemon, folder, when):
    with daemon.channel() as channel:
        id, rootfs = container_with_a_root(channel, folder)
        request = tasks_v1.CreateTaskRequest(container_id=id, rootfs=rootfs)
        status, text, answer = call(channel, tasks_v1.TASKS, "Create", request)
        assert (status, text) == ("OK", "")
        assert len(mounted(folder)) == 2
    shim = int(Path(f"/proc/{answer.pid}/stat").read_text().rpartition(")")[2].split()[1])
    if when == "while it is away":
        daemon.stop(signal.SIGKILL)
    kill(shim)
    if when == "while it is away":
        daemon.start()
    with daemon.channel() as channel:
        wait_until(lambda: not mounted(folder))
        assert names(channel) == []


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_activations_outlive_the_daemon_unless_their_mounts_are_gone(daemon, folder, end):
    with daemon.channel() as channel:
        create_lease(channel, "held")
        activated(channel, "stays", folder, labels={"a": "b"})
        activated(channel, "goes", folder)
        before = info(channel, "stays")[2]
    daemon.stop(end)
    subprocess.run(["umount", f"{folder}/{TARGETS}/2/1"], check=True)  # as after a restart of the machine
    with daemon.start().channel() as channel:
        assert names(channel) == ["stays"]
        assert info(channel, "stays")[2] == before
        collect(channel)
        assert mounted(folder) == ["1/1"]
        assert [path.name for path in Path(folder, TARGETS).iterdir()] == ["1"]
        assert deactivate(channel, "stays")[0] == "OK"
        assert mounted(folder) == []


def check_database(folder: Path, state: str, *flags: str) -> tuple[int, list[str]]:
    """`db check` of the stopped daemon's root: exit status and lines."""
    argv = [ours("pycontainerd"), "--root", f"{folder}/root", "--state", state, "db", "check", *flags]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_db_check_compares_activations_with_what_is_mounted(daemon, folder):
    """Ours alone: containerd has no such command."""
    with daemon.channel() as channel:
        create_lease(channel, "held")
        for name in ("stays", "goes", "forgotten"):
            activated(channel, name, folder)
    daemon.stop()
    targets = f"{folder}/{TARGETS}"
    state = f"{folder}/state"
    sound = (0, ["the metadata agrees with the disk"])
    assert check_database(folder, state) == sound
    subprocess.run(["umount", f"{targets}/2/1"], check=True)  # as after a restart of the machine
    database = f"{folder}/root/io.containerd.metadata.v1.sqlite/meta.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM activations WHERE name='forgotten'")
        connection.execute(
            "INSERT INTO activations SELECT namespace, 'half', 9, lease, labels, NULL, system, created, updated "
            "FROM activations WHERE name='stays'"
        )
    gone = "activation goes of default is not mounted any more"
    half = "activation half of default was not mounted whole"
    # Another state folder may be another daemon's: what is mounted there is none of this root's business.
    assert check_database(folder, f"{folder}/other") == (1, [gone, half, "2 problems left"])
    stray = [f"{targets}/3: no activation has these mounts"]
    assert check_database(folder, state) == (1, [gone, half, *stray, "3 problems left"])
    assert mounted(folder) == ["1/1", "3/1"]
    mended = [
        f"{line} (repaired)" for line in (gone, half, f"{targets}/2: no activation has these mounts", *stray)
    ]
    assert check_database(folder, state, "--repair") == (0, [*mended, sound[1][0]])
    assert check_database(folder, state) == sound
    assert mounted(folder) == ["1/1"]
    with daemon.start().channel() as channel:
        assert names(channel) == ["stays"]
        assert deactivate(channel, "stays")[0] == "OK"


def test_a_file_system_of_a_program_is_its_helpers_to_mount(folder):
    """What containerd's mount package hands to mount.fuse and mount.fuse3; the helper is a stand-in that mounts a tmpfs."""
    (folder / "bin").mkdir()
    for name in ("mount.fuse", "mount.fuse3"):
        helper = folder / "bin" / name
        helper.write_text(
            f"""#!/bin/sh
printf '%s\\n' "$0" "$@" >{folder}/said
case $2 in *"/1") ;; *) echo "no such place: $2" >&2; exit 3;; esac
test "$1" != bad || {{ echo 'no "bad" here' >&2; exit 1; }}
mount -t tmpfs helper "$2"
"""
        )
        helper.chmod(0o755)
    daemon = Daemon(folder, real=False)
    daemon.environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
    with daemon, daemon.start().channel() as channel:
        create_lease(channel, "held")
        wanted = mount("fuse3.nydus-overlayfs", "overlay", "lowerdir=/a:/b", "ro")
        status, text, answer = activate(channel, "a", wanted, temporary=True)
        assert (status, text) == ("OK", "")
        point = f"{folder}/{TARGETS}/1/1"
        said = [
            f"{folder}/bin/mount.fuse3",
            "overlay",
            point,
            "-o",
            "lowerdir=/a:/b",
            "-o",
            "ro",
            "-t",
            "nydus-overlayfs",
        ]
        assert (folder / "said").read_text().splitlines() == said
        assert (mounted(folder), answer.info.active[0].mount) == (["1/1"], wanted)
        assert deactivate(channel, "a")[:2] == ("OK", "")
        bad = mount("fuse.sshfs", "bad")
        status, text, _ = activate(channel, "b", bad, temporary=True)
        point = f"{folder}/{TARGETS}/2/1"
        assert status == "UNKNOWN"
        assert text == (
            f"mount failed {{fuse.sshfs bad  []}}: mount helper [mount.fuse [bad {point} -t sshfs]] failed: "
            '"no \\"bad\\" here\\n": exit status 1'
        )
        assert (folder / "said").read_text().splitlines() == [
            f"{folder}/bin/mount.fuse",
            "bad",
            point,
            "-t",
            "sshfs",
        ]
        assert (names(channel), mounted(folder)) == ([], [])
