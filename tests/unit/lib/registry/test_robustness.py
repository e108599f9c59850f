"""Registries that stall, reset, truncate, lie, limit and redirect; hosts.toml and certificates (A2, A3 of the threats)."""

from __future__ import annotations

import email.utils
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pycontainerd.lib import digest as digests
from pycontainerd.lib.errdefs import (
    Canceled,
    DataLoss,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from pycontainerd.lib.oci import image as oci
from pycontainerd.lib.registry import hosts
from pycontainerd.lib.registry.hosts import Options
from pycontainerd.lib.registry.resolver import Resolver
from support import certificates
from support.fake_registry import Answer, FakeRegistry, Request, fake_registry

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 400
BLOB = oci.Descriptor(oci.LAYER, digests.of(DATA), len(DATA))
MANIFEST = {"mediaType": oci.MANIFEST, "schemaVersion": 2, "config": {}, "layers": []}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.make(tmp_path_factory.mktemp("keys"))


def resolver(fake: FakeRegistry, ref: str = "a/b:v1", **options: object) -> Resolver:
    return Resolver(f"{fake.address}/{ref}", Options(**options))  # type: ignore[arg-type]


def fetched(fake: FakeRegistry, **options: object) -> bytes:
    return b"".join(resolver(fake, **options).fetch(BLOB))


def _ranged(request: Request, size: int) -> tuple[int, dict[str, str]]:
    start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    headers = {"Content-Length": str(size - start), "Content-Range": f"bytes {start}-{size - 1}/{size}"}
    return start, headers


@pytest.mark.parametrize("fault", ["X-Cut", "X-Reset", "X-Stall"])
def test_a_body_that_breaks_off_is_resumed(fake: FakeRegistry, fault: str) -> None:
    faults = iter([{fault: "1"}, {fault: "1"}])

    def rule(request: Request) -> Answer:
        start, headers = _ranged(request, len(DATA))
        broken = next(faults, None)
        part = DATA[start : start + 30_000] if broken else DATA[start:]
        return (206 if start else 200), {**headers, **(broken or {})}, part

    fake.rule = rule
    assert fetched(fake, stall_timeout_s=0.3) == DATA
    assert len(fake.requests) == 3


@pytest.mark.parametrize("fault", ["X-Cut", "X-Reset", "X-Stall"])
def test_a_body_that_always_breaks_off_is_an_error(fake: FakeRegistry, fault: str) -> None:
    fake.rule = lambda request: (200, {"Content-Length": str(len(DATA)), fault: "1"}, DATA[:1000])
    with pytest.raises((Unavailable, DataLoss)):
        fetched(fake, stall_timeout_s=0.1)
    assert len(fake.requests) == 5


def test_a_head_that_never_comes_is_an_error(fake: FakeRegistry) -> None:
    def rule(request: Request) -> None:
        fake.over.wait(30)

    fake.rule = rule
    with pytest.raises(Unavailable, match="failed to do request"):
        resolver(fake, stall_timeout_s=0.1).resolve()


def test_a_document_that_breaks_off_is_an_error(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (200, {"Content-Length": "900", "X-Cut": "1"}, b"{}")
    with pytest.raises(Unavailable, match="connection broke"):
        resolver(fake).resolve()


def test_canceling_breaks_off_what_stalls(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (200, {"Content-Length": str(len(DATA)), "X-Stall": "1"}, DATA[:1000])
    found = resolver(fake)
    threading.Timer(0.3, found.cancel).start()
    with pytest.raises(Canceled):
        b"".join(found.fetch(BLOB))


def test_a_length_that_is_a_lie(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (200, {}, DATA + b"more")
    with pytest.raises(DataLoss, match="longer than"):
        fetched(fake)
    fake.rule = lambda request: (200, {}, DATA[:-1]) if "range" not in request.headers else (200, {}, b"")
    with pytest.raises(DataLoss, match="shorter than"):
        fetched(fake)


def test_a_document_that_is_not_what_was_asked_for(fake: FakeRegistry) -> None:
    wanted = digests.of(b"wanted")
    fake.rule = lambda request: (200, {"Content-Type": oci.MANIFEST, "Transfer": "x"}, b"other") if request.method == "GET" else (200, {"Content-Length": ""}, b"")  # fmt: skip
    with pytest.raises(DataLoss, match=f"for {wanted}"):
        resolver(fake, f"a/b@{wanted}").resolve()


def test_a_document_without_end(fake: FakeRegistry) -> None:
    huge = b"x" * (oci.MAX_DOCUMENT_BYTES + 10)
    fake.rule = lambda request: (200, {"Content-Type": oci.MANIFEST}, huge)
    with pytest.raises(InvalidArgument, match="larger than"):
        resolver(fake).resolve()


@pytest.mark.parametrize("in_words", [False, True])
def test_a_short_retry_after_is_waited_for(fake: FakeRegistry, in_words: bool) -> None:
    fake.add_document("v1", MANIFEST)
    pause = email.utils.formatdate(time.time() + 1.5, usegmt=True) if in_words else "1"
    limits = iter([pause])
    fake.rule = lambda request: next(((429, {"Retry-After": text}, b"") for text in limits), None)
    assert resolver(fake).resolve()
    assert len(fake.requests) == 2


def test_a_long_one_is_told(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (429, {"Retry-After": "7200"}, b"")
    with pytest.raises(ResourceExhausted, match="429 Too Many Requests: retry after 7200 s"):
        resolver(fake).resolve()
    assert len(fake.requests) == 1


def test_a_limit_without_an_end_is_an_error_after_some_tries(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (429, {"Retry-After": "0"}, b"")
    with pytest.raises(ResourceExhausted, match="Too Many Requests"):
        resolver(fake).resolve()
    assert len(fake.requests) == 4


def test_a_mirror_that_limits_is_passed_by(fake: FakeRegistry, other: FakeRegistry, tmp_path: Path) -> None:
    digest, _ = fake.add_document("v1", MANIFEST)
    other.rule = lambda request: (429, {"Retry-After": "7200"}, b"")
    hosts_toml(tmp_path, f'server = "http://{fake.address}"\n[host."http://{other.address}"]\n')
    assert Resolver("example.test/a/b:v1", Options(hosts_dir=str(tmp_path))).resolve().digest == digest


def test_redirects_without_end(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (302, {"Location": "/again"}, b"")
    with pytest.raises(Unavailable, match="more than 10 redirects"):
        resolver(fake).resolve()


@pytest.mark.parametrize("location", ["ftp://x/y", "file:///etc/passwd", "gopher:x"])
def test_a_redirect_to_another_scheme(fake: FakeRegistry, location: str) -> None:
    fake.rule = lambda request: (302, {"Location": location}, b"")
    with pytest.raises(InvalidArgument, match="refused"):
        resolver(fake).resolve()


def test_i07_headers_of_hosts_toml_stay_with_their_host(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    other.add_blob(DATA)
    fake.rule = lambda request: (307, {"Location": f"http://{other.address}/{BLOB.digest}"}, b"")
    header = '[header]\nX-Api-Key = "k"\nAuthorization = "Bearer mine"\n'
    hosts_toml(tmp_path, f'server = "http://{fake.address}"\n{header}')
    found = Resolver("example.test/a/b:v1", Options(hosts_dir=str(tmp_path)))
    assert b"".join(found.fetch(BLOB)) == DATA
    assert fake.requests[0].headers["x-api-key"] == "k"
    assert fake.requests[0].headers["authorization"] == "Bearer mine"
    assert not {"x-api-key", "authorization"} & set(other.requests[0].headers)


def test_i07_another_port_is_another_origin(fake: FakeRegistry, other: FakeRegistry) -> None:
    """127.0.0.1:A and 127.0.0.1:B share a name and nothing else: cookies and tokens of the one are not the other's."""
    other.add_blob(DATA)

    def rule(request: Request) -> Answer:
        if "authorization" not in request.headers:
            return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
        return 307, {"Location": f"http://{other.address}/{BLOB.digest}", "Set-Cookie": "a=b"}, b""

    fake.rule = rule
    assert fetched(fake, username="me", secret="secret") == DATA
    assert "cookie" not in other.requests[0].headers
    assert other.credentials_seen() == []


def hosts_toml(folder: Path, text: str, name: str = "example.test") -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "hosts.toml").write_text(text)


def found_hosts(folder: Path, text: str, name: str = "example.test") -> list[hosts.Host]:
    hosts_toml(folder, text, name)
    return hosts.hosts_for(name, Options(hosts_dir=str(folder)))


def test_every_key_of_hosts_toml(tmp_path: Path) -> None:
    first, second, last = found_hosts(
        tmp_path,
        """
server = "https://own.test"
capabilities = ["pull"]
[host."https://mirror.test"]
capabilities = ["pull", "resolve"]
ca = ["one.pem", "/abs/two.pem"]
client = [["c.cert", "c.key"], "both.pem"]
skip_verify = true
dial_timeout = "1m30s"
[host."https://mirror.test".header]
x-one = "1"
x-two = ["1", "2"]
[host."http://other.test/custom/prefix"]
override_path = true
""",
    )
    assert (first.base, first.capabilities, first.skip_verify) == (
        "https://mirror.test/v2",
        ("pull", "resolve"),
        True,
    )
    folder = f"{tmp_path}/example.test"
    assert first.ca_files == [f"{folder}/one.pem", "/abs/two.pem"]
    assert first.client_certs == [
        (f"{folder}/c.cert", f"{folder}/c.key"),
        (f"{folder}/both.pem", f"{folder}/both.pem"),
    ]
    assert first.headers == {"x-one": "1", "x-two": "1, 2"}
    assert first.dial_timeout_s == 90
    assert (second.base, second.skip_verify) == ("http://other.test/custom/prefix", False)
    assert (last.base, last.capabilities) == ("https://own.test/v2", ("pull",))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("a.test:5000", "a.test_5000_"), ("a.test:5000", "a.test:5000"), ("a.test", "a.test"), ("a.test", "_default"),
     ("[::1]:5000", "[::1]_5000_"), ("[::1]", "[::1]")],
)  # fmt: skip
def test_where_hosts_toml_is_looked_for(tmp_path: Path, name: str, folder: str) -> None:
    hosts_toml(tmp_path, 'server = "http://found.test"\n', folder)
    assert [host.address for host in hosts.hosts_for(name, Options(hosts_dir=str(tmp_path)))] == [
        "found.test"
    ]


def test_a_host_that_may_only_pull_does_not_resolve(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    fake.add_document("v1", MANIFEST)
    other.add_blob(DATA)
    hosts_toml(
        tmp_path,
        f'server = "http://{fake.address}"\n[host."http://{other.address}"]\ncapabilities = ["pull"]\n',
    )
    found = Resolver("example.test/a/b:v1", Options(hosts_dir=str(tmp_path)))
    assert found.resolve()
    assert other.requests == []
    assert b"".join(found.fetch(BLOB)) == DATA
    assert len(other.requests) == 1


def _tls_resolver(tmp_path: Path, address: str, more: str, **options: object) -> Resolver:
    hosts_toml(tmp_path, f'server = "https://{address}"\n{more}')
    return Resolver("example.test/a/b:v1", Options(hosts_dir=str(tmp_path), **options))  # type: ignore[arg-type]


def test_a_private_authority(keys: Path, tmp_path: Path) -> None:
    with fake_registry(certificates.server_context(keys)) as fake:
        fake.add_document("v1", MANIFEST)
        with pytest.raises(Unavailable, match=r"tls: .*certificate verify failed") as caught:
            _tls_resolver(tmp_path, fake.address, "").resolve()
        assert "--tlscacert" in caught.value.hint
        assert fake.requests == []
        assert _tls_resolver(tmp_path, fake.address, f'ca = "{keys}/ca.pem"\n').resolve()
        assert _tls_resolver(tmp_path, fake.address, "", ca_file=f"{keys}/ca.pem").resolve()
        assert _tls_resolver(tmp_path, fake.address, "skip_verify = true\n").resolve()
        assert _tls_resolver(tmp_path, fake.address, "", skip_verify=True).resolve()


def test_client_certificates(keys: Path, tmp_path: Path) -> None:
    (keys / "both.pem").write_text((keys / "client.pem").read_text() + (keys / "client.key").read_text())
    ca = f'ca = "{keys}/ca.pem"\n'
    with fake_registry(certificates.server_context(keys, want_client=True)) as fake:
        fake.add_document("v1", MANIFEST)
        with pytest.raises(Unavailable):
            _tls_resolver(tmp_path, fake.address, ca).resolve()
        assert fake.requests == []
        pair = f'client = [["{keys}/client.pem", "{keys}/client.key"]]\n'
        assert _tls_resolver(tmp_path, fake.address, ca + pair).resolve()
        assert _tls_resolver(tmp_path, fake.address, ca + f'client = "{keys}/both.pem"\n').resolve()
        given = (f"{keys}/client.pem", f"{keys}/client.key")
        assert _tls_resolver(tmp_path, fake.address, ca, client_cert=given).resolve()


def test_dockers_folder_of_certificates(keys: Path, tmp_path: Path) -> None:
    with fake_registry(certificates.server_context(keys, want_client=True)) as fake:
        port = fake.address.rpartition(":")[2]
        fake.add_document("v1", MANIFEST)
        folder = tmp_path / f"127.0.0.1:{port}"
        folder.mkdir()
        for name, source in (
            ("ca.crt", "ca.pem"),
            ("client.cert", "client.pem"),
            ("client.key", "client.key"),
        ):
            (folder / name).write_text((keys / source).read_text())
        # The loopback is spoken to by http unless files say otherwise.
        assert Resolver(f"{fake.address}/a/b:v1", Options(hosts_dir=str(tmp_path))).resolve()


def test_files_of_certificates_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="certificate files"):
        _tls_resolver(tmp_path, "127.0.0.1:1", 'ca = "nosuch.pem"\n')


def test_i07_the_client_certificate_is_for_its_host_alone(keys: Path, tmp_path: Path) -> None:
    """A redirect to a server that asks for one gets none, and isn't trusted by the host's own authority."""
    with (
        fake_registry(certificates.server_context(keys)) as fake,
        fake_registry(certificates.server_context(keys, want_client=True)) as other,
    ):
        fake.rule = lambda request: (307, {"Location": f"https://{other.address}/x"}, b"")
        more = f'ca = "{keys}/ca.pem"\nclient = [["{keys}/client.pem", "{keys}/client.key"]]\n'
        with pytest.raises(Unavailable, match="tls"):
            _tls_resolver(tmp_path, fake.address, more).resolve()
        assert other.requests == []


def test_i07_https_never_falls_back_to_http(keys: Path, tmp_path: Path, other: FakeRegistry) -> None:
    with fake_registry(certificates.server_context(keys)) as fake:
        fake.rule = lambda request: (307, {"Location": f"http://{other.address}/x"}, b"")
        with pytest.raises(InvalidArgument, match="plain http: refused"):
            _tls_resolver(tmp_path, fake.address, f'ca = "{keys}/ca.pem"\n').resolve()
    with pytest.raises(Unavailable, match="HTTP response to HTTPS client"):
        _tls_resolver(tmp_path, other.address, "").resolve()
    assert other.requests == []


def test_nothing_is_found_where_no_host_may_pull(tmp_path: Path) -> None:
    hosts_toml(tmp_path, 'server = "http://127.0.0.1:1"\ncapabilities = ["push"]\n')
    with pytest.raises(NotFound):
        Resolver("example.test/a/b:v1", Options(hosts_dir=str(tmp_path))).resolve()
