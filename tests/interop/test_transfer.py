"""The transfer and streaming services, byte by byte as containerd 2's client speaks them (Debian 13's peers have them, too).

What a transfer leaves behind is looked at with Debian's ctr, and what is pushed or exported by skopeo and by the real daemon.
"""

from __future__ import annotations

import io
import json
import queue
import socket
import subprocess
import tarfile  # noqa: TID251 - reads archives; nothing is extracted
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import (
    images_v1,
    leases_v1,
    snapshots_v1,
    streaming_v1,
    transfer_types,
    transfer_v1,
    types,
    wkt,
)
from support import images
from support.daemons import Daemon, call
from support.programs import peer, peer_environment

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

T = transfer_v1.TRANSFER
LINUX = types.Platform(os="linux", architecture="amd64")


@pytest.fixture(scope="module")
def daemon():
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with Daemon(folder / "d", real=False) as daemon:
        yield daemon.start()
    remove_tree(str(folder))


@pytest.fixture
def channel(daemon):
    with daemon.channel() as channel:
        yield channel


def packed(message) -> wkt.Any:
    return wkt.Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


class ClientStream:
    """A stream as containerd's client opens it."""

    def __init__(self, channel: grpc.Channel, name: str, namespace: str = "default") -> None:
        self._outgoing: queue.Queue[wkt.Any | None] = queue.Queue()
        self.send(streaming_v1.StreamInit(id=name))
        stub = channel.stream_stream(
            "/containerd.services.streaming.v1.Streaming/Stream",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=wkt.Any.FromString,
        )
        self._incoming = stub(
            iter(self._outgoing.get, None), metadata=[("containerd-namespace", namespace)], timeout=60
        )
        assert next(self._incoming).type_url == "google.protobuf.Empty"

    def send(self, message) -> None:
        self._outgoing.put(packed(message))

    def end(self) -> None:
        self._outgoing.put(None)

    def cancel(self) -> None:
        self._incoming.cancel()

    def __iter__(self):
        return self

    def __next__(self) -> wkt.Any:
        return next(self._incoming)

    def all(self, kind) -> list:
        """Messages until the server ends the stream."""
        found = []
        for message in self._incoming:
            assert message.type_url == kind.DESCRIPTOR.full_name
            found.append(kind.FromString(message.value))
        self.end()
        return found


@contextmanager
def progress(channel, name: str):
    """What a transfer reports, complete once the block is left."""
    stream, found = ClientStream(channel, name), []
    thread = threading.Thread(target=lambda: found.extend(stream.all(transfer_types.Progress)))
    thread.start()
    yield found
    thread.join(30)
    assert not thread.is_alive()


def transfer(channel, source, destination, progress_stream: str = "", **keywords) -> tuple[str, str]:
    request = transfer_v1.TransferRequest(
        source=packed(source),
        destination=packed(destination),
        options=transfer_v1.TransferOptions(progress_stream=progress_stream),
    )
    code, text, _ = call(channel, T, "Transfer", request, **keywords)
    return code, text


def registry_of(name: str, **resolver) -> transfer_types.OCIRegistry:
    return transfer_types.OCIRegistry(
        reference=name, resolver=transfer_types.RegistryResolver(**resolver) if resolver else None
    )


def store(name: str = "", **fields) -> transfer_types.ImageStore:
    return transfer_types.ImageStore(name=name, **fields)


def pull(channel, busybox: str, name: str, **fields) -> tuple[str, str]:
    return transfer(channel, registry_of(busybox), store(name, platforms=[LINUX], **fields))


def snapshot_count(channel) -> int:
    request = snapshots_v1.ListSnapshotsRequest(snapshotter="overlayfs")
    pages = call(channel, snapshots_v1.SNAPSHOTS, "List", request)[2]
    return sum(len(page.info) for page in pages)


