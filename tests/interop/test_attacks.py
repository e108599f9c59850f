"""Attacks on images, the daemon and its API, end to end: rows of docs/conformance.md that no other test has."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import pytest

from pycontainerd.client import Containerd
from pycontainerd.lib.errdefs import ContainerdError
from support import images, shims, tarball
from support.fake_registry import FakeRegistry, fake_registry

if TYPE_CHECKING:
    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(150)]

KIND = "application/vnd.oci.image."


@pytest.fixture
def fake():
    with fake_registry() as registry:
        yield registry


def add_image(
    fake: FakeRegistry, tag: str, layer: bytes, diff_id: str, *, kind: str = "layer.v1.tar+gzip", **config
) -> str:
    """An image of one layer; its reference."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        **({"config": config} if config else {}),
    }
    parts = [("config.v1+json", json.dumps(document).encode()), (kind, layer)]
    found = [{"mediaType": KIND + k, "digest": fake.add_blob(data), "size": len(data)} for k, data in parts]
    manifest = {
        "schemaVersion": 2,
        "mediaType": KIND + "manifest.v1+json",
        "config": found[0],
        "layers": found[1:],
    }
    fake.add_document(tag, manifest)
    return f"{fake.address}/a/b:{tag}"


def usage(stack: Stack) -> tuple[int, int, int]:
    """The daemon's open files, threads and resident KiB."""
    folder = Path(f"/proc/{stack.pid()}")
    status = dict(line.split(":\t") for line in (folder / "status").read_text().splitlines())
    return len(os.listdir(folder / "fd")), int(status["Threads"]), int(status["VmRSS"].split()[0])


@pytest.mark.parametrize("way", [(), ("--local=false",)], ids=["by pyctr", "by the daemon"])
def test_i03_indexes_that_name_the_same_child_over_and_over_are_read_once(our_stack, fake, way):
    """64 names for the one below, six times: 64**6 paths to one manifest."""
    data, diff_id = images.layer(images.busybox_entries())
    add_image(fake, "child", data, diff_id)
    kind, below = "manifest.v1+json", fake.tags["child"][1]
    for level in range(6):
        child = {"mediaType": KIND + kind, "digest": fake.add_blob(below), "size": len(below)}
        child["platform"] = {"architecture": "amd64", "os": "linux"}
        index = {"schemaVersion": 2, "mediaType": KIND + "index.v1+json", "manifests": [child] * 64}
        fake.add_document(f"i{level}", index)
        kind, below = "index.v1+json", fake.tags[f"i{level}"][1]
    before = usage(our_stack)
    begun = time.monotonic()
    done = our_stack.pyctr("image", "pull", *way, f"{fake.address}/a/b:i5", check=False, timeout=60)
    assert time.monotonic() - begun < 60
    asked = Counter(request.path.rpartition("/")[2] for request in fake.requests if request.method == "GET")
    assert max(asked.values()) <= 10
    assert usage(our_stack)[2] - before[2] < 64 << 10
    if done.returncode == 0:
        our_stack.ctr("image", "rm", "--sync", f"{fake.address}/a/b:i5")
    else:
        assert "Traceback" not in done.stderr


