"""What overlayfs is mounted with where the daemon isn't the host's root, and what it says it can there."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pycontainerd.daemon.plugins import overlay_checks

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.requires("root", "userns", "overlayfs")

INSIDE = """
import json, subprocess, sys
sys.path[:] = {path!r}
from pycontainerd.daemon.plugins import overlay_checks
if {tmpfs}:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", {root!r}], check=True)
print(json.dumps([overlay_checks.base_options({root!r}, ()), overlay_checks.maps_ids({root!r})]))
"""


def inside(root: Path, *, tmpfs: bool) -> tuple[list[str], bool]:
    """Options and whether ids can be mapped, in a user namespace whose root is this one's."""
    code = INSIDE.format(path=sys.path, root=str(root), tmpfs=tmpfs)
    argv = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", code]
    options, maps_ids = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    return options, maps_ids


def test_marks_are_user_attributes_inside_a_user_namespace(short_tmp: Path) -> None:
    options, maps_ids = inside(short_tmp, tmpfs=False)
    assert options[-1:] == ["userxattr"]
    assert not maps_ids, "the file system is the host's"
    assert list(short_tmp.iterdir()) == []


def test_a_tmpfs_has_no_user_attributes_for_them(short_tmp: Path) -> None:
    assert "userxattr" not in inside(short_tmp, tmpfs=True)[0]


def test_the_hosts_root_needs_none_of_it(short_tmp: Path) -> None:
    assert "userxattr" not in overlay_checks.base_options(str(short_tmp), ())
    assert overlay_checks.is_initial_user_namespace()


@pytest.mark.parametrize("configured", [["userxattr"], ["index=on", "userxattr"], ["index=off"]])
def test_what_is_configured_is_not_said_twice(short_tmp: Path, configured: list[str]) -> None:
    options = overlay_checks.base_options(str(short_tmp), configured)
    assert list(options[: len(configured)]) == configured
    keys = [option.partition("=")[0] for option in options]
    assert len(keys) == len(set(keys))