def test_pull_stores_unpacks_and_reports(daemon, channel, busybox):
    unpack = transfer_types.UnpackConfiguration(platform=LINUX)
    with progress(channel, "p1") as events:
        assert transfer(
            channel,
            registry_of(busybox),
            store("pulled:1", platforms=[LINUX], labels={"a": "b"}, unpacks=[unpack]),
            "p1",
        ) == ("OK", "")
    registry = f"OCI Registry ({busybox})"
    steps = [event.event for event in events if not event.parents]
    assert steps == [
        f"Resolving from {registry}",
        f"Pulling from {registry}",
        "fetching image content",
        "saved",
        f"Completed pull from {registry}",
    ]
    blobs: dict[str, list] = {}
    for event in events:
        if event.parents:
            blobs.setdefault(event.name, []).append(event)
    assert sorted(name.partition("-")[0] for name in blobs) == [
        "config",
        "index",
        "layer",
        "layer",
        "manifest",
    ]
    for name, seen in blobs.items():
        assert seen[-1].event == "complete"
        assert seen[-1].progress == seen[-1].total == seen[-1].desc.size
        parent = {"index": busybox, "manifest": "index-", "config": "manifest-", "layer": "manifest-"}
        assert seen[-1].parents[0].startswith(parent[name.partition("-")[0]])
    shown = daemon.ctr("images", "ls", "name==pulled:1").stdout.decode()
    assert "a=b" in shown
    assert daemon.ctr("images", "check", "name==pulled:1").stdout.decode().split()[-1] == "true"
    assert snapshot_count(channel) == 2
    assert call(channel, leases_v1.LEASES, "List", leases_v1.ListRequest())[2].leases == []
    daemon.ctr("images", "rm", "--sync", "pulled:1")
    assert snapshot_count(channel) == 0


def test_pull_without_unpacking_and_with_further_names(daemon, channel, busybox):
    references = [
        transfer_types.ImageReference(name="more:1"),
        transfer_types.ImageReference(name="by", add_digest=True),
    ]
    assert pull(channel, busybox, "plain:1", extra_references=references) == ("OK", "")
    listed = daemon.ctr("images", "ls", "-q").stdout.decode().split()
    assert sorted(listed)[1:] == ["more:1", "plain:1"]
    assert min(listed).startswith("by@sha256:")
    assert snapshot_count(channel) == 0
    daemon.ctr("images", "rm", "--sync", *listed)


def test_tag(daemon, channel, busybox):
    assert pull(channel, busybox, "first:1") == ("OK", "")
    assert transfer(channel, store("first:1"), store("second:1", labels={"x": "y"})) == ("OK", "")
    first, second = daemon.ctr("images", "ls").stdout.decode().splitlines()[1:]
    assert first.split()[2] == second.split()[2]
    assert "x=y" in second
    code, text = transfer(channel, store("none:1"), store("second:1"))
    assert (code, text) == ("NOT_FOUND", 'image "none:1": not found')
    code, text = transfer(channel, store("first:1"), store())
    assert (code, text) == ("NOT_FOUND", "no image name found: not found")
    daemon.ctr("images", "rm", "--sync", "first:1", "second:1")


def test_push(daemon, channel, busybox, tmp_path):
    all_platforms = store("whole:1")
    assert transfer(channel, registry_of(busybox), all_platforms) == ("OK", "")
    with images.registry(tmp_path) as host, progress(channel, "p2") as events:
        name = f"{host}/pushed:1"
        assert transfer(channel, all_platforms, registry_of(name), "p2") == ("OK", "")
        argv = [peer("skopeo"), "--insecure-policy", "inspect", "--tls-verify=false", "--raw"]
        documents = [
            subprocess.run(
                [*argv, f"docker://{one}"], env=peer_environment(), check=True, capture_output=True
            ).stdout
            for one in (name, busybox)
        ]
    assert documents[0] == documents[1]
    assert events[0].event == f"Pushing to OCI Registry ({name})"
    assert events[-1].event == f"Completed push to OCI Registry ({name})"
    assert {event.event for event in events if event.name.startswith("layer-")} >= {"complete"}
    daemon.ctr("images", "rm", "--sync", "whole:1")


def receive(channel, stream: ClientStream) -> bytes:
    """The bytes of an export, by the window that containerd's client keeps."""
    del channel
    window, data = 0, bytearray()
    stream.send(transfer_types.WindowUpdate(update=64 << 10))
    for message in stream:
        chunk = transfer_types.Data.FromString(message.value).data
        assert 0 < len(chunk) <= 32 << 10
        data += chunk
        window += len(chunk)
        if window >= 32 << 10:
            stream.send(transfer_types.WindowUpdate(update=window))
            window = 0
    stream.end()
    return bytes(data)


