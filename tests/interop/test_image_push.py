"""`image push` by pyctr and by Debian's ctr, on both daemons, into a real docker-registry; read back by skopeo and ctr."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from support import images, parity
from support.programs import peer, peer_environment
from support.screen import Screen

if TYPE_CHECKING:
    from pathlib import Path

    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

SEVEN = "sha256:" + "7" * 64


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory):
    """A second, empty registry."""
    with images.registry(tmp_path_factory.mktemp("target")) as host:
        yield host


@pytest.fixture(scope="module", params=["our", "real"])
def stack(request: pytest.FixtureRequest, busybox: str):
    """Each daemon, with every platform of busybox pulled by Debian's ctr."""
    found: Stack = request.getfixturevalue(f"{request.param}_stack")
    found.ctr("image", "pull", "--all-platforms", busybox)
    return found


def raw(name: str) -> bytes:
    """The document that skopeo finds under a name."""
    argv = [peer("skopeo"), "--insecure-policy", "inspect", "--tls-verify=false", "--raw", f"docker://{name}"]
    return subprocess.run(argv, env=peer_environment(), check=True, capture_output=True).stdout


def masked(text: str) -> list[str]:
    """The lines of a push without colours, layers (which ctr leaves out) and total; sorted, as their order is random."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    # ctr redraws: the last picture is what counts.
    last = plain.rpartition("\nelapsed")[0].rpartition("elapsed")[2].splitlines()
    return sorted(line for line in last if re.match(r"(index|manifest|config)-", line))


@pytest.mark.parametrize("program", ["ctr", "pyctr"])
def test_a_pushed_index_is_the_same_elsewhere(stack: Stack, program: str, busybox: str, target: str) -> None:
    name = f"{target}/{program}/{stack.kind}/busybox:1"
    stack.run(program, "image", "push", name, busybox)
    assert raw(name) == raw(busybox)
    stack.ctr("-n", "back", "image", "pull", "--all-platforms", name)
    assert stack.ctr("-n", "back", "image", "ls", "-q").stdout.split() == [name]
    stack.ctr("-n", "back", "image", "rm", "--sync", name)


def test_the_lines_are_ctrs(stack: Stack, busybox: str, target: str) -> None:
    shown = {}
    for program in ("ctr", "pyctr"):
        name = f"{target}/lines/{program}/{stack.kind}:1"
        shown[program] = masked(stack.run(program, "image", "push", name, busybox).stdout)
    assert shown["pyctr"] == shown["ctr"]
    assert len(shown["pyctr"]) == 5


def test_a_terminal_shows_progress_and_a_pipe_one_picture(stack: Stack, busybox: str, target: str) -> None:
    name = f"{target}/screen/{stack.kind}:1"
    assert "\x1b" not in stack.pyctr("image", "push", name, busybox).stdout
    name = f"{target}/screen2/{stack.kind}:1"
    screen = Screen(stack.command("pyctr", "image", "push", name, busybox), stack.environment)
    try:
        assert screen.wait() == 0, screen.text
        assert "\x1b[32m+" in screen.text
        assert "elapsed" in screen.text
        assert re.search(r"total: [0-9.]+ \S*B/[0-9.]+ MiB", screen.text)  # of how much: for eyes only
    finally:
        screen.close()


@pytest.mark.parametrize("program", ["ctr", "pyctr"])
def test_one_platform(stack: Stack, program: str, busybox: str, target: str) -> None:
    name = f"{target}/one/{program}/{stack.kind}:1"
    stack.run(program, "image", "push", "--platform", "linux/arm64", name, busybox)
    arm = next(
        entry
        for entry in json.loads(raw(busybox))["manifests"]
        if entry["platform"]["architecture"] == "arm64"
    )
    assert raw(name) == raw(f"{busybox.rpartition(':')[0]}@{arm['digest']}")


def test_a_manifest_by_its_digest(stack: Stack, busybox: str, target: str) -> None:
    # ctr 1.6 ends with a nil pointer here: it leaves the size out.
    name = f"{target}/digest/{stack.kind}"
    digest = json.loads(raw(busybox))["manifests"][0]["digest"]
    stack.pyctr("image", "push", "--manifest", digest, f"{name}:1")
    assert raw(f"{name}:1") == raw(f"{name}@{digest}")


@pytest.mark.parametrize("program", ["ctr", "pyctr"])
def test_without_a_tag_it_is_there_by_digest(stack: Stack, program: str, busybox: str, target: str) -> None:
    name = f"{target}/untagged/{program}/{stack.kind}"
    stack.run(program, "image", "push", name, busybox)
    index = next(
        line.split()[2] for line in stack.ctr("image", "ls").stdout.splitlines() if line.startswith(busybox)
    )
    assert raw(f"{name}@{index}") == raw(busybox)


def test_blobs_of_the_same_registry_are_mounted(stack: Stack, busybox: str) -> None:
    name = f"{busybox.partition('/')[0]}/mounted/{stack.kind}:1"
    done = stack.pyctr("image", "push", "--http-dump", name, busybox)
    assert "from=library%2Fbusybox" in done.stderr
    assert "/blobs/uploads/?mount=sha256" in done.stderr
    assert not re.search(r"PUT /v2/mounted/\w+/blobs", done.stderr)
    assert raw(name) == raw(busybox)
    again = stack.pyctr("image", "push", "--http-dump", name, busybox).stderr
    assert "POST " not in again
    assert "PUT " not in again


@pytest.mark.parametrize(
    "words",
    [
        "", "nosuch:1", "%T/a/b:1 nosuch", "--platform bogus %T/a/b:1 %B", "--manifest foo %T/a/b:1",
        f"--manifest {SEVEN} %T/a/b:1", "%T/A/B:1 %B",
    ],
)  # fmt: skip
def test_errors_are_ctrs(stack: Stack, busybox: str, target: str, words: str) -> None:
    argv = [word.replace("%T", target).replace("%B", busybox) for word in words.split()]
    real, ours = (stack.run(program, "image", "push", *argv, check=False) for program in ("ctr", "pyctr"))
    assert (ours.returncode, ours.stderr) == (real.returncode, parity.said_by_ctr(real.stderr))


def test_nothing_is_pushed_of_an_image_that_is_not_whole(stack: Stack, busybox: str, target: str) -> None:
    stack.ctr("-n", "half", "image", "pull", "--platform", "linux/amd64", busybox)
    arm = json.loads(raw(busybox))["manifests"][1]["digest"]
    name = f"{target}/half/{stack.kind}:1"
    done = stack.pyctr("-n", "half", "image", "push", name, busybox, check=False)
    assert (done.returncode, done.stderr) == (1, f"ctr: content digest {arm}: not found\n")
    argv = [peer("skopeo"), "--insecure-policy", "list-tags", "--tls-verify=false", f"docker://{name[:-2]}"]
    assert subprocess.run(argv, env=peer_environment(), capture_output=True, check=False).returncode != 0
    stack.ctr("-n", "half", "image", "rm", "--sync", busybox)


def test_a_registry_that_wants_a_password(stack: Stack, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text("me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")
    auth = f"auth: {{htpasswd: {{realm: test, path: {tmp_path}/htpasswd}}}}"
    with images.registry(tmp_path, auth=auth) as host:
        refused = stack.pyctr("image", "push", f"{host}/x/y:1", busybox, check=False)
        assert refused.returncode == 1
        assert "authorization failed: no basic auth credentials" in refused.stderr
        dumped = stack.pyctr("image", "push", "--http-dump", "--user", "me:secret", f"{host}/x/y:1", busybox)
        assert "Authorization: (hidden)" in dumped.stderr
        assert "bWU6c2VjcmV0" not in dumped.stderr
        stack.ctr("-n", "back", "image", "pull", "--user", "me:secret", f"{host}/x/y:1")
        stack.ctr("-n", "back", "image", "rm", "--sync", f"{host}/x/y:1")
