"""pyctr beside Debian's ctr, on Debian's containerd: same output, same errors, same status (S013-S057)."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import pytest

from support import images, parity, tarball
from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(180)]

SEVEN = "sha256:" + "7" * 64


@pytest.fixture(scope="module")
def stack():
    """The real daemon with both images pulled by the real ctr, and the registry's name."""
    root = Path(tempfile.mkdtemp(prefix="cp", dir="/tmp"))
    layout = images.build_layout(root / "layout")
    web = images.build_layout(root / "web", {"User": "web:www", "WorkingDir": "/home", "StopSignal": "SIGINT", "Labels": {"a": "b"}})  # fmt: skip
    with images.registry(root / "registry") as host:
        images.push(layout, f"{host}/library/busybox:latest")
        images.push(web, f"{host}/library/web:1")
        daemon = Stack(root / "d", kind="real").start()
        daemon.host = host  # type: ignore[attr-defined]
        daemon.ctr("image", "pull", f"{host}/library/busybox:latest")
        daemon.ctr("image", "pull", f"{host}/library/web:1")
        try:
            yield daemon
        finally:
            daemon.clean()
    shutil.rmtree(root)  # noqa: TID251 - the test's own folder


def clean(stack: Stack) -> None:
    stack.ctr("task", "rm", "-f", "x1", check=False)
    stack.ctr("container", "rm", "x1", check=False)
    # One by one: a single command stops at the first that isn't there.
    # What a refused container has left is the collector's, who comes when it likes.
    for key in ("x1", "bad/id", "k2", "k3", "k4", "k9", "k1"):
        stack.ctr("snapshot", "rm", key, check=False)


def compare(stack: Stack, steps: list[str]) -> None:
    """Runs the steps with ctr, then with pyctr; %B, %W and %H are images and registry."""
    host: str = stack.host  # type: ignore[attr-defined]
    names = {"%B": f"{host}/library/busybox:latest", "%W": f"{host}/library/web:1", "%H": host}
    parity.compare(stack, steps, names, lambda: clean(stack))


CREATE_FLAGS = (
    "",
    "--env A=b --env PATH",
    "--label a=b --label c",
    "--annotation q=r --annotation b=c",
    "--mount type=bind,src=/tmp,dst=/host,options=rbind:ro",
    "--net-host",
    "--privileged",
    "--read-only",
    "--tty",
    "--with-ns network:/proc/1/ns/net",
    "--allow-new-privs",
    "--memory-limit 100000000",
    "--device /dev/null",
    "--cap-add CAP_SYS_ADMIN --cap-drop CAP_CHOWN",
    "--apparmor-profile x",
    "--cwd /tmp",
    "--cpu-quota 5000 --cpu-period 10000",
    "--rootfs-propagation shared",
    "--rdt-class k",
    "--snapshotter-label containerd.io/x=y",
    "--runtime io.containerd.runc.v1",
)


@pytest.mark.parametrize("flags", CREATE_FLAGS)
@pytest.mark.parametrize("image", ["%B", "%W"])
def test_s016_to_s036_the_record_and_its_spec_are_the_same(stack: Stack, flags: str, image: str) -> None:
    compare(stack, [f"container create {flags} {image} x1 sleep 100", "container info x1"])


@pytest.mark.parametrize(
    "flags",
    ["", "--cpus 1.5", "--cpu-shares 0", "--cgroup /default/other", "--runc-binary runc", "--null-io", "--platform linux/amd64", "--no-pivot"],
)  # fmt: skip
def test_a_run_container_is_the_same(stack: Stack, flags: str) -> None:
    compare(stack, [f"run {flags} %B x1 true", "container info x1", "task ls"])


def test_s015_output_and_status(stack: Stack) -> None:
    compare(
        stack,
        [
            "run --rm %B x1 echo hi there",
            "run --rm %B x1 sh -c ~exit_42",
            "run --rm %B x1 sh -c ~kill_-9_$$",
            "run --rm %W x1 id",
            "run --rm %B x1 cat -n /etc/passwd",
            "container ls",
            "task ls",
        ],
    )