def export(channel, name: str, **fields) -> bytes:
    stream, found = ClientStream(channel, f"export-{name}"), []
    thread = threading.Thread(target=lambda: found.append(receive(channel, stream)))
    thread.start()
    destination = transfer_types.ImageExportStream(stream=f"export-{name}", **fields)
    assert transfer(channel, store(name), destination) == ("OK", "")
    thread.join(30)
    return found[0]


def send(stream: ClientStream, data: bytes) -> None:
    """An archive to import, as far as the server's window allows; then the end."""
    window, rest = 0, memoryview(data)
    while rest:
        if window == 0:
            try:
                message = next(stream, None)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.CANCELLED  # noqa: PT017 - by import_, whose transfer failed
                return
            if message is None:
                return  # the server has seen enough
            window += transfer_types.WindowUpdate.FromString(message.value).update
        size = min(window, len(rest), 32 << 10)
        stream.send(transfer_types.Data(data=bytes(rest[:size])))
        window, rest = window - size, rest[size:]
    stream.end()


def import_(channel, data: bytes, destination, name: str = "import") -> tuple[str, str]:
    stream = ClientStream(channel, name)
    thread = threading.Thread(target=send, args=(stream, data))
    thread.start()
    result = transfer(channel, transfer_types.ImageImportStream(stream=name), destination)
    if result[0] != "OK":
        stream.cancel()
    thread.join(30)
    return result


def test_export_and_import_give_the_same_image(daemon, channel, busybox):
    assert pull(channel, busybox, "docker.io/library/out:1") == ("OK", "")
    data = export(channel, "docker.io/library/out:1", platforms=[LINUX])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {"index.json", "manifest.json", "oci-layout"} <= set(archive.getnames())
    before = call(
        channel, images_v1.IMAGES, "Get", images_v1.GetImageRequest(name="docker.io/library/out:1")
    )[2]
    daemon.ctr("images", "rm", "--sync", "docker.io/library/out:1")
    unpack = transfer_types.UnpackConfiguration(platform=LINUX)
    prefix = transfer_types.ImageReference(name="docker.io/library", is_prefix=True)
    destination = store(platforms=[LINUX], extra_references=[prefix], unpacks=[unpack])
    assert import_(channel, data, destination) == ("OK", "")
    after = call(channel, images_v1.IMAGES, "Get", images_v1.GetImageRequest(name="docker.io/library/out:1"))[
        2
    ]
    assert after.image.target.digest == before.image.target.digest
    assert snapshot_count(channel) == 2
    daemon.ctr("images", "rm", "--sync", "docker.io/library/out:1")


def test_the_real_daemon_imports_what_was_exported(channel, daemon, busybox, real_stack):
    assert pull(channel, busybox, "docker.io/library/out:2") == ("OK", "")
    archive = daemon.folder / "out.tar"
    archive.write_bytes(export(channel, "docker.io/library/out:2", platforms=[LINUX]))
    shown = real_stack.ctr("images", "import", "--no-unpack", str(archive)).stdout
    assert "out:2" in real_stack.ctr("images", "ls", "-q").stdout, shown
    real_stack.ctr("images", "rm", "--sync", "docker.io/library/out:2")
    daemon.ctr("images", "rm", "--sync", "docker.io/library/out:2")


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ({"name": "other/name", "is_prefix": True}, []),
        ({"name": "other/name", "is_prefix": True, "allow_overwrite": True}, ["docker.io/library/n:1"]),
        ({"name": "other/name", "is_prefix": True, "add_digest": True}, ["other/name@"]),
        (
            {"name": "docker.io/library", "is_prefix": True, "add_digest": True},
            ["docker.io/library/n:1", "docker.io/library@"],
        ),
        (
            {
                "name": "docker.io/library",
                "is_prefix": True,
                "add_digest": True,
                "skip_named_digest": True,
            },
            ["docker.io/library/n:1"],
        ),
        ({"name": "index:1"}, ["index:1"]),
    ],
)
def test_names_of_an_import(daemon, channel, busybox, reference, names):
    assert pull(channel, busybox, "docker.io/library/n:1") == ("OK", "")
    data = export(channel, "docker.io/library/n:1", platforms=[LINUX])
    daemon.ctr("images", "rm", "--sync", "docker.io/library/n:1")
    destination = store(platforms=[LINUX], extra_references=[transfer_types.ImageReference(**reference)])
    assert import_(channel, data, destination) == ("OK", "")
    listed = sorted(daemon.ctr("images", "ls", "-q").stdout.decode().split())
    assert [name.partition("@")[0] + ("@" if "@" in name else "") for name in listed] == sorted(names)
    if listed:
        daemon.ctr("images", "rm", "--sync", *listed)


