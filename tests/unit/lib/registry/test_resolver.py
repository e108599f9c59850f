"""Resolving and fetching from registries that behave, and from ones that don't (I03-I09, hosts.toml, auth)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from pycontainerd.lib import digest as digests
from pycontainerd.lib.errdefs import (
    DataLoss,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from pycontainerd.lib.oci import image as oci
from pycontainerd.lib.registry.hosts import Options
from pycontainerd.lib.registry.resolver import Resolver

if TYPE_CHECKING:
    from pathlib import Path

    from support.fake_registry import Answer, FakeRegistry, Request

BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
MANIFEST = {"mediaType": oci.MANIFEST, "schemaVersion": 2, "config": {}, "layers": []}


def resolver(fake: FakeRegistry, ref: str = "a/b:v1", **options: object) -> Resolver:
    return Resolver(f"{fake.address}/{ref}", Options(**options))  # type: ignore[arg-type]


def blob(fake: FakeRegistry, data: bytes) -> oci.Descriptor:
    return oci.Descriptor(oci.LAYER, digests.parse(fake.add_blob(data)), len(data))


def test_a_tag_resolves_by_head_with_the_accepted_types(fake: FakeRegistry) -> None:
    digest, size = fake.add_document("v1", MANIFEST)
    found = resolver(fake).resolve()
    assert (found.digest, found.size, found.media_type) == (digest, size, oci.MANIFEST)
    assert [(request.method, request.path) for request in fake.requests] == [("HEAD", "/v2/a/b/manifests/v1")]
    assert fake.requests[0].headers["accept"].endswith("*/*")


def test_without_a_digest_header_the_body_is_hashed(fake: FakeRegistry) -> None:
    digest, size = fake.add_document("v1", MANIFEST)
    fake.rule = lambda request: (200, {"Content-Type": oci.MANIFEST}, fake.tags["v1"][1])
    assert resolver(fake).resolve() == oci.Descriptor(oci.MANIFEST, digests.parse(digest), size)


@pytest.mark.parametrize("served", ["sha256:../../etc", "sha256:11", "md5:" + "1" * 32, "x" * 5000])
def test_a_bad_digest_header_is_refused(fake: FakeRegistry, served: str) -> None:
    fake.rule = lambda request: (200, {"Docker-Content-Digest": served}, b"{}")
    with pytest.raises(InvalidArgument):
        resolver(fake).resolve()


def test_a_tag_that_is_not_there_is_not_found(fake: FakeRegistry) -> None:
    with pytest.raises(NotFound, match="not found"):
        resolver(fake).resolve()


def test_a_registry_that_is_down_says_what_ctr_says() -> None:
    with pytest.raises(Unavailable) as caught:
        Resolver("127.0.0.1:1/x/y:z", Options()).resolve()
    assert str(caught.value) == (
        'failed to do request: Head "http://127.0.0.1:1/v2/x/y/manifests/z": dial tcp 127.0.0.1:1: connect: connection refused'
    )
    assert caught.value.hint


def test_a_broken_connection_is_resumed_by_range(fake: FakeRegistry) -> None:
    data = bytes(range(256)) * 1000
    wanted = blob(fake, data)
    cuts = iter([100_000, 200_000])

    def rule(request: Request) -> Answer:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        end = next(cuts, len(data))
        headers = {
            "Content-Length": str(len(data) - start),
            "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}",
        }
        return (206 if start else 200), {**headers, "X-Cut": "1"}, data[start:end]

    fake.rule = rule
    assert b"".join(resolver(fake).fetch(wanted)) == data
    assert [request.headers.get("range") for request in fake.requests] == [
        None,
        "bytes=100000-",
        "bytes=200000-",
    ]


def test_a_whole_body_for_a_range_is_skipped_into(fake: FakeRegistry) -> None:
    wanted = blob(fake, b"0123456789")
    assert b"".join(resolver(fake).fetch(wanted, 4)) == b"456789"


def test_a_range_that_starts_elsewhere_is_refused(fake: FakeRegistry) -> None:
    wanted = blob(fake, b"0123456789")
    fake.rule = lambda request: (206, {"Content-Range": "bytes 0-9/10"}, b"0123456789")
    with pytest.raises(DataLoss):
        list(resolver(fake).fetch(wanted, 4))


@pytest.mark.parametrize("body", [b"0123456789x", b"x" * 100_000])
def test_a_longer_body_than_the_descriptor_says_is_refused(fake: FakeRegistry, body: bytes) -> None:
    wanted = blob(fake, b"0123456789")
    fake.rule = lambda request: (200, {}, body)
    with pytest.raises(DataLoss, match="longer"):
        list(resolver(fake).fetch(wanted))


def test_a_shorter_body_is_refused(fake: FakeRegistry) -> None:
    wanted = blob(fake, b"0123456789")
    fake.rule = lambda request: (200, {}, b"" if "range" in request.headers else b"0123")
    with pytest.raises(DataLoss):
        list(resolver(fake).fetch(wanted))


def test_busy_answers_are_retried(fake: FakeRegistry) -> None:
    fake.add_document("v1", MANIFEST)
    busy = iter([503, 429])
    fake.rule = lambda request: next(((status, {"Retry-After": "0"}, b"") for status in busy), None)
    assert resolver(fake).resolve()
    assert len(fake.requests) == 3


def _bearer(fake: FakeRegistry, realm: str) -> None:
    def rule(request: Request) -> Answer | None:
        if request.path.startswith("/token"):
            if request.method == "POST":
                return 404, {}, b""
            return 200, {}, b'{"token":"T","expires_in":300}'
        if request.headers.get("authorization") == "Bearer T":
            return None
        return (
            401,
            {"WWW-Authenticate": f'Bearer realm="{realm}",service="s",scope="repository:a/b:pull"'},
            b"",
        )

    fake.rule = rule


def test_a_token_is_fetched_and_kept(fake: FakeRegistry) -> None:
    fake.add_document("v1", MANIFEST)
    _bearer(fake, f"http://{fake.address}/token")
    found = resolver(fake)
    found.resolve()
    found.resolve()
    assert [request.method for request in fake.requests] == ["HEAD", "GET", "HEAD", "HEAD"]
    assert "authorization" not in fake.requests[1].headers
    assert "scope=repository%3Aa%2Fb%3Apull" in fake.requests[1].path


def test_credentials_go_by_post_and_then_by_get(fake: FakeRegistry) -> None:
    fake.add_document("v1", MANIFEST)
    _bearer(fake, f"http://{fake.address}/token")
    resolver(fake, username="me", secret="secret").resolve()
    assert [request.method for request in fake.requests] == ["HEAD", "POST", "GET", "HEAD"]
    assert b"grant_type=password" in fake.requests[1].body
    assert fake.requests[2].headers["authorization"] == BASIC


def test_i07_a_foreign_http_realm_gets_nothing(fake: FakeRegistry, other: FakeRegistry) -> None:
    _bearer(fake, f"http://{other.address}/token")
    with pytest.raises(PermissionDenied, match="refused"):
        resolver(fake, username="me", secret="secret").resolve()
    assert other.requests == []


def test_i07_a_redirect_drops_the_credentials(fake: FakeRegistry, other: FakeRegistry) -> None:
    wanted = blob(other, b"data")

    def rule(request: Request) -> Answer:
        if request.headers.get("authorization") != BASIC:
            return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
        return 307, {"Location": f"http://{other.address}/{wanted.digest}"}, b""

    fake.rule = rule
    assert b"".join(resolver(fake, username="me", secret="secret").fetch(wanted)) == b"data"
    assert other.credentials_seen() == []
    assert len(other.requests) == 1


def test_i07_a_descriptors_own_urls_are_never_asked(fake: FakeRegistry, other: FakeRegistry) -> None:
    data = b"data"
    wanted = oci.Descriptor(oci.LAYER_FOREIGN, digests.of(data), 4, urls=(f"http://{other.address}/x",))
    with pytest.raises(NotFound):
        list(resolver(fake, username="me", secret="secret").fetch(wanted))
    assert other.requests == []


def test_basic_without_credentials_says_so(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    with pytest.raises(Unauthenticated, match="no basic auth credentials") as caught:
        resolver(fake).resolve()
    assert "--user" in caught.value.hint


def test_wrong_credentials_end_after_one_try(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    with pytest.raises(Unauthenticated, match="authorization failed"):
        resolver(fake, username="me", secret="wrong").resolve()
    assert len(fake.requests) == 2


def test_dockers_login_is_used(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.add_document("v1", MANIFEST)
    auth = base64.b64encode(b"me:secret").decode()
    (tmp_path / "config.json").write_text(f'{{"auths":{{"{fake.address}":{{"auth":"{auth}"}}}}}}')
    fake.rule = lambda request: (
        None if request.headers.get("authorization") == BASIC else (401, {"WWW-Authenticate": "Basic"}, b"")
    )
    assert resolver(fake).resolve()


def test_hosts_toml_mirrors_come_first_and_fall_back(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    digest, _ = fake.add_document("v1", MANIFEST)
    folder = tmp_path / "example.test"
    folder.mkdir()
    (folder / "hosts.toml").write_text(
        f'server = "http://{fake.address}"\n[host."http://{other.address}"]\ncapabilities = ["pull", "resolve"]\n[host."http://{other.address}".header]\nX-Mine = "1"\n'
    )
    found = Resolver(
        "example.test/a/b:v1", Options(hosts_dir=str(tmp_path), username="me", secret="secret")
    ).resolve()
    assert found.digest == digest
    assert other.requests[0].path == "/v2/a/b/manifests/v1?ns=example.test"
    assert other.requests[0].headers["x-mine"] == "1"
    assert other.credentials_seen() == []


@pytest.mark.parametrize(
    "text",
    [
        "[",
        'server = "ftp://x"',
        '[host."http://a"]\ncapabilities = ["fly"]',
        "host = 3",
        '[host."http://a"]\ndial_timeout = "x"',
    ],
)
def test_a_bad_hosts_toml_is_invalid(tmp_path: Path, text: str) -> None:
    (tmp_path / "_default").mkdir()
    (tmp_path / "_default" / "hosts.toml").write_text(text)
    with pytest.raises(InvalidArgument):
        Resolver("example.test/a/b:v1", Options(hosts_dir=str(tmp_path)))
