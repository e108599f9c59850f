"""`image mount`, `unmount` and `convert`, `pull --all-metadata`: pyctr beside Debian's ctr, on both daemons."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import images, parity
from support.programs import peer, peer_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(180)]

TAR = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture(scope="module")
def docker_image(busybox: str) -> str:
    """The same image with docker's media types."""
    name = f"{busybox.partition('/')[0]}/library/docker:1"
    argv = [peer("skopeo"), "--insecure-policy", "copy", "-q", "--all", "--format", "v2s2"]
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run(
        [*argv, *tls, f"docker://{busybox}", f"docker://{name}"],
        env=peer_environment(), check=True, capture_output=True,
    )  # fmt: skip
    return name


@pytest.fixture(scope="module", params=["our", "real"])
def stack(request: pytest.FixtureRequest, busybox: str, docker_image: str):
    """Each daemon, with every platform of both images."""
    found: Stack = request.getfixturevalue(f"{request.param}_stack")
    for name in (busybox, docker_image):
        found.ctr("image", "pull", "--all-platforms", name)
    return found


@pytest.fixture
def target(tmp_path: Path, stack: Stack) -> Path:
    """A folder to mount on; unmounted in the end."""
    folder = tmp_path / "m"
    folder.mkdir()
    yield folder  # type: ignore[misc]
    stack.ctr("image", "unmount", "--rm", str(folder))


def check(
    stack: Stack, steps: Sequence[str], busybox: str, docker_image: str = "", target: Path | str = ""
) -> list[tuple[int, str, str]]:
    names = {"%B": busybox, "%D": docker_image, "%M": str(target)}

    def clean() -> None:
        if target:
            stack.ctr("image", "unmount", "--rm", str(target))
        for name in ("x:1", "x:2"):
            stack.ctr("image", "rm", "--sync", name, check=False)

    return parity.compare(stack, steps, names, clean, _masked)


def _masked(text: str) -> str:
    # ctr numbers a converted index's labels by places in the old one; the collector reads none of the numbers.
    return re.sub(r"(gc\.ref\.content\.m)\.\d+", r"\1.N", parity.masked(text))


def test_mounting_is_ctrs(stack: Stack, busybox: str, target: Path) -> None:
    # Our daemon could mount it on a folder of its own, as containerd's since 2.2: the next test.
    without_target = ["image mount %B"] if stack.kind == "real" else []
    check(
        stack,
        [
            "image mount", *without_target, "image mount nosuch %M", "image mount %B /nosuch/dir",
            "image mount --platform bogus %B %M", "image mount --platform linux/s390x %B %M", "leases ls", "snapshot ls",
            "image mount %B %M", "!cat %M/etc/motd; ls %M; touch %M/x", "snapshot info %M", "leases ls", "image mount %B %M",
            "image unmount", "image unmount /nosuch", "image unmount %M", "!ls %M; grep -c %M /proc/self/mounts", "snapshot ls",
            "image mount %B %M", "image unmount --rm %M", "leases ls", "snapshot ls",
            "image mount --rw %B %M", "!touch %M/x; ls %M", "snapshot info %M", "image unmount --rm %M",
            "image mount --platform linux/arm64 %B %M", "image unmount --rm %M", "snapshot ls", "leases ls",
        ],
        busybox,
        target=target,
    )  # fmt: skip


def test_a_daemon_that_mounts_chooses_the_folder(our_stack: Stack, busybox: str) -> None:
    our_stack.pyctr("image", "pull", "--plain-http", busybox)
    folder = our_stack.pyctr("image", "mount", busybox).stdout.split()[-1]
    assert "root:" in Path(folder, "etc/passwd").read_text()
    lease = next(
        name for name in our_stack.pyctr("leases", "ls", "-q").stdout.split() if "images-mount" in name
    )
    our_stack.pyctr("leases", "rm", "--sync", lease)
    assert folder not in Path("/proc/self/mounts").read_text()
    assert lease not in our_stack.pyctr("snapshots", "ls").stdout


def test_a_busy_mount_says_so(stack: Stack, busybox: str, target: Path) -> None:
    stack.ctr("image", "mount", busybox, str(target))
    with subprocess.Popen(["sleep", "60"], cwd=target) as sleeper:
        answers = [
            stack.run(program, "image", "unmount", str(target), check=False) for program in ("ctr", "pyctr")
        ]
        sleeper.kill()
    assert [(one.returncode, one.stderr) for one in answers] == [
        (1, f"ctr: failed to unmount target {target}: device or resource busy\n")
    ] * 2


def test_labels_of_a_mount_are_the_snapshots(stack: Stack, busybox: str, target: Path) -> None:
    stack.pyctr("image", "mount", "--label", "a=b", busybox, str(target))
    assert json.loads(stack.ctr("snapshot", "info", str(target)).stdout)["Labels"]["a"] == "b"


