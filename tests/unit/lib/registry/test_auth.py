"""Challenges of WWW-Authenticate, and which host speaks which scheme."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib.registry import auth, hosts, http


def test_challenges() -> None:
    header = 'Bearer realm="https://a/t?x=1,2",service="s \\"q\\"",scope=plain, Basic realm="b"'
    first, second = auth.parse_challenges(header)
    assert (first.scheme, second.scheme) == ("bearer", "basic")
    assert first.parameters == {"realm": "https://a/t?x=1,2", "service": 's "q"', "scope": "plain"}


@given(st.text(max_size=60))
def test_no_header_breaks_the_parser(header: str) -> None:
    auth.parse_challenges(header)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("quay.io", "https://quay.io/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("localhost.evil.com", "https://localhost.evil.com/v2"),
    ],
)
def test_schemes(name: str, base: str) -> None:
    assert [host.base for host in hosts.hosts_for(name, hosts.Options())] == [base]


def test_plain_http_is_only_by_request() -> None:
    assert hosts.hosts_for("quay.io", hosts.Options(plain_http=True))[0].base == "http://quay.io/v2"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A:443/x", ("https", "a")),
        ("http://u:p@b:80?x", ("http", "b")),
        ("https://c:5000/", ("https", "c:5000")),
    ],
)
def test_origins(url: str, origin: tuple[str, str]) -> None:
    assert http.origin(url) == origin
