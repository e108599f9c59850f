"""Which proxy is meant for which host: the documented rules of Go's httpproxy package."""

import pytest

from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented
from pycontainerd.lib.registry.hosts import Host
from pycontainerd.lib.registry.http import Connection
from pycontainerd.lib.registry.proxies import proxy_for

PROXY = "http://proxy.test:3128"


def is_proxied(address: str, no_proxy: str, scheme: str = "https") -> bool:
    environment = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}
    return proxy_for(scheme, address, environment) is not None


@pytest.mark.parametrize(
    ("no_proxy", "address", "expected"),
    [
        ("", "registry.test", True),
        ("*", "registry.test", False),
        ("other.test, *", "registry.test", False),
        ("registry.test", "registry.test", False),
        ("registry.test", "registry.test:5000", False),
        ("REGISTRY.test", "Registry.TEST", False),
        ("registry.test", "a.registry.test", False),
        ("registry.test", "aregistry.test", True),
        (".registry.test", "registry.test", True),
        (".registry.test", "a.registry.test", False),
        ("*.registry.test", "a.b.registry.test", False),
        ("*.registry.test", "registry.test", True),
        ("registry.test:5000", "registry.test:5000", False),
        ("registry.test:5000", "registry.test:5001", True),
        ("registry.test:443", "registry.test", False),
        ("10.1.2.3", "10.1.2.3:5000", False),
        ("10.1.2.3:5000", "10.1.2.3:5000", False),
        ("10.1.2.3:5001", "10.1.2.3:5000", True),
        ("10.0.0.0/8", "10.1.2.3:5000", False),
        ("10.0.0.0/8", "11.1.2.3", True),
        ("10.0.0.0/8", "registry.test", True),
        ("fd00::/8", "[fd12::1]:5000", False),
        ("[fd12::1]:5000", "[fd12::1]:5000", False),
        ("fd12::1", "[fd12::1]", False),
        ("10.0.0.0/99, :5000, ,other.test", "registry.test:5000", True),
        ("", "localhost", False),
        ("", "localhost:5000", False),
        ("", "127.0.0.1:5000", False),
        ("", "127.9.9.9", False),
        ("", "[::1]:5000", False),
        ("", "localhost.test", True),
    ],
)  # fmt: skip
def test_what_is_asked_directly(no_proxy: str, address: str, expected: bool) -> None:
    assert is_proxied(address, no_proxy) is expected
    assert is_proxied(address, no_proxy, "http") is (expected or no_proxy == "registry.test:443")


@pytest.mark.parametrize(
    ("value", "url", "login"),
    [
        ("http://proxy.test:3128", "http://proxy.test:3128", ""),
        ("proxy.test:3128", "http://proxy.test:3128", ""),
        ("proxy.test", "http://proxy.test:80", ""),
        ("https://proxy.test", "https://proxy.test:443", ""),
        ("http://me:p%40ss@proxy.test/", "http://proxy.test:80", "me:p@ss"),
        ("http://[fd00::1]:8080", "http://[fd00::1]:8080", ""),
    ],
)
def test_an_address(value: str, url: str, login: str) -> None:
    proxy = proxy_for("https", "registry.test", {"HTTPS_PROXY": value})
    assert proxy is not None
    assert (proxy.url, proxy.login) == (url, login)


def test_the_scheme_of_the_request_chooses_and_capitals_come_first() -> None:
    environment = {"HTTP_PROXY": "one.test", "http_proxy": "two.test", "https_proxy": "three.test"}
    found = [proxy_for(scheme, "registry.test", environment) for scheme in ("http", "https")]
    assert [proxy.address for proxy in found if proxy] == ["one.test:80", "three.test:80"]
    assert proxy_for("https", "registry.test", {"HTTP_PROXY": "one.test"}) is None


@pytest.mark.parametrize(
    "value", ["http://", "http://a b", "http://me:secret@:80", "http://p.test:x", "ftp://p.test"]
)
def test_what_is_no_proxy_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(InvalidArgument, match="HTTP_PROXY") as caught:
        proxy_for("http", "registry.test", {"HTTP_PROXY": value})
    assert "secret" not in str(caught.value)
    assert proxy_for("http", "127.0.0.1:5000", {"HTTP_PROXY": value}) is None


def test_socks_is_said_to_be_missing() -> None:
    with pytest.raises(Unimplemented, match="socks5"):
        proxy_for("https", "registry.test", {"HTTPS_PROXY": "socks5://proxy.test:1080"})


def test_a_web_servers_environment_is_not_believed() -> None:
    environment = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "REQUEST_METHOD": "GET"}
    with pytest.raises(InvalidArgument, match="CGI environment"):
        proxy_for("http", "registry.test", environment)
    assert proxy_for("https", "registry.test", environment) is not None


def test_other_origins_share_the_connections_of_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that sends each blob elsewhere doesn't make a pool for each."""
    monkeypatch.setenv("HTTPS_PROXY", "proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "direct.test")
    connection = Connection(Host("https", "registry.test"))
    found = [connection._other("https", f"{name}.test") for name in ("a", "b", "direct", "x.direct")]
    assert found[0] is found[1]
    assert found[2] is found[3]
    assert found[1] is not found[2]
