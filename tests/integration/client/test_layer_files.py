"""Files read from layers' directories are what the kernel shows of the snapshot when it is mounted."""

from __future__ import annotations

import os

import pytest

from pycontainerd.client import image_spec, layer_files
from pycontainerd.lib.api.light import types
from pycontainerd.lib.errdefs import InvalidArgument, NotFound

PATH = "etc/passwd"


def file(text: str):
    return lambda etc: (etc / "passwd").write_text(text)


def whiteout(etc) -> None:
    os.mknod(etc / "passwd", 0o020000, os.makedev(0, 0))


def opaque(etc) -> None:
    os.setxattr(etc, "trusted.overlay.opaque", b"y")


def link(etc) -> None:
    (etc / "other").write_text("linked")
    (etc / "passwd").symlink_to("other")


def link_out(etc) -> None:
    (etc / "passwd").symlink_to("../../../../../../../../etc/hostname")


def folder_link(etc) -> None:
    etc.rmdir()
    (etc.parent / "real").mkdir()
    (etc.parent / "real/passwd").write_text("behind")
    etc.symlink_to("real")


def no_folder(etc) -> None:
    etc.rmdir()


def folder_is_file(etc) -> None:
    etc.rmdir()
    etc.write_text("no folder")


def fifo(etc) -> None:
    os.mkfifo(etc / "passwd")


def device(etc) -> None:
    os.mknod(etc / "passwd", 0o020000, os.makedev(1, 5))


def nothing(etc) -> None:
    return


BELOW = file("below")
LAYERS = {
    "top wins": (file("top"), BELOW),
    "only below": (nothing, BELOW),
    "below of two": (nothing, no_folder, BELOW),
    "nowhere": (nothing, nothing),
    "removed": (whiteout, BELOW),
    "hidden folder": (opaque, BELOW),
    "hidden folder with its own": (lambda etc: (opaque(etc), file("own")(etc)), BELOW),
    "link": (link, BELOW),
    "link below": (nothing, link),
    "link that leads out": (link_out, BELOW),
    "folder is a link": (folder_link, BELOW),
    "folder is a link below": (no_folder, folder_link),
    "folder is a file": (folder_is_file, BELOW),
    "FIFO": (fifo, BELOW),
}


def snapshot(tmp_path, layers) -> list[types.Mount]:
    folders = []
    for number, make in enumerate(layers):
        folder = tmp_path / str(number)
        (folder / "etc").mkdir(parents=True)
        make(folder / "etc")
        folders.append(str(folder))
    (tmp_path / "work").mkdir()
    options = [f"workdir={tmp_path}/work", f"upperdir={folders[0]}", f"lowerdir={':'.join(folders[1:])}"]
    return [types.Mount(type="overlay", source="overlay", options=options)]


def read(files) -> str:
    with files:
        try:
            return files.read(PATH).decode()
        except NotFound:
            return "(not found)"


@pytest.fixture
def here(tmp_path):
    """A folder on a file system that can be an overlay's upper one."""
    import subprocess

    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_what_the_kernel_shows(here, name) -> None:
    mounts = snapshot(here, LAYERS[name])
    shown = read(image_spec.open_mounts(mounts))
    assert read(layer_files.SnapshotFiles(mounts)) == shown
    assert shown != "below" or name in ("only below", "below of two")


def test_a_device_is_never_opened(here) -> None:
    mounts = snapshot(here, (device, BELOW))
    with layer_files.SnapshotFiles(mounts) as files, pytest.raises(NotFound):
        files.read(PATH)


def test_plain_layers_are_not_mounted(here, monkeypatch) -> None:
    monkeypatch.setattr(image_spec, "open_mounts", None)
    mounts = snapshot(here, (nothing, BELOW))
    assert read(layer_files.SnapshotFiles(mounts)) == "below"
    bind = [types.Mount(type="bind", source=f"{here}/1", options=["rbind", "ro"])]
    assert read(layer_files.SnapshotFiles(bind)) == "below"


def large(etc) -> None:
    with (etc / "passwd").open("wb") as file:
        file.truncate(image_spec.MAX_USER_FILE + 1)


def test_a_file_that_is_too_large_is_refused(here) -> None:
    mounts = snapshot(here, (large, BELOW))
    with layer_files.SnapshotFiles(mounts) as files, pytest.raises(InvalidArgument, match="larger"):
        files.read(PATH)
