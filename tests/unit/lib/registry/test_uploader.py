"""Pushing to registries that behave, break off, refuse, lie, or send us elsewhere."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from pycontainerd.lib import digest as digests
from pycontainerd.lib.errdefs import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from pycontainerd.lib.oci import image as oci
from pycontainerd.lib.registry.hosts import Options
from pycontainerd.lib.registry.uploader import EXISTED, MOUNTED, UPLOADED, Uploader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fake_registry import Answer, FakeRegistry, Request

DATA = bytes(range(256)) * 4000
BLOB = oci.Descriptor(oci.LAYER, digests.of(DATA), len(DATA))
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
DOCUMENT = b'{"schemaVersion":2}'
MANIFEST = oci.Descriptor(oci.MANIFEST, digests.of(DOCUMENT), len(DOCUMENT))


def uploader(fake: FakeRegistry, ref: str = "a/b:v1", **options: object) -> Uploader:
    return Uploader(f"{fake.address}/{ref}", Options(**options))  # type: ignore[arg-type]


def source(offset: int) -> Iterator[bytes]:
    for at in range(offset, len(DATA), 100_000):
        yield DATA[at : at + 100_000]


def asked(fake: FakeRegistry) -> list[str]:
    return [request.method for request in fake.requests]


def test_a_blob_is_uploaded_once_and_found_the_next_time(fake: FakeRegistry) -> None:
    pusher = uploader(fake)
    assert pusher.put_blob(BLOB, source) == UPLOADED
    assert fake.blobs[BLOB.digest] == DATA
    assert asked(fake) == ["HEAD", "POST", "PUT"]
    assert fake.requests[2].headers["content-length"] == str(len(DATA))
    assert pusher.put_blob(BLOB, source) == EXISTED


def test_a_blob_of_another_repository_is_mounted(fake: FakeRegistry) -> None:
    fake.mountable.add(("c/d", BLOB.digest))
    assert uploader(fake).put_blob(BLOB, source, "c/d") == MOUNTED
    assert asked(fake) == ["HEAD", "POST"]


def test_what_cannot_be_mounted_is_uploaded(fake: FakeRegistry) -> None:
    assert uploader(fake).put_blob(BLOB, source, "c/d") == UPLOADED
    assert fake.blobs[BLOB.digest] == DATA


@pytest.mark.parametrize("cuts", [[100_000], [300_000, 1000], [0]])
def test_a_broken_upload_goes_on_where_it_was(fake: FakeRegistry, cuts: list[int]) -> None:
    fake.cuts = list(cuts)
    assert uploader(fake).put_blob(BLOB, source) == UPLOADED
    assert fake.blobs[BLOB.digest] == DATA
    begun = sum(cuts)
    resumed = [request for request in fake.requests if request.method == "PATCH"]
    assert [request.headers["content-range"] for request in resumed] == (
        [f"{begun}-{len(DATA) - 1}"] if begun else []
    )


def test_an_upload_that_the_registry_forgot_begins_again(fake: FakeRegistry) -> None:
    fake.cuts = [100_000]
    fake.rule = lambda request: (404, {}, b"") if request.method == "GET" else None
    assert uploader(fake).put_blob(BLOB, source) == UPLOADED
    assert fake.blobs[BLOB.digest] == DATA
    assert asked(fake) == ["HEAD", "POST", "GET", "POST", "PUT"]


def test_an_upload_that_always_breaks_fails(fake: FakeRegistry) -> None:
    fake.cuts = [0] * 20
    with pytest.raises(Unavailable):
        uploader(fake).put_blob(BLOB, source)
    assert fake.blobs == {}


def test_a_registry_that_stores_something_else_is_found_out(fake: FakeRegistry) -> None:
    lie = {"Docker-Content-Digest": "sha256:" + "7" * 64}
    fake.rule = lambda request: (201, lie, b"") if request.method == "PUT" else None
    with pytest.raises(DataLoss, match=f"got digest {lie['Docker-Content-Digest']}"):
        uploader(fake).put_blob(BLOB, source)
    with pytest.raises(DataLoss):
        uploader(fake).put_document(MANIFEST, DOCUMENT, "v1")


def test_a_document_goes_under_its_tag_with_its_type(fake: FakeRegistry) -> None:
    pusher = uploader(fake)
    assert pusher.put_document(MANIFEST, DOCUMENT, "v1") == UPLOADED
    assert fake.tags["v1"] == (oci.MANIFEST, DOCUMENT)
    assert pusher.put_document(MANIFEST, DOCUMENT, "v1") == EXISTED


def test_a_tag_of_another_document_is_moved(fake: FakeRegistry) -> None:
    fake.add_document("v1", {"mediaType": oci.MANIFEST})
    assert uploader(fake).put_document(MANIFEST, DOCUMENT, "v1") == UPLOADED
    assert fake.tags["v1"][1] == DOCUMENT


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, FailedPrecondition, "unexpected status: 400 Bad Request"),
        (403, PermissionDenied, "push access denied"),
        (404, FailedPrecondition, "unexpected status: 404 Not Found"),
        (413, FailedPrecondition, "unexpected status: 413"),
        (507, Unavailable, "unexpected status: 507 Insufficient Storage"),
    ],
)
def test_a_refusal_is_typed(fake: FakeRegistry, status: int, kind: type[Exception], words: str) -> None:
    said = b'{"errors":[{"code":"DENIED","message":"quota\\nexceeded"}]}'
    fake.rule = lambda request: (status, {}, said) if request.method == "POST" else None
    with pytest.raises(kind, match=words) as caught:
        uploader(fake).put_blob(BLOB, source)
    if kind is FailedPrecondition:
        assert caught.value.hint == "DENIED: quota exceeded"  # type: ignore[attr-defined]


def test_a_long_retry_after_is_told_and_not_waited_for(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (429, {"Retry-After": "3600"}, b"")
    with pytest.raises(ResourceExhausted, match="retry after 3600 s"):
        uploader(fake).put_blob(BLOB, source)
    assert asked(fake) == ["HEAD"]


def _tokens(fake: FakeRegistry, *, denied: str = "") -> None:
    def rule(request: Request) -> Answer | None:
        if request.path.startswith("/token"):
            if denied and denied in request.path:
                return 403, {}, b""
            return 200, {}, b'{"token":"T","expires_in":300}'
        if request.headers.get("authorization") == "Bearer T":
            return None
        # The registry asks for less than a push needs, as for a HEAD it does.
        wanted = f'Bearer realm="http://{fake.address}/token",service="s",scope="repository:a/b:pull"'
        return 401, {"WWW-Authenticate": wanted}, b""

    fake.rule = rule


def test_the_token_is_asked_for_pushing(fake: FakeRegistry) -> None:
    _tokens(fake)
    assert uploader(fake).put_blob(BLOB, source) == UPLOADED
    tokens = [request.path for request in fake.requests if request.path.startswith("/token")]
    assert tokens == ["/token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush"]


def test_a_mount_asks_for_reading_the_other_repository(fake: FakeRegistry) -> None:
    _tokens(fake)
    fake.mountable.add(("c/d", BLOB.digest))
    assert uploader(fake).put_blob(BLOB, source, "c/d") == MOUNTED
    last = [request.path for request in fake.requests if request.path.startswith("/token")][-1]
    assert "scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%2Fd%3Apull" in last


def test_a_denied_mount_is_no_reason_not_to_push(fake: FakeRegistry) -> None:
    _tokens(fake, denied="c%2Fd")
    assert uploader(fake).put_blob(BLOB, source, "c/d") == UPLOADED
    assert fake.blobs[BLOB.digest] == DATA


@pytest.mark.parametrize(
    ("method", "status", "query"), [("POST", 202, ""), ("PUT", 307, f"?digest={BLOB.digest}")]
)
def test_i07_an_upload_elsewhere_gets_no_credentials(
    fake: FakeRegistry, other: FakeRegistry, method: str, status: int, query: str
) -> None:
    def rule(request: Request) -> Answer | None:
        if request.headers.get("authorization") != BASIC:
            return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
        if request.method == method:
            return status, {"Location": f"http://{other.address}/blobs/uploads/u9{query}"}, b""
        return None

    fake.rule = rule
    other.uploads["u9"] = bytearray()
    assert uploader(fake, username="me", secret="secret").put_blob(BLOB, source) == UPLOADED
    assert other.blobs[BLOB.digest] == DATA
    assert [request for request in other.requests if "authorization" in request.headers] == []


def test_an_upload_to_another_kind_of_url_is_refused(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (
        (202, {"Location": "file:///etc/x"}, b"") if request.method == "POST" else None
    )
    with pytest.raises(InvalidArgument, match="refused"):
        uploader(fake).put_blob(BLOB, source)


def test_without_credentials_the_error_says_so(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    with pytest.raises(Unauthenticated, match="no basic auth credentials"):
        uploader(fake).put_blob(BLOB, source)


def test_hosts_that_may_not_be_pushed_to_are_left_out(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    folder = tmp_path / "example.test"
    folder.mkdir()
    mirror = f'[host."http://{other.address}"]\ncapabilities = ["pull", "resolve"]\n'
    (folder / "hosts.toml").write_text(f'server = "http://{fake.address}"\n{mirror}')
    pusher = Uploader("example.test/a/b:v1", Options(hosts_dir=str(tmp_path)))
    assert pusher.put_blob(BLOB, source) == UPLOADED
    assert other.requests == []
    assert fake.requests[1].path == "/v2/a/b/blobs/uploads/?ns=example.test"


def test_no_host_to_push_to(tmp_path: Path) -> None:
    folder = tmp_path / "example.test"
    folder.mkdir()
    (folder / "hosts.toml").write_text('server = "http://x"\ncapabilities = ["pull"]\n')
    with pytest.raises(FailedPrecondition, match="no push hosts"):
        Uploader("example.test/a/b:v1", Options(hosts_dir=str(tmp_path)))