def test_i03_indexes_in_indexes_without_end_are_refused(our_stack, fake):
    data, diff_id = images.layer(images.busybox_entries())
    add_image(fake, "child", data, diff_id)
    kind, below = "manifest.v1+json", fake.tags["child"][1]
    for level in range(12):
        child = {"mediaType": KIND + kind, "digest": fake.add_blob(below), "size": len(below)}
        index = {"schemaVersion": 2, "mediaType": KIND + "index.v1+json", "manifests": [child]}
        fake.add_document(f"d{level}", index)
        kind, below = "index.v1+json", fake.tags[f"d{level}"][1]
    done = our_stack.pyctr("image", "pull", f"{fake.address}/a/b:d11", check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "a/b:d11" not in our_stack.ctr("image", "ls", "-q").stdout


ORDERS = {
    "containerd.io/restart.loguri": "binary:///canary/x.sh",
    "containerd.io/restart.status": "running",
    "containerd.io/gc.root": "1",
    "containerd.io/snapshot/uidmapping": "0:0:1",
    "io.containerd.runc.v2.group": "another",
    "io.cri-containerd.kind": "sandbox",
    "com.docker.compose.project": "x",
    "org.systemd.property.ExecStart": "/canary",
    "run.oci.handler": "krun",
    "io.podman.annotations.privileged": "TRUE",
}


@pytest.mark.parametrize("kind", ["our", "real"])
def test_i10_what_an_image_calls_its_labels_orders_nothing(request, kind, fake):
    stack: Stack = request.getfixturevalue(f"{kind}_stack")
    data, diff_id = images.layer(images.busybox_entries())
    name = add_image(fake, "orders", data, diff_id, Labels={**ORDERS, "plain": "kept"}, Cmd=["sleep", "100"])
    stack.ctr("image", "pull", "--plain-http", name)
    stack.pyctr("run", "-d", name, "by-pyctr")
    with Containerd(stack.address) as containerd:
        made = containerd.containers.create(name, id="by-python")
        assert not ORDERS.keys() & made.labels.keys()
        made.delete()
    record = json.loads(stack.pyctr("container", "info", "by-pyctr").stdout)
    assert not ORDERS.keys() & record["Labels"].keys()
    assert record["Labels"]["plain"] == "kept"
    assert not ORDERS.keys() & record["Spec"].get("annotations", {}).keys()
    stack.ctr("task", "rm", "-f", "by-pyctr", check=False)
    stack.ctr("container", "rm", "by-pyctr")
    stack.ctr("image", "rm", "--sync", name)


@pytest.mark.parametrize("way", [(), ("--local=false",)], ids=["by pyctr", "by the daemon"])
@pytest.mark.parametrize(
    ("what", "kind"), [("a symlink", b"2"), ("a hard link", b"1"), ("a fifo", b"6"), ("a device", b"3")]
)
def test_i16_a_blob_of_an_archive_that_is_no_file_is_none(our_stack, tmp_path, what, kind, way):
    secret = tmp_path / "canary"
    secret.write_bytes(b'{"schemaVersion": 2}')
    digest = f"sha256:{hashlib.sha256(secret.read_bytes()).hexdigest()}"
    entry = {
        "mediaType": KIND + "manifest.v1+json",
        "digest": digest,
        "size": 20,
        "annotations": {"io.containerd.image.name": "docker.io/library/evil:1"},
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    target = os.fsencode(secret) if "link" in what else b""
    archive = tmp_path / "image.tar"
    archive.write_bytes(
        tarball.file(b"oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        + tarball.file(b"index.json", index)
        + tarball.header(f"blobs/sha256/{digest[7:]}".encode(), kind=kind, link=target)
        + bytes(2 * tarball.BLOCK)
    )
    done = our_stack.pyctr("image", "import", *way, str(archive), check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "evil" not in our_stack.ctr("image", "ls", "-q").stdout
    assert digest not in our_stack.ctr("content", "ls", "-q").stdout


def test_i14_containers_that_share_an_image_have_their_own_environment(our_stack, busybox):
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    found: dict[int, bytes] = {}

    def run(number: int, containerd: Containerd) -> None:
        with containerd:
            for turn in range(5):
                words = [f"OWN={number}", f"ONLY_{number}={turn}"]
                with containerd.run(busybox, ["env"], id=f"i14-{number}", env=words) as task:
                    lines = task.communicate(timeout_s=60)[0].split(b"\n")
                own = [line for line in lines if line.startswith((b"OWN=", b"ONLY_"))]
                found[number] = found.get(number, b"") + b" ".join(sorted(own)) + b"\n"

    with Containerd(our_stack.address) as containerd:
        threads = [threading.Thread(target=run, args=(n, containerd.another())) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert found == {
        number: b"".join(b"ONLY_%d=%d OWN=%d\n" % (number, turn, number) for turn in range(5))
        for number in range(8)
    }


def test_i18_i20_bad_layers_leave_nothing_open_and_stand_in_nobodys_way(our_stack, fake):
    good, diff_id = images.layer(images.busybox_entries())
    bad = {
        "no tar": b"x" * 5000,
        "cut": good[: len(good) // 2],
        "flipped": good[:2000] + bytes([good[2000] ^ 1]) + good[2001:],
        "another diff id": images.layer([("other", "file", b"x", 0o644)])[0],
    }
    name = add_image(fake, "good", good, diff_id)

    def pull(reference: str) -> int:
        done = our_stack.pyctr("-n", "bad", "image", "pull", reference, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode

    def round_of_bad_ones(number: int) -> None:
        for kind, data in bad.items():
            layer = data + bytes([number]) * (kind == "no tar")
            assert pull(add_image(fake, f"bad{number}", layer, diff_id)) == 1

    round_of_bad_ones(0)
    before = usage(our_stack)
    for number in range(1, 6):
        round_of_bad_ones(number)
    assert pull(name) == 0
    after = usage(our_stack)
    assert after[0] <= before[0] + 3
    assert after[1] <= before[1] + 4
    our_stack.ctr("-n", "bad", "image", "rm", "--sync", name)
    assert our_stack.ctr("-n", "bad", "snapshot", "ls").stdout.count("\n") == 1
    assert our_stack.ctr("-n", "bad", "image", "ls", "-q").stdout == ""


@pytest.mark.parametrize(
    "kind",
    ["layer.v1.tar+encrypted", "layer.v1.tar+gzip+encrypted", "layer.v1.erofs", "layer.nondistributable.v9"],
)
def test_i21_i22_a_layer_of_a_kind_that_is_not_unpacked_is_refused(our_stack, fake, kind):
    data, diff_id = images.layer(images.busybox_entries())
    name = add_image(fake, "kind", data, diff_id, kind=kind)
    done = our_stack.pyctr("-n", "kinds", "image", "pull", name, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert kind in done.stderr
    assert our_stack.ctr("-n", "kinds", "snapshot", "ls").stdout.count("\n") == 1


def bound_sockets(pids: list[int]) -> list[str]:
    """Names of the unix sockets that processes have open. Man: proc_net(5)"""
    links = [os.readlink(link) for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return [row[7] for row in rows if len(row) > 7 and row[6] in inodes]


def test_s01_no_socket_is_abstract_and_a_shims_is_its_users_alone(our_stack, busybox):
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    our_stack.ctr("run", "-d", busybox, "s01", "sleep", "100")
    try:
        keepers = [*our_stack.shims()]
        attendants = [pid for pid in map(shims.attendant_of, keepers) if pid]
        sockets = bound_sockets([our_stack.pid(), *keepers, *attendants])
        assert [name for name in sockets if name.startswith("@")] == []
        bundle = Path(f"{our_stack.root}/s/io.containerd.runtime.v2.task/default/s01")
        path = Path(json.loads((bundle / "bootstrap.json").read_text())["address"].removeprefix("unix://"))
        assert str(path) in sockets
        assert len(str(path)) <= 104
        # The folder is shared with the stock shims, one of which may have made it.
        for each in (path, path.parent):
            assert (stat.S_IMODE(each.stat().st_mode) & 0o077, each.stat().st_uid) == (0, 0), each
    finally:
        our_stack.ctr("task", "rm", "-f", "s01")
        our_stack.ctr("container", "rm", "s01")


VERSION_HEADERS = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/containerd.services.version.v1.Version/Version"),
    (":authority", "x"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


def opened(stack: Stack) -> tuple[socket.socket, h2.connection.H2Connection]:
    """An HTTP/2 connection to the daemon."""
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(10)
    peer.connect(stack.address)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    peer.sendall(connection.data_to_send())
    return peer, connection


def require_alive(stack: Stack, before: tuple[int, int, int]) -> None:
    assert stack.ctr("version").returncode == 0
    deadline = time.monotonic() + 20
    while usage(stack)[0] > before[0] + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    after = usage(stack)
    assert after[0] <= before[0] + 1
    assert after[2] - before[2] < 64 << 10


def test_s06_calls_that_are_reset_at_once_cost_nothing_that_stays(our_stack):
    before = usage(our_stack)
    peer, connection = opened(our_stack)
    try:
        for _ in range(200):
            for _ in range(50):
                stream = connection.get_next_available_stream_id()
                connection.send_headers(stream, VERSION_HEADERS)
                connection.reset_stream(stream)
            peer.sendall(connection.data_to_send())
            peer.setblocking(False)
            try:
                while peer.recv(1 << 16):
                    pass
            except BlockingIOError:
                pass
            peer.settimeout(10)
    except (BrokenPipeError, ConnectionResetError):
        pass  # hung up on: as good an answer
    finally:
        peer.close()
    require_alive(our_stack, before)


@pytest.mark.parametrize(
    "flood", ["continuations", "a header list over the limit", "a window of 2 GiB", "pings", "no preface"]
)
def test_s06_floods_end_their_connection_at_most(our_stack, flood):
    before = usage(our_stack)
    peer, _ = opened(our_stack)

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    sent = {
        "continuations": [frame(1, 0, 1, b"\x82")] + [frame(9, 0, 1, b"\x40\x01a\x01b" * 20)] * 20_000,
        "a header list over the limit": [frame(1, 0, 1, b"")]
        + [frame(9, 0, 1, b"\x00\x01a\x7f\x80\x7d" + b"x" * 16_127)] * 200,
        "a window of 2 GiB": [frame(8, 0, 0, (0x7FFFFFFF).to_bytes(4, "big"))] * 3,
        "pings": [frame(6, 0, 0, bytes(8))] * 50_000,
        "no preface": [os.urandom(1 << 16)] * 16,
    }[flood]
    try:
        for at in range(0, len(sent), 500):
            peer.sendall(b"".join(sent[at : at + 500]))
            peer.setblocking(False)
            try:
                while peer.recv(1 << 16):
                    pass
            except BlockingIOError:
                pass
            peer.settimeout(10)
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        peer.close()
    require_alive(our_stack, before)


@pytest.mark.parametrize(
    "id", ["../x", "a/../../b", "a/b", "", ".", "..", "a\nb", "a" * 77, "-a", "a-", "ä", "a b", "a%2fb"]
)
def test_s09_an_id_that_could_be_a_path_is_none(our_stack, busybox, id):
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    for namespace, container in (("default", id), (id, "c1")):
        if namespace == "":
            continue  # the client's own default
        with (
            Containerd(our_stack.address, namespace) as containerd,
            pytest.raises((ContainerdError, ValueError)),
        ):
            containerd.containers.create(busybox, ["true"], id=container or "..")
    for folder in ("r", "s"):
        found = [
            path for path in Path(our_stack.root, folder).rglob("*") if path.name in ("x", "b", "..", "c1")
        ]
        assert found == []
