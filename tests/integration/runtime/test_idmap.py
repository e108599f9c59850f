"""Id-mapped mounts; steps and expected numbers are those of runc 1.5's own tests (idmap.bats), for runc 1.1 has none.

Spec: runtime-spec config.md#posix-platform-mounts
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from support.runtime import ours_only

pytestmark = [
    pytest.mark.requires("root", "userns"),
    ours_only("id-mapped mounts"),
]

OVERFLOW = "65534:65534"
UIDS = [(100, 1000, 3), (200, 2000, 3), (300, 3000, 3)]
GIDS = [(210, 1100, 10), (220, 2200, 10), (230, 3300, 10)]


def mappings(rows, shift=0):
    return [{"containerID": inside, "hostID": host + shift, "size": size} for inside, host, size in rows]


def tree(folder, owners):
    """A folder of foo, bar and baz, each with its owner and group."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (uid, gid) in zip(("foo", "bar", "baz"), owners, strict=True):
        (folder / name).write_text(name)
        os.chown(folder / name, uid, gid)
    return folder


@pytest.fixture
def source(short_tmp):
    """A tree with another one mounted in it."""
    top = tree(short_tmp / "tree", [(100, 211), (200, 222), (300, 233)])
    inner = tree(short_tmp / "inner", [(100, 211), (101, 222), (102, 233)])
    (top / "inner").mkdir()
    subprocess.run(["mount", "--bind", inner, top / "inner"], check=True)
    yield top
    subprocess.run(["umount", top / "inner"], check=True)


def add(bundle, source, *options, uids=None, gids=None, destination="/mnt", fstype=""):
    entry = {"destination": destination, "source": str(source), "options": list(options)}
    if fstype:
        entry["type"] = fstype
    if uids is not None:
        entry["uidMappings"] = uids
    if gids is not None:
        entry["gidMappings"] = gids
    bundle.spec["mounts"].append(entry)


SHOW = "cd /mnt; for f in foo bar baz inner/foo inner/bar inner/baz; do stat -c %u:%g $f; done"


def owners(runtime, bundle):
    done = runtime.run(bundle.sh(SHOW).build())
    assert done.code == 0, done
    return done.out.split()


OUTER = ["1000:1101", "2000:2202", "3000:3303"]
INNER = ["100:211", "101:222", "102:233"]


@pytest.mark.parametrize("options", [["rbind"], ["rbind", "idmap"]])
def test_one_mount(runtime, bundle, source, options):
    add(bundle, source, *options, uids=mappings(UIDS), gids=mappings(GIDS))
    assert owners(runtime, bundle) == [*OUTER, *INNER]


def test_a_tree_of_mounts(runtime, bundle, source):
    add(bundle, source, "rbind", "ridmap", uids=mappings(UIDS), gids=mappings(GIDS))
    assert owners(runtime, bundle) == [*OUTER, "1000:1101", "1001:2202", "1002:3303"]


def test_in_a_user_namespace(runtime, bundle, source):
    bundle.with_userns()
    shifted = {"uids": mappings(UIDS, 100000), "gids": mappings(GIDS, 100000)}
    add(bundle, source, "rbind", **shifted)
    assert owners(runtime, bundle) == [*OUTER, *[OVERFLOW] * 3]


def test_the_container_s_own_mapping_is_the_default(runtime, bundle, source):
    bundle.with_userns()
    add(bundle, source, "rbind", "ridmap")
    assert owners(runtime, bundle) == ["100:211", "200:222", "300:233", *INNER]


def test_the_mapping_of_a_joined_user_namespace(runtime, bundle, source):
    bundle.with_userns().args("sleep", "100")
    runtime.start_detached(bundle.build(), "first")
    bundle.with_namespace("user", f"/proc/{runtime.pid('first')}/ns/user")
    bundle.without_namespace("pid")
    for key in ("uidMappings", "gidMappings"):
        del bundle.linux[key]
    bundle.linux["cgroupsPath"] += "-second"
    bundle.spec["mounts"] = [entry for entry in bundle.spec["mounts"] if entry["destination"] != "/proc"]
    add(bundle, "/proc", "rbind", destination="/proc")
    add(bundle, source, "rbind", "idmap")
    assert owners(runtime, bundle) == ["100:211", "200:222", "300:233", *[OVERFLOW] * 3]


def test_a_file_made_in_it_belongs_to_the_mapped_user_on_the_host(runtime, bundle, short_tmp):
    folder = short_tmp / "out"
    folder.mkdir()
    os.chown(folder, 5000, 5000)
    one = [{"containerID": 5000, "hostID": 0, "size": 1}]
    add(bundle, folder, "bind", uids=one, gids=one)
    done = runtime.run(bundle.sh("echo x > /mnt/file; stat -c %u:%g /mnt/file").build())
    assert (done.code, done.out) == (0, "0:0\n")
    made = (folder / "file").stat()
    assert (made.st_uid, made.st_gid) == (5000, 5000)


def test_it_can_be_read_only_and_a_file(runtime, bundle, short_tmp):
    path = short_tmp / "file"
    path.write_text("text\n")
    one = [{"containerID": 0, "hostID": 7, "size": 1}]
    add(bundle, path, "bind", "ro", uids=one, gids=one, destination="/mnt/file")
    done = runtime.run(bundle.sh("stat -c %u:%g /mnt/file; cat /mnt/file; echo x > /mnt/file").build())
    assert done.out == "7:7\ntext\n"
    assert "Read-only file system" in done.err


ONE = [{"containerID": 0, "hostID": 1, "size": 1}]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            {"type": "tmpfs", "source": "tmpfs", "uidMappings": ONE, "gidMappings": ONE},
            "only supported for bind",
        ),
        ({"source": "/tmp", "options": ["bind"], "uidMappings": ONE}, "must have both uid and gid mappings"),
        ({"source": "/tmp", "options": ["bind", "idmap"]}, "must have both uid and gid mappings specified"),
        ({"source": "/tmp", "options": ["bind"], "uidMappings": [], "gidMappings": []}, "must have both"),
    ],
)
def test_refused_before_anything_is_made(runtime, bundle, entry, text):
    bundle.spec["mounts"].append({"destination": "/mnt", **entry})
    at = len(bundle.spec["mounts"]) - 1
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert f"mounts[{at}]: id-mapped mounts" in done.err
    assert text in done.err
    assert not (runtime.root / "c").exists()


def test_a_filesystem_that_cannot_is_named(runtime, bundle):
    add(bundle, "/proc", "bind", uids=ONE, gids=ONE)
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert (
        'error mounting \\"/proc\\" to rootfs at \\"/mnt\\": failed to set MOUNT_ATTR_IDMAP on /proc'
        in done.err
    )
    assert "maybe the filesystem used doesn't support idmap mounts on this kernel?" in done.err
    assert runtime.ok("list", "-q").out == ""


def test_the_state_holds_it_in_runcs_words(runtime, bundle, source):
    add(bundle, source, "rbind", "ridmap", uids=ONE, gids=ONE)
    runtime.create(bundle.args("true").build())
    stored = json.loads((runtime.root / "c/state.json").read_text())["config"]["mounts"][-1]
    one = {"container_id": 0, "host_id": 1, "size": 1}
    assert stored["id_mapping"] == {"recursive": True, "uid_mappings": [one], "gid_mappings": [one]}
    assert stored["extensions"] == 0
