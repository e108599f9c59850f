"""Bad input gets the same words and status from ours as from the real pair, and leaves nothing half-made behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import images
from support.programs import free_port
from support.stack import Stack
from support.walkthrough import Pair, wait_until

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(90)]

SEVEN = "sha256:" + "7" * 64
NAMESPACE = "bad"  # empty before and after each test


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory):
    """host:port of a registry: `corrupt` has a layer with one byte changed on the disk, `lies` a manifest."""
    folder = tmp_path_factory.mktemp("damaged")
    with images.registry(folder / "registry") as host:
        for name, setting in (("corrupt", {"Labels": {"a": "1"}}), ("lies", {"Labels": {"a": "2"}})):
            contents = [[(f"{name}.txt", "file", name.encode() * 5000, 0o644)]]
            layout = images.build_layout(folder / name, setting, contents=contents)
            images.push(layout, f"{host}/library/{name}:1")
        for path in (folder / "corrupt/blobs/sha256").iterdir():
            if path.read_bytes().startswith(b"\x1f\x8b"):
                flip(stored(folder, path.name))
        for path in (folder / "lies/blobs/sha256").iterdir():
            if b'"layers"' in path.read_bytes():
                flip(stored(folder, path.name))
        yield host


def stored(folder: Path, hexdigest: str) -> Path:
    """Where docker-registry keeps a blob."""
    return folder / f"registry/data/docker/registry/v2/blobs/sha256/{hexdigest[:2]}/{hexdigest}/data"


def flip(path: Path) -> None:
    """Changes one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(data)


@pytest.fixture(scope="module")
def pairs(real_stack: Stack, our_stack: Stack, busybox: str) -> list[Pair]:
    for stack in (real_stack, our_stack):
        stack.ctr("image", "pull", "--plain-http", busybox)
    return [Pair(real_stack), Pair(our_stack)]


def masked(text: str, pair: Pair) -> str:
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).replace(str(pair.stack.root), "/ROOT")
    text = re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", text)
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", text)


def last_error(pair: Pair, *words: str) -> tuple[int, str]:
    done = pair(*words, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("ctr: ")]
    assert len(lines) == 1, done.stderr
    return done.returncode, masked(lines[0], pair)


def left_over(pair: Pair) -> dict[str, str]:
    """What a namespace holds, by kind, of what could have been left."""
    lists = {
        "content": ("content", "ls", "-q"), "images": ("image", "ls", "-q"), "containers": ("container", "ls", "-q"),
        "tasks": ("task", "ls", "-q"), "leases": ("leases", "ls", "-q"),
    }  # fmt: skip
    found = {kind: pair("-n", NAMESPACE, *words).stdout for kind, words in lists.items()}
    for kind, words in (("snapshots", ("snapshot", "ls")), ("ingests", ("content", "active"))):
        found[kind] = "\n".join(pair("-n", NAMESPACE, *words).stdout.splitlines()[1:])
    return {kind: text for kind, text in found.items() if text}


def compare(pairs: list[Pair], *words: str, namespace: str = NAMESPACE) -> str:
    """Both fail with the same status and sentence; returns the sentence."""
    real, ours = (last_error(pair, "-n", namespace, *words) for pair in pairs)
    assert ours == real
    assert real[0] == 1
    # Content that nothing refers to goes with the next collection, which both daemons schedule on their own.
    wait_until(lambda: not left_over(pairs[1]), 15)
    return real[1]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "ho st/x:1",
        "busybox",
        "host:port/x:1",
        "http://host/x:1",
        "host/x@sha256:12",
        "host/x@sha256",
    ],
)
def test_a_bad_reference(pairs: list[Pair], name: str) -> None:
    compare(pairs, "image", "pull", "--plain-http", name)


def test_an_unknown_image_in_the_store(pairs: list[Pair]) -> None:
    assert "not found" in compare(pairs, "run", "docker.io/library/nosuch:1", "x1")


@pytest.mark.parametrize("what", ["library/nosuch:1", "library/busybox:nosuch", f"library/busybox@{SEVEN}"])
def test_an_unknown_image_in_the_registry(pairs: list[Pair], registry: str, what: str) -> None:
    assert "not found" in compare(pairs, "image", "pull", "--plain-http", f"{registry}/{what}")


def test_a_registry_that_is_down(pairs: list[Pair]) -> None:
    name = f"127.0.0.1:{free_port()}/library/x:1"
    assert "connection refused" in compare(pairs, "image", "pull", "--plain-http", name)


def test_a_corrupt_layer(pairs: list[Pair], damaged: str) -> None:
    compare(pairs, "image", "pull", "--plain-http", f"{damaged}/library/corrupt:1")


def test_a_manifest_that_is_not_what_was_asked_for(pairs: list[Pair], damaged: str) -> None:
    compare(pairs, "image", "pull", "--plain-http", f"{damaged}/library/lies:1")


def test_a_binary_that_the_image_lacks(pairs: list[Pair], busybox: str) -> None:
    sentence = compare(pairs, "run", "--rm", busybox, "x2", "/nosuch", namespace="default")
    assert 'exec: "/nosuch": stat /nosuch: no such file or directory' in sentence
    for pair in pairs:
        assert "x2" not in pair("snapshot", "ls").stdout
        assert pair("container", "ls", "-q").stdout == ""
        assert not list(Path(f"{pair.stack.root}/s/io.containerd.runtime.v2.task/default").glob("*"))


def test_a_name_in_use(pairs: list[Pair], busybox: str) -> None:
    for pair in pairs:
        pair("container", "create", busybox, "x3", "true")
    try:
        assert "already exists" in compare(pairs, "run", busybox, "x3", "true", namespace="default")
        assert "already exists" in compare(pairs, "container", "create", busybox, "x3", namespace="default")
    finally:
        for pair in pairs:
            pair.remove("x3")


def test_exec_in_a_stopped_task(pairs: list[Pair], busybox: str) -> None:
    for pair in pairs:
        pair("run", "-d", busybox, "x4", "true")
        wait_until(lambda pair=pair: "STOPPED" in pair("task", "ls").stdout)
    try:
        compare(pairs, "task", "exec", "--exec-id", "e", "x4", "true", namespace="default")
        compare(pairs, "task", "kill", "x4", namespace="default")
        compare(pairs, "task", "start", "x4", namespace="default")
    finally:
        for pair in pairs:
            pair.remove("x4")


def test_no_task(pairs: list[Pair], busybox: str) -> None:
    for pair in pairs:
        pair("container", "create", busybox, "x5", "true")
    try:
        for words in (("kill",), ("exec", "--exec-id", "e"), ("rm",), ("pause",), ("metrics",)):
            compare(
                pairs, "task", *words, "x5", *(("true",) if words[0] == "exec" else ()), namespace="default"
            )
    finally:
        for pair in pairs:
            pair.remove("x5")


def test_no_daemon(pairs: list[Pair], short_tmp: Path) -> None:
    answers = []
    for pair in pairs:
        stack = Stack(short_tmp, kind=pair.stack.kind)
        status, sentence = last_error(Pair(stack), "--connect-timeout", "1s", "task", "ls")
        # Whether the real ctr adds the last attempt's error is a race between its timers.
        answers.append((status, sentence.partition(": connection error")[0]))
    assert answers[0] == answers[1]
    assert "failed to dial" in answers[0][1]
