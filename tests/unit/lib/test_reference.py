"""References: docker's grammar, short names, and containerd's split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib import reference
from pycontainerd.lib.errdefs import InvalidArgument

D = "sha256:" + "1" * 64


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("a/b:c", "docker.io/a/b:c"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x/y:v", "localhost:5000/x/y:v"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("quay.io/a__b/c-d.e", "quay.io/a__b/c-d.e:latest"),
        (f"busybox@{D}", f"docker.io/library/busybox@{D}"),
        (f"busybox:1@{D}", f"docker.io/library/busybox@{D}"),
    ],
)
def test_short_names_are_completed_as_docker_does(short: str, full: str) -> None:
    assert str(reference.normalize_tagged(short)) == full


@pytest.mark.parametrize(
    "text",
    ["", "Busybox", "a//b", "/a", "a/", "a..b", "a___b", "a:-t", "a:", "a@", "a@sha256:1", "http://a/b", "a b", "../etc",
     "a/../b", "a:" + "t" * 129, "1" * 64, "x" * 300, "é"],
)  # fmt: skip
def test_bad_references_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        reference.normalize_tagged(text)


@pytest.mark.parametrize(
    ("ref", "locator", "obj"),
    [
        ("docker.io/library/busybox:latest", "docker.io/library/busybox", "latest"),
        ("docker.io/library/busybox", "docker.io/library/busybox", ""),
        (f"a:5000/b@{D}", "a:5000/b", f"@{D}"),
        (f"a/b:t@{D}", "a/b", f"t@{D}"),
    ],
)
def test_containerds_split(ref: str, locator: str, obj: str) -> None:
    spec = reference.parse_spec(ref)
    assert (spec.locator, spec.object, str(spec)) == (locator, obj, ref)


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        ("busybox", "object required"),
        ("docker.io/library/busybox", "object required"),
        ("http://a/b:x", "invalid reference"),
        ("/x:y", "hostname required"),
        ("busybox:latest", 'parse "dummy://busybox:latest": invalid port ":latest" after host'),
    ],
)
def test_texts_for_incomplete_references_equal_ctrs(ref: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        reference.require_object(reference.parse_spec(ref))
    assert str(caught.value) == text


@given(st.text(max_size=80))
def test_whatever_parses_prints_back(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except InvalidArgument:
        return
    assert str(parsed) == text
