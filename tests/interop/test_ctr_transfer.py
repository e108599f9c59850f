"""pyctr's pulls, pushes, imports, exports and tags by the daemon (--local=false); Debian's ctr looks at what they leave.

No Debian peer has the transfer service: the messages are held by interop/test_transfer.py, the text by facts of
containerd 2's ctr.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from support import images
from support.screen import Screen
from support.stack import has_what_came_with_1_7

if TYPE_CHECKING:
    from pathlib import Path

    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

FULL = "|" + "+" * 38 + "|"


@pytest.fixture
def stack(our_stack: Stack):
    yield our_stack
    for name in our_stack.ctr("image", "ls", "-q").stdout.split():
        our_stack.ctr("image", "rm", "--sync", name)


def digest_of(stack: Stack, name: str) -> str:
    return next(
        line.split()[2]
        for line in stack.ctr("image", "ls").stdout.splitlines()
        if line.startswith(f"{name} ")
    )


def test_a_pull_stores_unpacks_and_shows_the_tree_once(stack: Stack, busybox: str) -> None:
    done = stack.pyctr("image", "pull", "--local=false", "--plain-http", "--label", "a=b", busybox)
    lines = done.stdout.splitlines()
    assert lines[0].split() == [busybox[:40], "saved"]
    kinds = [re.sub(r"[^a-z]", "", line.split(" (")[0]) for line in lines[1:-2]]
    assert kinds == ["index", "manifest", "config", "layer", "layer"]
    assert all(line.endswith(f"\tcomplete   \t{FULL}\t") for line in lines[1:-2])
    assert lines[2].startswith("   └──manifest (")
    assert lines[3].startswith("      ├──config (")
    digest = digest_of(stack, busybox)
    assert lines[-2] == f"application/vnd.oci.image.index.v1+json {digest}"
    assert re.fullmatch(
        rf"Completed pull from OCI Registry \({re.escape(busybox)}\)\telapsed: \S+ *s\ttotal: +[0-9.]+ \S+\t\(.*/s\)\t",
        lines[-1],
    )
    assert "a=b" in stack.ctr("image", "ls").stdout
    assert stack.ctr("image", "check", "-q").stdout == f"{busybox}\n"
    assert stack.ctr("run", "--rm", busybox, "tr-1", "echo", "hi").stdout == "hi\n"


def test_on_a_terminal_the_tree_is_redrawn(stack: Stack, busybox: str) -> None:
    argv = stack.command("pyctr", "image", "pull", "--local=false", "--plain-http", busybox)
    screen = Screen(argv, stack.environment)
    assert screen.wait() == 0
    screen.close()
    assert "\x1b[32m+" in screen.text
    assert re.search(r"total: [0-9.]+ \S*B/[0-9.]+ MiB\t\(", screen.text)  # of how much: for eyes only
    assert "A\x1b[J" in screen.text
    assert screen.text.count("Completed pull from") <= 3


def test_documents_of_other_platforms_come_when_they_are_wanted(stack: Stack, busybox: str) -> None:
    stack.pyctr("image", "pull", "--local=false", "--plain-http", busybox)
    few = len(stack.ctr("content", "ls", "-q").stdout.split())
    stack.pyctr("image", "pull", "--local=false", "--plain-http", "--skip-metadata=false", busybox)
    more = len(stack.ctr("content", "ls", "-q").stdout.split())
    assert more == few + 2  # the other manifest and its config
    stack.pyctr("image", "pull", "--skip-metadata=false", busybox)
    assert len(stack.ctr("content", "ls", "-q").stdout.split()) == more


def test_an_image_goes_out_and_comes_back(stack: Stack, busybox: str, registry: str, tmp_path: Path) -> None:
    stack.ctr("image", "pull", "--all-platforms", "--plain-http", busybox)
    digest = digest_of(stack, busybox)
    archive = tmp_path / "a.tar"
    done = stack.pyctr("image", "export", "--local=false", str(archive), busybox)
    assert done.stdout.startswith("Completed export\telapsed: ")
    listed = subprocess.run(["tar", "-tf", archive], capture_output=True, text=True, check=True).stdout
    assert {"index.json", "oci-layout", "manifest.json"} <= set(listed.split())
    piped = subprocess.run(
        stack.command("pyctr", "image", "export", "--local=false", "-", busybox),
        env=stack.environment, capture_output=True, check=True,
    )  # fmt: skip
    assert piped.stdout == archive.read_bytes()
    pushed = stack.pyctr(
        "image", "push", "--local=false", "--plain-http", f"{registry}/tr/copy:1", busybox
    ).stdout
    assert f"Completed push to OCI Registry ({registry}/tr/copy:1)" in pushed
    stack.ctr("image", "rm", "--sync", busybox)
    stack.pyctr("image", "import", "--local=false", "--label", "from=archive", str(archive))
    assert digest_of(stack, busybox) == digest
    assert "from=archive" in stack.ctr("image", "ls").stdout
    assert stack.ctr("image", "check", "-q").stdout == f"{busybox}\n"
    stack.ctr("image", "pull", "--plain-http", f"{registry}/tr/copy:1")
    assert digest_of(stack, f"{registry}/tr/copy:1") == digest


def test_a_name_is_given_and_taken(stack: Stack, busybox: str) -> None:
    stack.ctr("image", "pull", "--plain-http", busybox)
    done = stack.pyctr("image", "tag", "--local=false", busybox, "tr.example/a:1", "tr.example/b:1")
    assert done.stdout == "tr.example/a:1\ntr.example/b:1\n"
    assert digest_of(stack, "tr.example/b:1") == digest_of(stack, busybox)
    stack.pyctr("image", "tag", "--local=false", busybox, "tr.example/a:1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pull --local=false -k %B", '"--skip-verify" requires "--local" flag'),
        ("pull --local=false --print-chainid %B", '"--print-chainid" requires "--local" flag'),
        ("push --local=false --manifest-type x %B", '"--manifest-type" requires "--local" flag'),
        ("import --local=false --discard-unpacked-layers /dev/null", '"--discard-unpacked-layers" requires "--local" flag'),
        ("pull --local=false --platform linux/amd64 --all-platforms %B", "cannot specify both --platform and --all-platforms"),
        ("push --local=false %B", 'image "%B": not found'),
        ("tag --local=false tr.example/none:1 tr.example/b:1", 'image "tr.example/none:1": not found'),
        ("tag --skip-reference-check=false a B@@", 'error parsing reference: "B@@" is not a valid repository/tag'),
        ("import --skip-digest-for-named /dev/null", "--skip-digest-for-named must be specified with --digests option"),
        ("import --no-unpack --discard-unpacked-layers /dev/null", "--discard-unpacked-layers and --no-unpack are incompatible options"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(stack: Stack, busybox: str, words: str, said: str) -> None:
    done = stack.pyctr("image", *words.replace("%B", busybox).split(), check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ctr: {said.replace('%B', busybox)}")


@pytest.mark.parametrize("words", ["pull %B", "push %B", "tag %B x:1", "export %T/never.tar %B"])
def test_a_daemon_without_the_service_says_so(
    real_stack: Stack, busybox: str, words: str, tmp_path: Path
) -> None:
    real_stack.ctr("image", "pull", "--plain-http", busybox)
    verb, *rest = words.replace("%B", busybox).replace("%T", str(tmp_path)).split()
    done = real_stack.pyctr("image", verb, "--local=false", *rest, check=False)
    said = done.stderr.startswith(
        "ctr: the daemon can't transfer images by itself: unknown service containerd.services."
    )
    assert said == (not has_what_came_with_1_7(real_stack))
    assert not said or (done.returncode, list(tmp_path.iterdir())) == (1, [])


def test_credentials_are_given_when_the_daemon_asks(stack: Stack, tmp_path: Path) -> None:
    layout = images.build_layout(tmp_path / "layout")
    with images.private_registry(tmp_path / "registry") as host:
        name = f"{host}/private/busybox:1"
        images.push(layout, name, credentials="me:secret")
        pull = ("image", "pull", "--local=false", "--plain-http")
        refused = stack.pyctr(*pull, name, check=False)
        assert refused.returncode == 1
        assert "authorization failed" in refused.stderr
        stack.pyctr(*pull, "--user", "me:secret", name)
        stack.ctr("image", "rm", "--sync", name)
        # The client's docker configuration, not the daemon's.
        config = {"auths": {host: {"username": "me", "password": "secret"}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        command = stack.command("pyctr", *pull, name)
        environment = {**stack.environment, "DOCKER_CONFIG": str(tmp_path)}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        stack.ctr("image", "rm", "--sync", name)


@pytest.mark.parametrize("where", ["--local", "--local=false"])
def test_an_interrupted_import_leaves_nothing(stack: Stack, where: str) -> None:
    source_fd, never_fd = os.pipe()
    try:
        command = stack.command("pyctr", "image", "import", where, "-")
        process = subprocess.Popen(command, env=stack.environment, stdin=source_fd)
        deadline = time.monotonic() + 20
        while not stack.ctr("leases", "ls", "-q").stdout:  # until it has begun
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        while stack.ctr("leases", "ls", "-q").stdout:
            assert time.monotonic() < deadline
    finally:
        os.close(source_fd)
        os.close(never_fd)
    assert stack.ctr("content", "active").stdout.count("\n") == 1


def test_a_credential_helper_that_fails_is_the_reason(stack: Stack, tmp_path: Path) -> None:
    with images.private_registry(tmp_path / "registry") as host:
        (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {host: "no/such"}}))
        command = stack.command("pyctr", "image", "pull", "--local=false", "--plain-http", f"{host}/x/y:1")
        environment = {**stack.environment, "DOCKER_CONFIG": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, 'ctr: bad credential helper "no/such"\n')


def test_an_export_that_cannot_be_written_leaves_nothing(stack: Stack, busybox: str, tmp_path: Path) -> None:
    stack.ctr("image", "pull", "--plain-http", busybox)
    command = stack.command("pyctr", "image", "export", "--local=false", str(tmp_path / "a.tar"), busybox)
    limited = ["sh", "-c", 'ulimit -f 64; exec "$@"', "-", *command]
    done = subprocess.run(limited, env=stack.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "file too large" in done.stderr.lower()
    assert not (tmp_path / "a.tar").exists()