def test_what_is_no_archive_is_refused(channel):
    code, text = import_(channel, b"x" * 100_000, store("bad:1"), "bad")
    assert code == "INVALID_ARGUMENT"
    assert "tar" in text
    assert call(channel, images_v1.IMAGES, "Get", images_v1.GetImageRequest(name="bad:1"))[0] == "NOT_FOUND"


def test_an_import_whose_client_leaves_leaves_nothing(daemon, channel):
    stream = ClientStream(channel, "leaving")
    results = []
    source = transfer_types.ImageImportStream(stream="leaving")
    thread = threading.Thread(target=lambda: results.append(transfer(channel, source, store("gone:1"))))
    thread.start()
    assert next(stream).type_url == "containerd.types.transfer.WindowUpdate"
    stream.cancel()
    thread.join(30)
    assert results[0][0] == "CANCELLED"
    assert call(channel, leases_v1.LEASES, "List", leases_v1.ListRequest())[2].leases == []


def test_a_transfer_that_waits_does_not_keep_the_daemon_from_stopping():
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with Daemon(folder / "d", real=False) as daemon:
        with daemon.start().channel() as channel:
            stream, source = ClientStream(channel, "waits"), transfer_types.ImageImportStream(stream="waits")
            thread = threading.Thread(target=transfer, args=(channel, source, store("never:1")))
            thread.start()
            assert next(stream).type_url == "containerd.types.transfer.WindowUpdate"
            assert daemon.stop() == 0
            thread.join(30)
        daemon.start()
        assert daemon.ctr("images", "ls", "-q").stdout == b""
    remove_tree(str(folder))


def test_a_registry_that_stalls_does_not_keep_the_daemon_from_stopping():
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with socket.create_server(("127.0.0.1", 0)) as registry, Daemon(folder / "d", real=False) as daemon:
        registry.settimeout(20)
        with daemon.start().channel() as channel:
            source = registry_of(f"127.0.0.1:{registry.getsockname()[1]}/a/b:1")
            thread = threading.Thread(target=transfer, args=(channel, source, store("never:1")))
            thread.start()
            connection, _ = registry.accept()  # and not a word to it
            assert daemon.stop() == 0
            thread.join(30)
        connection.close()
    remove_tree(str(folder))


def test_hosts_come_from_the_plugins_settings(busybox):
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    hosts = folder / "certs.d/named.example"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(f'server = "http://{busybox.partition("/")[0]}"\n')
    extra = f'[plugins."io.containerd.transfer.v1.local"]\nconfig_path = "{folder}/certs.d"\n'
    with Daemon(folder / "d", real=False, config_extra=extra) as daemon:
        with daemon.start().channel() as channel:
            source = registry_of("named.example/library/busybox:latest")
            assert transfer(channel, source, store("named:1", platforms=[LINUX])) == ("OK", "")
        assert daemon.ctr("images", "ls", "-q").stdout == b"named:1\n"
    remove_tree(str(folder))


def test_credentials_are_asked_for_over_the_stream(daemon, channel, busybox, tmp_path):
    layout = images.build_layout(tmp_path / "layout")
    with images.private_registry(tmp_path / "registry") as host:
        name = f"{host}/private:1"
        images.push(layout, name, credentials="me:secret")
        code, text = transfer(channel, registry_of(name), store("private:1"))
        assert code == "UNAUTHENTICATED"
        assert text.startswith("failed to resolve image: ")
        stream, asked = ClientStream(channel, "auth"), []

        def answer() -> None:
            for message in stream:
                asked.append(transfer_types.AuthRequest.FromString(message.value))
                stream.send(
                    transfer_types.AuthResponse(
                        authType=transfer_types.AuthType.CREDENTIALS, username="me", secret="secret"
                    )
                )

        thread = threading.Thread(target=answer)
        thread.start()
        source = registry_of(name, auth_stream="auth")
        assert transfer(channel, source, store("private:1", platforms=[LINUX])) == ("OK", "")
        stream.end()
        thread.join(30)
    assert [(one.host, one.reference) for one in asked] == [(host, name)]
    daemon.ctr("images", "rm", "--sync", "private:1")


