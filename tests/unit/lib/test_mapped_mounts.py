"""Mounts with uidmap= and gidmap=: their owners, their layers, and nothing left when they fail."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from pycontainerd.lib import errdefs, mapped_mounts, mounts
from pycontainerd.lib.api.light import types
from pycontainerd.lib.linux import idmap
from support import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAPS = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"]
as_root = pytest.mark.requires("root", "userns", "overlayfs")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0:1000:1", [(0, 1000, 1)]),
        ("0:1000:10,10:5000:3", [(0, 1000, 10), (10, 5000, 3)]),
        ("+1:2:3", [(1, 2, 3)]),
    ],
)
def test_maps(text: str, rows: list[tuple[int, int, int]]) -> None:
    assert mapped_mounts.parse_maps(text) == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0:1", "user namespace mappings require the format `container-id:host-id:size`"),
        ("0:1:2,", "user namespace mappings require the format `container-id:host-id:size`"),
        ("x:1:2", 'invalid container id for user namespace remapping, strconv.Atoi: parsing "x": invalid syntax'),
        ("0: 1:2", 'invalid host id for user namespace remapping, strconv.Atoi: parsing " 1": invalid syntax'),
        ("0:1:1_0", 'invalid size for user namespace remapping, strconv.Atoi: parsing "1_0": invalid syntax'),
        ("0:-1:2", "invalid mapping 0:-1:2, all IDs and size must be positive integers"),
    ],
)  # fmt: skip
def test_what_is_no_map_is_refused_in_containerds_words(text: str, words: str) -> None:
    with pytest.raises(errdefs.Unknown) as caught:
        mapped_mounts.parse_maps(text)
    assert str(caught.value) == words


def test_one_map_without_the_other_is_refused() -> None:
    with pytest.raises(errdefs.InvalidArgument, match="uidmap and gidmap go together"):
        mapped_mounts.split_options(["ro", "uidmap=0:1:1"])
    assert mapped_mounts.split_options(["ro", *MAPS, "rbind"]) == (
        ["ro", "rbind"],
        "0:100000:65536",
        "0:200000:65536",
    )


@pytest.fixture
def folder(short_tmp: Path) -> Iterator[Path]:
    """Two layers, one of them with a file of other ids, and what an overlay of them needs."""
    short_tmp.chmod(0o711)  # others come by
    for name in ("one", "two", "upper", "work", "merged"):
        (short_tmp / name).mkdir()
    (short_tmp / "one" / "root").write_text("1")
    (short_tmp / "two" / "seven").write_text("2")
    os.chown(short_tmp / "two" / "seven", 7, 8)
    (short_tmp / "two" / "beyond").write_text("3")
    os.chown(short_tmp / "two" / "beyond", 70000, 70000)
    os.chown(short_tmp / "upper", 100000, 200000)
    before = mounts.mount_points()
    yield short_tmp
    mounts.unmount_recursive(str(short_tmp / "merged"))
    assert mounts.mount_points() == before


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def overlay(folder: Path, *more: str) -> types.Mount:
    options = [
        *MAPS,
        f"workdir={folder}/work",
        f"upperdir={folder}/upper",
        f"lowerdir={folder}/one:{folder}/two",
    ]
    return types.Mount(type="overlay", source="overlay", options=[*options, *more])


@as_root
def test_an_overlays_layers_are_mapped_and_its_upper_directory_is_not(folder: Path) -> None:
    merged = folder / "merged"
    mounts.attach([overlay(folder)], str(merged))
    assert owner(merged) == (100000, 200000)
    assert owner(merged / "root") == (100000, 200000)
    assert owner(merged / "seven") == (100007, 200008)
    assert owner(merged / "beyond") == (65534, 65534)
    with (merged / "seven").open("a") as f:
        f.write("+")
    (merged / "new").write_text("x")
    # What was copied up keeps the owner it was shown with; the layer below is as it was.
    assert owner(folder / "upper" / "seven") == (100007, 200008)
    assert owner(folder / "upper" / "new") == (0, 0)
    assert owner(folder / "two" / "seven") == (7, 8)
    assert (folder / "two" / "seven").read_text() == "2"


@as_root
def test_the_mount_table_names_the_real_layers(folder: Path) -> None:
    mounts.attach([overlay(folder)], f"{folder}/merged")
    with open("/proc/self/mountinfo") as f:
        (line,) = (line for line in f if f" {folder}/merged " in line)
    assert f"lowerdir={folder}/one:{folder}/two," in line


@as_root
@pytest.mark.parametrize("read_only", [True, False])
def test_a_bind_is_mapped(folder: Path, read_only: bool) -> None:
    options = [*MAPS, "rbind", "ro" if read_only else "rw"]
    mounts.attach([types.Mount(type="bind", source=f"{folder}/two", options=options)], f"{folder}/merged")
    assert owner(folder / "merged" / "seven") == (100007, 200008)
    pid = os.fork()  # noqa: TID251 - a child that becomes somebody else
    if not pid:
        os.setgid(200008)
        os.setuid(100007)
        try:
            (folder / "merged" / "seven").write_text("mine")
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == (errno.EROFS if read_only else 0)
    assert len([point for point in mounts.mount_points() if point == f"{folder}/merged"]) == 1


@as_root
def test_any_file_system_that_takes_maps_is_mapped(folder: Path) -> None:
    wanted = types.Mount(type="tmpfs", source="tmpfs", options=[*MAPS, "size=1m", "nosuid"])
    code: int | None = 0
    try:
        mounts.attach([wanted], f"{folder}/merged")
    except OSError as error:
        code = error.errno
    # A tmpfs takes no id mapping before Linux 6.3.
    assert code == errno.EINVAL or owner(folder / "merged") == (100000, 200000)


@as_root
def test_more_layers_than_a_page_of_options_holds(folder: Path) -> None:
    layers = []
    for number in range(52):
        layer = folder / f"a-rather-long-name-of-a-layer-{number:032}"
        layer.mkdir()
        (layer / f"from-{number}").write_text("")
        layers.append(str(layer))
    options = [*MAPS, f"workdir={folder}/work", f"upperdir={folder}/upper", "lowerdir=" + ":".join(layers)]
    assert len(",".join(options)) > 4096
    before = os.getcwd()
    mounts.attach([types.Mount(type="overlay", source="overlay", options=options)], f"{folder}/merged")
    assert os.getcwd() == before
    names = sorted((folder / "merged").iterdir())
    assert (len(names), {owner(name) for name in names}) == (52, {(100000, 200000)})


@as_root
@pytest.mark.parametrize(
    "change",
    [
        ("overlay", [*MAPS, "lowerdir=/nope/a:/nope/b"], errno.ENOENT),
        ("overlay", [*MAPS, "lowerdir={0}/one:{0}/two", "nosuchoption=1"], errno.EINVAL),
        ("bind", [*MAPS, "rbind"], errno.ENOENT),
        ("overlay", ["uidmap=0:1:0", "gidmap=0:1:1", "lowerdir={0}/one:{0}/two"], errno.EINVAL),
        ("overlay", ["uidmap=0:1:9,5:20:9", "gidmap=0:1:1", "lowerdir={0}/one:{0}/two"], errno.EINVAL),
    ],
)
def test_what_fails_leaves_nothing(folder: Path, change: tuple[str, list[str], int]) -> None:
    kind, options, number = change
    wanted = [option.format(folder) for option in options]
    before = set(os.listdir("/proc/self/fd")), leaks.children()
    with pytest.raises(OSError) as caught:
        mounts.attach([types.Mount(type=kind, source="/nope/source", options=wanted)], f"{folder}/merged")
    assert caught.value.errno == number
    # No process of a namespace either, nor the thread.
    assert (set(os.listdir("/proc/self/fd")), leaks.children()) == before
    assert "mapped-mount" not in {thread.name for thread in threading.enumerate()}


@as_root
def test_an_overlay_without_layers_has_none_to_map(folder: Path) -> None:
    with pytest.raises(errdefs.Unknown, match="failed to parse overlay lowerdir's from given options"):
        mounts.attach([types.Mount(type="overlay", source="overlay", options=MAPS)], f"{folder}/merged")


@as_root
def test_a_namespace_of_maps_has_nobody_in_it() -> None:
    before = leaks.children()
    fd = idmap.user_namespace([(0, 1000, 5)], [(0, 2000, 5)])
    try:
        assert os.readlink(f"/proc/self/fd/{fd}").startswith("user:[")
        assert os.readlink(f"/proc/self/fd/{fd}") != os.readlink("/proc/self/ns/user")
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
    assert leaks.children() == before
