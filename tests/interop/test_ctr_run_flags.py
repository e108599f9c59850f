"""Flags of `run` and `import` that change more than the record: id maps, GPUs, layers that aren't kept; beside Debian's ctr."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import images
from support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

NVIDIA = '#!/bin/sh\nprintf \'%s \' "$@" > "$(dirname "$0")/asked"\n'
OWNERS: list[images.Entry] = [
    ("home", "dir", None, 0o755, 7, 8), ("home/x", "file", b"x", 0o4755, 7, 8), ("home/link", "link", "/etc", 0o777, 7, 8),
    ("home/tmp", "dir", None, 0o1777, 0, 0),
]  # fmt: skip


@pytest.fixture(params=["ours", "real"])
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A daemon of each kind whose folder a user namespace may pass through."""
    root = Path(tempfile.mkdtemp(prefix="rf", dir="/tmp"))
    root.chmod(0o711)
    found = Stack(root / "d", kind=request.param).start()
    # NVIDIA's program would run where the daemon is: the hook is the runtime's.
    tools = root / "tools"
    tools.mkdir()
    (tools / "nvidia-container-cli").write_text(NVIDIA)
    (tools / "nvidia-container-cli").chmod(0o755)
    found.tools = tools  # type: ignore[attr-defined]
    yield found
    found.clean()
    shutil.rmtree(root)  # noqa: TID251 - the test's own folder