@pytest.mark.parametrize(
    ("source", "destination", "code", "words"),
    [
        (
            store("a"),
            wkt.Empty(),
            "UNIMPLEMENTED",
            "method Transfer not implemented for containerd.types.transfer.ImageStore to google.protobuf.Empty",
        ),
        (
            registry_of("localhost/a:1"),
            registry_of("localhost/b:1"),
            "UNIMPLEMENTED",
            "method Transfer not implemented for containerd.types.transfer.OCIRegistry to containerd.types.transfer.OCIRegistry",
        ),
        (transfer_types.ImageImportStream(stream="no"), store("a"), "NOT_FOUND", "stream no: not found"),
        (registry_of("bad ref"), store("a"), "INVALID_ARGUMENT", 'invalid character " " in host name'),
        (
            registry_of("localhost/a:1", http_debug=transfer_types.HTTPDebug.TRACE, logs_stream="no"),
            store("a"),
            "NOT_FOUND",
            "stream no: not found",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(channel, source, destination, code, words):
    found, text = transfer(channel, source, destination)
    assert found == code
    assert words in text


def test_what_is_said_to_the_registry_comes_by_a_stream(channel, daemon, busybox):
    logs = ClientStream(channel, "logs")
    logs.send(transfer_types.WindowUpdate(update=1 << 20))
    both = transfer_types.HTTPDebug.BOTH
    source = registry_of(
        busybox, http_debug=both, logs_stream="logs", headers={"Authorization": "Basic c2VjcmV0"}
    )
    assert transfer(channel, source, store(busybox)) == ("OK", "")
    told = b"".join(message.data for message in logs.all(transfer_types.Data)).decode()
    repository = busybox.partition("/")[2].partition(":")[0]
    assert f"HEAD /v2/{repository}/manifests/latest HTTP/1.1\nHost: " in told
    assert "HTTP/1.1 200 OK\n" in told
    assert "Authorization: (hidden)\n" in told
    assert "c2VjcmV0" not in told + daemon.log()
    assert 'msg="Connection successful"' in daemon.log()


def test_who_stops_listening_doesnt_stop_the_transfer(channel, busybox):
    logs = ClientStream(channel, "deaf")
    logs.send(transfer_types.WindowUpdate(update=1))
    logs.end()
    source = registry_of(busybox, http_debug=transfer_types.HTTPDebug.DEBUG, logs_stream="deaf")
    assert transfer(channel, source, store(busybox)) == ("OK", "")


def test_without_a_stream_it_is_in_the_daemons_log(channel, daemon, busybox):
    source = registry_of(busybox, http_debug=transfer_types.HTTPDebug.DEBUG)
    assert transfer(channel, source, store(busybox)) == ("OK", "")
    assert "/manifests/latest HTTP/1.1" in daemon.log()


def test_streams_are_found_in_their_namespace_and_taken_once(channel):
    stream = ClientStream(channel, "one")
    with pytest.raises(grpc.RpcError) as caught:
        ClientStream(channel, "one")
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    other = ClientStream(channel, "one", namespace="other")
    other.cancel()
    stream.end()
    stream.cancel()
    code, _, _ = call(channel, streaming_v1.STREAMING, "Stream", [packed(types.Platform())])
    assert code == "INVALID_ARGUMENT"
    assert transfer(channel, store("a"), store("b"), "nobody")[0] == "NOT_FOUND"
    assert transfer(channel, store("a"), store("b"), namespace=None)[0] == "FAILED_PRECONDITION"


def test_plugins_are_listed_as_containerd_lists_them(daemon):
    shown = json.dumps(daemon.ctr("plugins", "ls").stdout.decode())
    for name in ("io.containerd.streaming.v1", "io.containerd.transfer.v1"):
        assert name in shown