@pytest.mark.parametrize(
    "step",
    [
        "run", "run a", "run --rm -d %B x1", "run --rm nosuch x1", "run --rm %B x1 nosuch", "run --rm --with-ns x %B x1",
        "run --rm --env-file /nosuch %B x1 true", "run --rm --mount x %B x1 true", "run --rm --gpus 0 %B x1 true",
        "run --rm --seccomp-profile /x %B x1 true", "run --rm --device /nosuch %B x1 true",
        "run --rm --apparmor-default-profile x %B x1 true", "run --rm --runtime nosuch %B x1 true",
        "run --rm --snapshotter nosuch %B x1 true", "run --rm --platform linux/arm64 %B x1 true",
        "run --rm --runc-binary /nosuch %B x1 true", "run --rm %B bad/id", "run --rm --cap-add NOPE %B x1",
        "run --rm --cap-add CAP_NOPE %B x1 true", "run --rm --rootfs /nosuch x1 true", "run --rm --config /nosuch x1",
        "run --rm --cpus 2 --cpu-quota 5 %B x1 true", "run --rm --mount type=bind,src=/nosuch,dst=/x %B x1 true",
        "run --rm --runc-systemd-cgroup %B x1 true", "run --rm --cni %B x1 true", "container info", "container info nosuch",
        "container rm", "container rm nosuch", "container label nosuch a=b", "task start", "task start nosuch", "task kill nosuch",
        "task ps", "task attach nosuch", "task rm nosuch", "task metrics nosuch", "image tag", "image tag nosuch x:1",
        "image label nosuch a=b", "image rm nosuch", "image pull", "image pull busybox", "image pull --platform bogus %W",
        "image pull %H/library/nosuch:latest", "image pull 127.0.0.1:1/x/y:z", f"image pull %H/library/busybox@{SEVEN}",
        "image pull --platform linux/s390x %W", "image import /nosuch", "image import /etc/hostname", "image export",
        "image export /nosuchdir/x %B", "content get", "content get sha256:11", f"content get {SEVEN}", "content rm x",
        "snapshot info nosuch", "snapshot rm nosuch", "ns create", "ns create a/b", "ns rm default", "leases rm nosuch",
    ],
)  # fmt: skip
def test_bad_input_gets_the_same_words_and_status(stack: Stack, step: str) -> None:
    compare(stack, [step, "container ls", "task ls"])


def test_s044_life_of_a_task(stack: Stack) -> None:
    compare(
        stack,
        [
            "container create %B x1 sleep 100", "container create %B x1", "container ls", "container ls -q", "task ls",
            "task start -d x1", "task start x1", "container rm x1", "task ls -q", "task exec --exec-id e1 x1 echo hi",
            "task exec --exec-id e1 x1 sh -c ~exit_7", "task exec --exec-id e1 x1 nosuch",
            "task exec --exec-id e1 --user web x1 id", "task exec --exec-id e1 --cwd /etc x1 pwd",
            "task exec -d --exec-id e2 x1 sleep 50", "task kill --exec-id e2 -s 9 x1", "task metrics --format x x1",
            "task pause x1", "task resume x1", "task kill -s BOGUS x1", "task rm x1", "shim --id x1 state",
            "shim --id nosuch state", "container label x1 q=r", "container label x1 q=", "task rm -f x1", "task rm x1",
            "container rm x1", "container rm x1", "snapshot ls",
        ],
    )  # fmt: skip


def test_lists_and_labels(stack: Stack) -> None:
    compare(
        stack,
        [
            "image ls", "image ls -q", "image ls -q name~=web", "image ls bad~", "image check", "image check -q",
            "image tag %B y:1", "image tag %B y:1", "image tag --force %B y:1", "image label y:1 a=b c=d", "image label y:1 a=",
            "image rm y:1 nosuch", "snapshot ls", "snapshot tree", "snapshot usage -b", "ns create y1 a=b c=d", "ns create y1",
            "ns ls", "ns label y1 a= e=f", "ns ls -q", "ns rm y1 y2", "leases create --id l1 a=b", "leases create --id l1",
            "leases ls", "leases ls -q", "leases rm l1", "plugins ls", "plugins ls -q", "oci spec", "-n foo oci spec",
        ],
    )  # fmt: skip


