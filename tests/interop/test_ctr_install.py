"""`install` and `pprof`: pyctr beside Debian's ctr, on Debian's containerd; what our daemon says of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from support import images, parity
from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

TOOLS: list[images.Entry] = [
    ("bin", "dir", None, 0o755), ("bin/tool", "file", b"#!/bin/sh\necho tool\n", 0o755), ("bin/link", "link", "tool", 0o777),
    ("lib", "dir", None, 0o755), ("lib/libx.so", "file", b"lib", 0o644), ("etc", "dir", None, 0o755),
    ("etc/x", "file", b"x", 0o644),
]  # fmt: skip


@pytest.fixture(scope="module")
def stack(registry: str, tmp_path_factory: pytest.TempPathFactory):
    """Debian's containerd with a debug socket and an image of tools."""
    root = Path(tempfile.mkdtemp(prefix="ci", dir="/tmp"))
    found = Stack(root, kind="real", extra=f'[debug]\n  address = "{root}/debug.sock"\n').start()
    name = f"{registry}/tools/all:1"
    images.push(images.build_layout(tmp_path_factory.mktemp("tools"), contents=[TOOLS]), name)
    found.ctr("image", "pull", name)
    found.tools = name  # type: ignore[attr-defined]
    yield found
    found.clean()
    shutil.rmtree(root)  # noqa: TID251 - the test's own folder


def tree(folder: Path) -> list[tuple[str, int, str]]:
    """Every path with its mode and content."""
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found.append((str(path.relative_to(folder)), mode, content))
    return found


@pytest.mark.parametrize("flags", ["", "--libs", "--replace", "--libs --replace"])
def test_installing_gives_the_same_files(stack: Stack, flags: str) -> None:
    opt = stack.root / "opt"
    trees = {}
    name: str = stack.tools  # type: ignore[attr-defined]
    for program in ("ctr", "pyctr"):
        for old in (*opt.glob("bin/*"), *opt.glob("lib/*")):
            old.unlink()
        (opt / "bin/other").write_text("stays")
        stack.run(program, "install", *flags.split(), name)
        again = stack.run(program, "install", *flags.split(), name, check=False)
        trees[program] = (tree(opt), again.returncode, again.stdout)
        if "replace" not in flags:
            assert again.stderr.startswith("ctr: cannot replace bin/")
            assert again.stderr.endswith(f" in {opt}\n")
    assert trees["pyctr"] == trees["ctr"]
    assert stack.ctr("leases", "ls", "-q").stdout == ""
    assert "install" not in stack.ctr("snapshot", "ls").stdout


def test_installing_elsewhere(stack: Stack, tmp_path: Path) -> None:
    trees = []
    for program in ("ctr", "pyctr"):
        folder = tmp_path / program
        folder.mkdir()
        stack.run(program, "install", "--path", str(folder), stack.tools)  # type: ignore[attr-defined]
        trees.append([(name, content) for name, _, content in tree(folder)])
    assert trees[1] == trees[0]


@pytest.mark.parametrize("step", ["install", "install nosuch", "install --path /nosuch/deep %T"])
def test_errors_of_install(stack: Stack, step: str) -> None:
    parity.compare(stack, [step, "leases ls", "snapshot ls"], {"%T": stack.tools}, lambda: None)  # type: ignore[attr-defined]


def test_our_daemon_finds_what_is_installed(our_stack: Stack, registry: str, tmp_path: Path) -> None:
    shim: list[images.Entry] = [
        ("bin", "dir", None, 0o755),
        ("bin/containerd-shim-installed-v9", "file", b"#!/bin/sh\necho no shim yet >&2; exit 3\n", 0o755),
        ("lib", "dir", None, 0o755),
        ("lib/libx.so", "file", b"lib", 0o644),
    ]
    name = f"{registry}/tools/shim:1"
    images.push(images.build_layout(tmp_path, contents=[shim]), name)
    our_stack.ctr("image", "pull", name)
    run = ("run", "--rm", "--runtime", "io.containerd.installed.v9", name, "in-1", "true")
    assert 'binary not installed "containerd-shim-installed-v9"' in our_stack.ctr(*run, check=False).stderr
    for program in ("ctr", "pyctr"):
        our_stack.run(program, "install", "--libs", "--replace", name)
        assert (our_stack.root / "r/opt/bin/containerd-shim-installed-v9").stat().st_mode & 0o111
        assert (our_stack.root / "r/opt/lib/libx.so").read_bytes() == b"lib"
    assert "no shim yet" in our_stack.ctr(*run, check=False).stderr


def test_a_daemon_without_a_folder_says_so(busybox: str, tmp_path: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="ci", dir="/tmp"))
    stack = Stack(root, kind="ours", extra='disabled_plugins = ["io.containerd.internal.v1.opt"]\n').start()
    try:
        stack.ctr("image", "pull", busybox)
        done = stack.pyctr("install", busybox, check=False)
        assert (done.returncode, done.stderr) == (1, "ctr: opt service not enabled\n")
        stack.pyctr("install", "--path", str(tmp_path), busybox)
        assert (tmp_path / "bin/busybox").stat().st_mode & 0o111
    finally:
        stack.clean()
        shutil.rmtree(root)  # noqa: TID251 - the test's own folder


@pytest.mark.parametrize(
    "words", ["block", "goroutines", "heap", "threadcreate", "profile -s 1s", "trace --seconds 1s"]
)
def test_profiles_of_a_go_daemon(stack: Stack, words: str) -> None:
    import subprocess

    sizes = {}
    for program in ("ctr", "pyctr"):
        command = stack.command(program, "pprof", "-d", f"{stack.root}/debug.sock", *words.split())
        done = subprocess.run(command, env=stack.environment, capture_output=True, check=True)
        sizes[program] = done.stdout[:2]
        assert done.stdout
    assert sizes["pyctr"] == sizes["ctr"]


def test_stacks_as_text(stack: Stack) -> None:
    assert "goroutine 1 [" in stack.pyctr("pprof", "-d", f"{stack.root}/debug.sock", "goroutines").stdout
    shown = stack.pyctr("pprof", "-d", f"{stack.root}/debug.sock", "heap", "--debug", "1").stdout
    assert shown.startswith("heap profile:")


@pytest.mark.parametrize("words", ["block", "goroutines", "profile", "trace -s 2s"])
def test_without_a_socket(stack: Stack, words: str) -> None:
    parity.compare(stack, [f"pprof -d /nosuch {words}"], {}, lambda: None)