@pytest.mark.parametrize(
    "flags",
    ["", "--oci", "--uncompress", "--uncompress --oci", "--all-platforms", "--all-platforms --uncompress --oci",
     "--platform linux/arm64 --uncompress", "--platform linux/arm64 --platform linux/amd64 --oci", "--platform bogus"],
)  # fmt: skip
@pytest.mark.parametrize("image", ["%B", "%D"])
def test_converting_gives_the_same_image(
    stack: Stack, busybox: str, docker_image: str, image: str, flags: str
) -> None:
    answers = check(
        stack,
        [f"image convert {flags} {image} x:1", "image ls", "content ls", "leases ls"],
        busybox,
        docker_image,
    )
    assert (answers[0][0] == 0) is ("bogus" not in flags)


def test_what_converting_says(stack: Stack, busybox: str, docker_image: str) -> None:
    steps = [
        "image convert",
        "image convert %B",
        "image convert nosuch x:1",
        "image label %B a=b",
        "image convert %B x:1",
    ]
    steps += ["image convert --oci %D x:1", "image ls", "image convert --uncompress x:1 x:1", "image ls"]
    check(stack, steps, busybox, docker_image)
    stack.ctr("image", "label", busybox, "a=")


def test_a_converted_image_runs(stack: Stack, busybox: str) -> None:
    stack.pyctr("image", "convert", "--uncompress", "--oci", busybox, "x:2")
    assert stack.pyctr("run", "--rm", "x:2", "c1", "cat", "/etc/motd").stdout == "hello\n"
    stack.ctr("image", "rm", "--sync", "x:2")


def test_a_platform_that_is_not_there_is_an_error(stack: Stack, busybox: str) -> None:
    # ctr 1.6 makes an index of nothing.
    done = stack.pyctr("image", "convert", "--platform", "linux/s390x", busybox, "x:2", check=False)
    assert done.returncode == 1
    assert "no match for platform in manifest" in done.stderr
    assert "x:2" not in stack.ctr("image", "ls", "-q").stdout


def test_an_image_of_another_platform_alone_is_listed_as_ctr_does(stack: Stack, busybox: str) -> None:
    name = f"{busybox.partition('/')[0]}/arm/{stack.kind}:1"
    stack.ctr("image", "push", "--platform", "linux/arm64", name, busybox)
    steps = [f"-n arm image pull --platform linux/arm64 {name}", "-n arm image ls", "-n arm image check"]
    check(stack, [*steps[1:], f"-n arm image rm --sync {name}"], busybox)
    stack.ctr(*steps[0].split())
    check(stack, steps[1:], busybox)
    stack.ctr("-n", "arm", "image", "rm", "--sync", name)


def test_all_metadata_is_every_document_and_one_platforms_layers(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    layouts = tmp_path_factory.mktemp("metadata")
    seen = {}
    with images.registry(layouts / "registry") as host:
        images.push(
            images.build_layout(layouts / "l", contents=[[("a", "file", b"only here", 0o644)]]),
            f"{host}/x/y:1",
        )
        for program in ("ctr", "pyctr"):
            space = ("-n", f"m{program}")
            stack.run(program, *space, "image", "pull", "--all-metadata", f"{host}/x/y:1")
            listed = stack.ctr(*space, "content", "ls").stdout
            seen[program] = parity.masked(listed)
            stack.ctr(*space, "image", "rm", "--sync", f"{host}/x/y:1")
    assert seen["pyctr"] == seen["ctr"]
    assert seen["ctr"].count("sha256:") > 6


def test_more_layers_than_one_page_of_mount_options_holds(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory, target: Path
) -> None:
    folder = tmp_path_factory.mktemp("deep")
    contents = [images.busybox_entries()]
    contents += [[(f"l{number}", "file", b"x", 0o644)] for number in range(100)]
    with images.registry(folder / "registry") as host:
        images.push(images.build_layout(folder / "l", contents=contents), f"{host}/deep/er:1")
        stack.ctr("image", "pull", f"{host}/deep/er:1")
        seen = stack.pyctr("run", "--rm", f"{host}/deep/er:1", "d1", "ls").stdout.split()
        assert len([name for name in seen if name.startswith("l")]) == 100
        stack.pyctr("image", "mount", f"{host}/deep/er:1", str(target))
        assert len(list(target.glob("l*"))) == 100
        stack.pyctr("image", "unmount", "--rm", str(target))
        base, top = _ends_of_chain(stack, 101)
        command = stack.command("pyctr", "snapshot", "diff", "--media-type", TAR, base, top)
        layer = subprocess.run(command, env=stack.environment, capture_output=True, check=True).stdout
        names = subprocess.run(["tar", "tf", "-"], input=layer, capture_output=True, check=True).stdout
        assert len([name for name in names.split() if name.startswith(b"l")]) == 100
        stack.ctr("image", "rm", "--sync", f"{host}/deep/er:1")


def _ends_of_chain(stack: Stack, length: int) -> tuple[str, str]:
    """The lowest and the topmost of that many committed snapshots."""
    rows = [line.split() for line in stack.ctr("snapshot", "ls").stdout.splitlines()[1:]]
    parents = {row[0]: row[1] if len(row) == 3 else "" for row in rows}
    for top in parents:
        chain = [top]
        while parents[chain[-1]]:
            chain.append(parents[chain[-1]])
        if len(chain) == length:
            return chain[-1], top
    raise AssertionError(rows)
