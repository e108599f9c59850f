"""A layer is unpacked while it is fetched, and counts only once every byte of it is there and verified."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pycontainerd.client.client import Client
from pycontainerd.lib.api.light import diff_v1, types
from pycontainerd.lib.errdefs import NotFound
from support import images
from support.fake_registry import fake_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

TAR = "application/vnd.oci.image.layer.v1.tar"
HALF = 4 << 20  # in the middle of the second file


class Slow:
    """A registry that stops in the middle of a layer until it is told how to go on."""

    def __init__(self, fake) -> None:
        self.files = {name: os.urandom(3 << 20) for name in ("first", "second")}
        packed, diff_id = images.layer(
            [(name, "file", content, 0o644) for name, content in self.files.items()]
        )
        self.diff_id = diff_id
        self.data = data = gzip.decompress(packed)
        self.go_on = threading.Event()
        self.rest = data[HALF:]
        self.digest = fake.add_blob(data)
        config = fake.add_blob(
            b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}'
            % diff_id.encode()
        )
        fake.add_document("v1", {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": len(fake.blobs[config])},
            "layers": [{"mediaType": TAR, "digest": self.digest, "size": len(data)}],
        })  # fmt: skip
        fake.rule = self.rule
        self.ref = f"{fake.address}/a/b:v1"

    def rule(self, request):
        if not request.path.endswith(self.digest):
            return None
        length = {
            "Content-Length": str(len(self.data)),
            **({} if len(self.rest) + HALF == len(self.data) else {"X-Cut": ""}),
        }
        return 200, length, self.parts()

    def parts(self) -> Iterator[bytes]:
        yield self.data[:HALF]
        assert self.go_on.wait(30)
        yield self.rest


@contextlib.contextmanager
def pulling(stack, slow: Slow):
    """A pull that waits in the middle of the layer."""
    argv = stack.command("pyctr", "image", "pull", "--plain-http", slow.ref)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=stack.environment
    ) as process:
        try:
            yield process
        finally:
            slow.go_on.set()
            process.communicate(timeout=30)


def unpacked(stack, slow: Slow) -> dict[str, bytes]:
    """What snapshots have of the layer's files, by name."""
    found = {}
    for path in stack.root.glob("**/snapshots/*/fs/*"):
        with contextlib.suppress(FileNotFoundError):  # being removed
            data = path.read_bytes()
            if data and slow.files.get(path.name, b"").startswith(data):
                found[path.name] = data
    return found


@pytest.fixture
def stack(our_stack):
    return our_stack


@pytest.fixture
def slow():
    with fake_registry() as fake:
        yield Slow(fake)


def wait_for_first(stack, slow: Slow) -> None:
    """Until the first file is whole and the second has begun."""
    deadline = time.monotonic() + 20
    while not unpacked(stack, slow).get("second"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_files_are_there_before_the_layer_is(stack, slow) -> None:
    with pulling(stack, slow) as process:
        wait_for_first(stack, slow)
        assert unpacked(stack, slow)["first"] == slow.files["first"]
        assert slow.digest not in stack.ctr("content", "ls", "-q").stdout
        # Whoever doesn't ask for it is told what a stock daemon says of a blob that isn't there.
        with Client(stack.address) as client, pytest.raises(NotFound, match=slow.digest):
            client.call(
                diff_v1.DIFF,
                "Apply",
                diff_v1.ApplyRequest(diff=types.Descriptor(media_type=TAR, digest=slow.digest)),
            )
        slow.go_on.set()
        assert process.wait(30) == 0
    assert unpacked(stack, slow) == slow.files
    assert slow.diff_id in stack.ctr("snapshots", "ls").stdout
    assert slow.ref in stack.ctr("image", "ls", "-q").stdout


@pytest.mark.parametrize("end", ["short", "wrong"])
def test_a_layer_that_ends_badly_leaves_no_snapshot(stack, slow, end) -> None:
    whole = slow.rest
    slow.rest = b"" if end == "short" else bytes(len(whole))
    with pulling(stack, slow) as process:
        wait_for_first(stack, slow)
        slow.go_on.set()
        assert process.wait(30) == 1
    deadline = time.monotonic() + 10
    while unpacked(stack, slow):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert slow.ref not in stack.ctr("image", "ls", "-q").stdout
    slow.rest = whole
    stack.pyctr("image", "pull", "--plain-http", slow.ref)
    assert unpacked(stack, slow) == slow.files
