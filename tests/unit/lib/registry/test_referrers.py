"""What refers to an object of a registry: by the API, by the tag in its place, page by page, and from hosts that lie."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pycontainerd.lib import digest as digests
from pycontainerd.lib.errdefs import InvalidArgument, Unavailable
from pycontainerd.lib.oci import image as oci
from pycontainerd.lib.registry.hosts import Options
from pycontainerd.lib.registry.referrers import Referrers

if TYPE_CHECKING:
    from pathlib import Path

    from support.fake_registry import FakeRegistry, Request

SUBJECT = digests.of(b"subject")
TAG = str(SUBJECT).replace(":", "-")
SIGNATURE, SBOM = "application/vnd.example.signature", "application/vnd.example.sbom"


def descriptor(text: str, kind: str) -> dict[str, Any]:
    return {
        "mediaType": oci.MANIFEST,
        "digest": str(digests.of(text.encode())),
        "size": len(text),
        "artifactType": kind,
        "annotations": {"of": text},
    }


def index(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries}).encode()


def find(fake: FakeRegistry, *kinds: str, **options: Any) -> list[tuple[str, str]]:
    repository = Referrers(f"{fake.address}/a/b:1", Options(**options))
    try:
        return [(one.annotations["of"], one.artifact_type) for one in repository.find(SUBJECT, kinds)]
    finally:
        repository.close()


def paths(fake: FakeRegistry) -> list[str]:
    return [request.path for request in fake.requests]


def answer(**by_path: Any) -> Any:
    """A rule: path -> (status, headers, body)."""

    def rule(request: Request) -> Any:
        return by_path.get(request.path.partition("?")[0].rpartition("/v2/a/b/")[2])

    return rule


def test_the_api_is_asked_with_the_types(fake: FakeRegistry) -> None:
    body = index(descriptor("one", SIGNATURE), descriptor("two", SBOM))
    fake.rule = answer(**{f"referrers/{SUBJECT}": (200, {}, body)})
    assert find(fake) == [("one", SIGNATURE), ("two", SBOM)]
    # A registry that doesn't filter is filtered here.
    assert find(fake, SBOM) == [("two", SBOM)]
    kind = SBOM.replace("/", "%2F")
    assert paths(fake) == [f"/v2/a/b/referrers/{SUBJECT}", f"/v2/a/b/referrers/{SUBJECT}?artifactType={kind}"]
    assert fake.requests[0].headers["accept"] == oci.INDEX


def test_a_registry_without_the_api_is_asked_for_the_tag(fake: FakeRegistry) -> None:
    assert find(fake) == []
    assert paths(fake) == [f"/v2/a/b/referrers/{SUBJECT}", f"/v2/a/b/manifests/{TAG}"]
    fake.tags[TAG] = oci.INDEX, index(descriptor("one", SIGNATURE))
    assert find(fake) == [("one", SIGNATURE)]


def test_pages_follow_each_other(fake: FakeRegistry) -> None:
    def rule(request: Request) -> Any:
        if "last=one" in request.path:
            return 200, {}, index(descriptor("two", SBOM))
        link = f'</v2/a/b/referrers/{SUBJECT}?last=one>; rel="next"'
        return 200, {"Link": link}, index(descriptor("one", SIGNATURE))

    fake.rule = rule
    assert find(fake) == [("one", SIGNATURE), ("two", SBOM)]


def test_pages_without_end_and_pages_elsewhere_are_refused(fake: FakeRegistry) -> None:
    fake.rule = lambda request: (200, {"Link": f'<{request.path}>; rel="next"'}, index())
    with pytest.raises(InvalidArgument, match="sends referrers without end"):
        find(fake)
    fake.rule = lambda _: (200, {"Link": '<http://127.0.0.1:1/v2/x>; rel="next"'}, index())
    with pytest.raises(InvalidArgument, match="leads to another host"):
        find(fake)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"layers": [], "manifests": []}', b'{"manifests": [{}]}']
)
def test_what_is_no_index_is_refused(fake: FakeRegistry, body: bytes) -> None:
    fake.rule = lambda _: (200, {}, body)
    with pytest.raises(InvalidArgument):
        find(fake)


def test_an_index_without_end_is_refused(fake: FakeRegistry) -> None:
    fake.rule = lambda _: (200, {}, index() + b" " * oci.MAX_DOCUMENT_BYTES)
    with pytest.raises(InvalidArgument, match="larger than"):
        find(fake)


def test_a_registry_that_fails_is_an_error_unless_the_tag_is_there(fake: FakeRegistry) -> None:
    fake.rule = answer(**{f"referrers/{SUBJECT}": (501, {}, b"{}")})
    with pytest.raises(Unavailable, match="unexpected status from GET request to"):
        find(fake)
    fake.tags[TAG] = oci.INDEX, index(descriptor("one", SIGNATURE))
    assert find(fake) == [("one", SIGNATURE)]


def test_only_hosts_that_may_are_asked(fake: FakeRegistry, tmp_path: Path) -> None:
    folder = tmp_path / f"{fake.address.replace(':', '_')}_"
    folder.mkdir()
    text = f'server = "http://{fake.address}"\ncapabilities = ["pull", "resolve"]\n'
    (folder / "hosts.toml").write_text(text)
    assert find(fake, hosts_dir=str(tmp_path)) == []
    assert paths(fake) == [f"/v2/a/b/manifests/{TAG}"]
    (folder / "hosts.toml").write_text(text.replace('"resolve"', '"referrers"'))
    assert find(fake, hosts_dir=str(tmp_path)) == []
    assert paths(fake)[1:] == [f"/v2/a/b/referrers/{SUBJECT}", f"/v2/a/b/manifests/{TAG}"]