@pytest.fixture(scope="module")
def owners(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """busybox with files of other owners, one of them setuid."""
    name = f"{registry}/library/owners:1"
    layout = images.build_layout(
        tmp_path_factory.mktemp("owners"), contents=[images.busybox_entries(), OWNERS]
    )
    images.push(layout, name)
    return name


MAPS = ("--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536")
SHOW = "id -u; stat -c '%n %u %g %a' / /bin/busybox /home /home/x /home/tmp; stat -c '%u %g' /home/link; cat /proc/self/uid_map"


def test_an_image_is_copied_for_its_user_namespace(stack: Stack, owners: str) -> None:
    stack.ctr("image", "pull", "--plain-http", owners)
    temporary = stack.root / "tmp"
    temporary.mkdir()
    stack.environment["TMPDIR"] = str(temporary)
    ours = stack.pyctr("run", "--rm", *MAPS, owners, "m-1", "sh", "-c", SHOW).stdout.splitlines()
    assert ours[0] == "0"
    assert ours[1:5] == ["/ 0 0 755", "/bin/busybox 0 0 755", "/home 7 8 755", "/home/x 7 8 4755"]
    assert ours[-1].split() == ["0", "100000", "65536"]
    real = stack.ctr("run", "--rm", *MAPS, owners, "m-2", "sh", "-c", SHOW).stdout.splitlines()
    # ctr 1.6 loses setuid on the way, unless it finds our copy; what containerd 2 keeps is kept here.
    assert [line.replace(" 4755", " 755") for line in real] == [
        line.replace(" 4755", " 755") for line in ours
    ]
    assert [line for line in stack.ctr("snapshot", "ls").stdout.splitlines() if "remap" in line] == []
    assert os.listdir(temporary) == []


def test_the_copy_is_made_once_and_has_ctrs_name(stack: Stack, owners: str) -> None:
    stack.ctr("image", "pull", "--plain-http", owners)
    seen = {}
    for program in ("ctr", "pyctr"):
        stack.run(program, "run", "-d", *MAPS, owners, "m-1", "sleep", "100")
        stack.run(program, "run", "-d", *MAPS, owners, "m-2", "sleep", "100")
        seen[program] = sorted(line.split() for line in stack.ctr("snapshot", "ls").stdout.splitlines())
        for name in ("m-1", "m-2"):
            stack.ctr("task", "rm", "-f", name)
            stack.ctr("container", "rm", name)
        copy = next(row[0] for row in seen[program] if row[0].endswith("-100000-200000"))
        stack.ctr("snapshot", "rm", copy, check=False)  # the collector may have been faster
    assert seen["pyctr"] == seen["ctr"]


def test_an_owner_outside_the_maps_leaves_nothing(stack: Stack, owners: str) -> None:
    stack.ctr("image", "pull", "--plain-http", owners)
    before = stack.ctr("snapshot", "ls").stdout
    small = ("--uidmap", "0:100000:3", "--gidmap", "0:200000:65536")
    done = stack.pyctr("run", "--rm", *small, owners, "m-3", "true", check=False)
    assert done.returncode == 1
    assert "/home: uid 7 of the image is in no range of the uid map" in done.stderr
    assert stack.ctr("snapshot", "ls").stdout == before
    assert stack.ctr("container", "ls", "-q").stdout == ""


def test_gpus_are_nvidias_hook(stack: Stack, busybox: str) -> None:
    stack.ctr("image", "pull", "--plain-http", busybox)
    run = ("run", "--rm", "--gpus", "0", busybox, "g-1", "true")
    real = stack.ctr(*run, check=False)
    stack.ctr("snapshot", "rm", "g-1", check=False)  # ctr 1.6 leaves it
    ours = stack.pyctr(*run, check=False)
    assert (ours.returncode, ours.stderr) == (real.returncode, real.stderr)
    stack.environment["PATH"] = f"{stack.tools}:{stack.environment['PATH']}"  # type: ignore[attr-defined]
    hooks = {}
    for program in ("ctr", "pyctr"):
        stack.run(program, "container", "create", "--gpus", "0", "--gpus", "2", busybox, "g-1", "true")
        spec = json.loads(stack.ctr("container", "info", "--spec", "g-1").stdout)
        (hooks[program],) = spec["hooks"]["prestart"]
        # The shell of our launcher and Python add these two.
        added = ("PWD=", "LC_CTYPE=")
        hooks[program]["env"] = sorted(one for one in hooks[program]["env"] if not one.startswith(added))
        stack.ctr("container", "rm", "g-1")
    assert hooks["pyctr"] == hooks["ctr"]


def test_the_hook_runs_with_the_containers_pid(stack: Stack, busybox: str) -> None:
    stack.ctr("image", "pull", "--plain-http", busybox)
    stack.environment["PATH"] = f"{stack.tools}:{stack.environment['PATH']}"  # type: ignore[attr-defined]
    stack.pyctr("run", "--rm", "--gpus", "1", busybox, "g-2", "true")
    asked = (stack.tools / "asked").read_text().split()  # type: ignore[attr-defined]
    assert asked[:3] == ["--load-kmods", "configure", "--device=1"]
    assert asked[-2].startswith("--pid=")
    assert asked[-2].removeprefix("--pid=").isdigit()
    assert asked[-1].endswith("/rootfs")


def test_layers_that_are_unpacked_need_not_be_kept(stack: Stack, busybox: str, tmp_path: Path) -> None:
    stack.ctr("image", "pull", "--plain-http", busybox)
    stack.ctr("image", "export", str(tmp_path / "a.tar"), busybox)
    stack.ctr("image", "rm", "--sync", busybox)
    stack.pyctr(
        "image", "import", "--discard-unpacked-layers", "--label", "a=b", "--sync-fs", str(tmp_path / "a.tar")
    )
    stack.ctr("content", "prune", "references")  # ends with a collection
    media = stack.pyctr("image", "inspect", busybox).stdout
    layers = [
        word[1:]
        for line in media.splitlines()
        if ".layer." in line
        for word in line.split()
        if word[0] == "@"
    ]
    kept = stack.ctr("content", "ls", "-q").stdout.split()
    assert layers
    assert not set(layers) & set(kept)
    assert "a=b" in stack.ctr("image", "ls").stdout
    assert stack.ctr("run", "--rm", busybox, "i-1", "echo", "hi").stdout == "hi\n"


def test_import_and_export_show_how_far_they_are_on_a_terminal_only(
    stack: Stack, registry: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from support.screen import Screen

    name = f"{registry}/library/large:1"
    noise = [("noise", "file", os.urandom(24 << 20), 0o644)]
    images.push(images.build_layout(tmp_path_factory.mktemp("large"), contents=[noise]), name)
    stack.ctr("image", "pull", "--plain-http", name)
    archive = str(tmp_path / "a.tar")
    steps = [("exporting", ("export", archive, name)), ("importing", ("import", archive))]
    if stack.kind == "ours":
        steps += [(verb, (words[0], "--local=false", *words[1:])) for verb, words in steps]
    for verb, arguments in steps:
        quiet = stack.pyctr("image", *arguments)
        assert verb not in quiet.stdout + quiet.stderr
        screen = Screen(stack.command("pyctr", "image", *arguments), stack.environment)
        try:
            assert screen.wait() == 0, screen.text
        finally:
            screen.close()
        assert f"\r\x1b[K{verb}: |\x1b[32m" in screen.text
        assert "B/24.0 MiB (" in screen.text
        last = screen.text.rpartition("\x1b[K")[2]
        assert verb not in last  # the line is taken away