def test_snapshots_by_hand(stack: Stack) -> None:
    top = stack.ctr("snapshot", "ls").stdout.split("\n")[1].split()[0]
    compare(
        stack,
        [
            f"snapshot info {top}", f"snapshot prepare k1 {top}", f"snapshot prepare -t /mnt k2 {top}",
            f"snapshot prepare --mounts k3 {top}", f"snapshot view k4 {top}",
            # Else they are garbage, which the collector may take at any step.
            *(f"snapshot label k{number} containerd.io/gc.root=x" for number in range(1, 5)),
            "snapshot mounts /mnt k1", "snapshot info k1",
            "snapshot ls", "snapshot commit k9 k1", f"snapshot rm {top}", "snapshot rm k2 k3 k4 k9", "snapshot rm k5",
        ],
    )  # fmt: skip


def _as_1_6_writes(archive: bytes) -> bytes:
    """An archive without what 1.7 says more in its index: its own media type, and where an image is from."""
    said = rb'(?<=2,)"mediaType":"application/vnd.oci.image.index.v1.json",|"containerd.io/distribution.source[^"]*":"[^"]*",'
    at = archive.index(b"index.json\0")
    size = int(archive[at + 124 : at + 135], 8)
    index = archive[at + tarball.BLOCK : at + tarball.BLOCK + size]
    older = re.sub(said, b"", index)
    assert -(-len(older) // tarball.BLOCK) == -(-size // tarball.BLOCK)
    header = tarball.header(b"index.json", size=len(older))
    return archive.replace(archive[at : at + tarball.BLOCK] + index, header + older.ljust(size, b"\0"))


def test_export_writes_the_same_bytes_and_import_reads_them(stack: Stack, tmp_path: Path) -> None:
    name = f"{stack.host}/library/web:1"  # type: ignore[attr-defined]
    stack.ctr("image", "export", str(tmp_path / "real.tar"), name)
    stack.pyctr("image", "export", str(tmp_path / "ours.tar"), name)
    assert (tmp_path / "ours.tar").read_bytes() == _as_1_6_writes((tmp_path / "real.tar").read_bytes())
    compare(
        stack, [f"-n y2 image import {tmp_path / 'real.tar'}", "-n y2 image ls", "-n y2 image rm --sync %W"]
    )


def test_s045_to_s053_pull_prints_the_notes_lines(stack: Stack) -> None:
    name = f"{stack.host}/library/web:1"  # type: ignore[attr-defined]
    lines = stack.pyctr("-n", "y3", "image", "pull", name).stdout.splitlines()
    bar = r"\|\+{38}\|"
    expected = [rf"{name}: +resolved +{bar} ", rf"index-sha256:\w{{64}}: +done +{bar} ", rf"manifest-sha256:\w{{64}}: done +{bar} ",
                *[rf"layer-sha256:\w{{64}}: +done +{bar} "] * 2, rf"config-sha256:\w{{64}}: +done +{bar} ",
                r"elapsed: [0-9.]+ ?s +total: +[0-9.]+ .*\(.*/s\) +", r"unpacking linux/amd64 sha256:\w{64}\.\.\.", r"done: .*s\t"]  # fmt: skip
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    stack.ctr("-n", "y3", "image", "rm", "--sync", name)


def test_a_pull_leaves_the_same_content_and_labels(stack: Stack) -> None:
    name = f"{stack.host}/library/busybox:latest"  # type: ignore[attr-defined]
    seen = {}
    for program in ("ctr", "pyctr"):
        space = f"z{program}"
        stack.run(program, "-n", space, "image", "pull", name)
        rows = [line.split("\t") for line in stack.ctr("-n", space, "content", "ls").stdout.splitlines()[1:]]
        seen[program] = sorted((row[0], row[1], tuple(sorted(row[-1].split(",")))) for row in rows)
        assert stack.ctr("-n", space, "leases", "ls", "-q").stdout == ""
        stack.ctr("-n", space, "image", "rm", "--sync", name)
    assert seen["pyctr"] == seen["ctr"]
