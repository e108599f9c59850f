"""Users of images: names and numbers from files that nobody vouches for (I05, I12)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pycontainerd.client import image_spec, spec_opts
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, NotFound

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n-1:x:0:0::/:/bin/sh\nbig:x:4294967296:0::/:/\nbroken\n",
    "etc/group": b"root:x:0:\nwww:x:33:other,web\nweb:x:1001:web\nadm:x:4:root,web\n",
}


def read_file(path: str) -> bytes:
    if path not in FILES:
        raise NotFound(path)
    return FILES[path]


def user_of(text: str) -> dict[str, object]:
    spec = image_spec.with_user(spec_opts.default_spec("n", "i"), text, read_file)
    spec = image_spec.with_additional_gids(spec, str(spec["process"]["user"]["uid"]), read_file)
    return dict(spec["process"]["user"])


@pytest.mark.parametrize(
    ("text", "uid", "gid", "extra"),
    [
        ("web", 1000, 1001, [1001, 33, 4]),
        ("1000", 1000, 1001, [1001, 33, 4]),
        ("web:www", 1000, 33, [33, 4]),
        ("1000:33", 1000, 33, [33, 4]),
        ("7:8", 7, 8, [8]),
        ("7", 7, 0, [0]),
        ("root", 0, 0, [0, 4]),
    ],
)
def test_users(text: str, uid: int, gid: int, extra: list[int]) -> None:
    assert user_of(text) == {"uid": uid, "gid": gid, "additionalGids": extra}


@pytest.mark.parametrize(
    "text",
    ["4294967296", "4294967295", "-1", "1_0", " 0", "\u0660", "+0", "0x0", "0:4294967296", "nosuch", "web:nosuch", "big", "", ":0", "web:-1", "1e3"],
)  # fmt: skip
def test_i12_what_is_no_user_is_refused(text: str) -> None:
    with pytest.raises(ContainerdError):
        user_of(text)


def test_an_image_without_users_runs_as_numbers() -> None:
    def nothing(path: str) -> bytes:
        raise NotFound(path)

    spec = image_spec.with_user(spec_opts.default_spec("n", "i"), "5", nothing)
    assert spec["process"]["user"] == {"uid": 5, "gid": 0, "additionalGids": [0]}


def test_files_of_an_image_never_lead_to_the_host(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("root:x:0:0::/:/\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").symlink_to(tmp_path / "outside")
    os.mkfifo(root / "etc/group")
    with image_spec.open_folder(str(root)) as files:
        for name in ("etc/passwd", "etc/group", "etc/nosuch", "etc"):
            with pytest.raises(NotFound):
                files.read(name)


def test_i05_a_huge_user_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with (tmp_path / "etc/group").open("wb") as file:
        file.truncate(2 << 30)
    with image_spec.open_folder(str(tmp_path)) as files, pytest.raises(InvalidArgument, match="larger"):
        files.read("etc/group")
